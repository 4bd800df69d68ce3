/*
 * The method "openvpn": one OpenVPN server for all subscribers, told through its management channel
 * whom to let in, so that none disturbs another.  No authority: the subscriber learns the
 * fingerprint of the server's certificate and a password with its lease.
 *
 *   options  {}
 *   answer   {"port": n, "protocol": "udp", "fingerprint": "AA:..", "password": "..", "mtu": n}
 *
 * The user name is the sid.  The server checks that a packet's source is the address that it gave
 * that client ("MULTI: bad source address"), our firewall that the address is leased.
 *
 * Both processes are ended by the close of their management channel, also after a kill of ours, and
 * their interfaces go with them: nothing is journalled.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "base/map.h"
#include "io/child.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/privileges.h"
#include "io/selfsigned.h"
#include "io/timer.h"
#include "io/tun.h"
#include "tunnel/ovpnmgmt.h"
#include "tunnel/tunopt.h"

#define OVPN_MTU_DEFAULT 1420u
#define OVPN_MTU_MIN 1280u /* IPv6 */
#define OVPN_MTU_MAX 65000u
#define OVPN_PORT_DEFAULT 1194
#define OVPN_PASSWORD_TEXT 49 /* 24 bytes in hex */
#define OVPN_STOP_US 1000000u
#define OVPN_RETRY_FIRST_S 1
#define OVPN_RETRY_MAX_S 30
#define OVPN_CONFIG_MAX 8192

/* In PATH of a daemon there may be no sbin. */
static const char *program(void)
{
	static const char *const paths[] = {"/usr/sbin/openvpn", "/usr/local/sbin/openvpn",
					    "/usr/bin/openvpn"};

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

static int ovpn_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	int rc = tun_probe();

	(void)env, (void)end;
	if (!program())
		return tunnel_why(why, -ENOENT, "openvpn is not installed (package openvpn)");
	if (rc)
		tunnel_say(why, "no TUN interface can be made: %s", strerror(-rc));
	return rc;
}

static uint32_t mtu_within(int64_t mtu)
{
	if (mtu <= 0)
		return OVPN_MTU_DEFAULT;
	return mtu < OVPN_MTU_MIN   ? OVPN_MTU_MIN
	       : mtu > OVPN_MTU_MAX ? OVPN_MTU_MAX
				    : (uint32_t)mtu;
}

static bool over_tcp(const struct tunnel_env *env)
{
	return env->cfg && strcmp(env->cfg->openvpn_protocol, "tcp") == 0;
}

/* STATE_DIR/openvpn-NAME.SUFFIX */
static int path_of(char out[PATH_MAX], const struct tunnel_env *env, const char *name,
		   const char *suffix)
{
	int n = snprintf(out, PATH_MAX, "%s/openvpn-%s.%s", env->state_dir, name, suffix);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* OpenVPN with a configuration that is kept where only we may read it. */
static int start_program(struct child **out, const struct tunnel_env *env, const char *name,
			 const char *config, child_exit_cb *on_exit, child_line_cb *on_line,
			 void *arg)
{
	char path[PATH_MAX], file[64];
	const char *argv[] = {program(), "--config", path, NULL};
	struct child_spec spec = {.name = "openvpn",
				  .argv = argv,
				  .privileges = PRIVILEGES_NETWORK,
				  .on_exit = on_exit,
				  .on_line = on_line,
				  .arg = arg};
	int rc = argv[0] ? path_of(path, env, name, "conf") : -ENOENT;

	cstr_print(file, sizeof file, "openvpn-%s", name);
	if (!rc)
		rc = keyfile_put(env->state_dir, file, "conf", config, strlen(config));
	return rc ? rc : child_start(out, env->base, &spec);
}

static void forget_config(const struct tunnel_env *env, const char *name)
{
	char path[PATH_MAX];

	if (path_of(path, env, name, "conf") == 0)
		unlink(path);
}

static void log_line(struct child *c, const char *line, void *arg)
{
	(void)c, (void)arg;
	log_debug("openvpn: %s", line);
}

/* ==== gateway ==== */

struct ovpn_lease {
	LIST_ENTRY(ovpn_lease) link;
	uint8_t key[TUNOPT_SID_KEY];
	struct net_addr ip4, ip6;
	bool there; /* connected, as `cid` */
	uint64_t cid;
	uint64_t up_before, down_before; /* bytes of earlier connections */
	uint64_t up, down;
};

/* Who asks to come in; its environment follows line by line. */
struct ovpn_guest {
	bool asking;
	bool again; /* renews its keys */
	uint64_t cid, kid;
	char sid[SID_MAX + 1], password[OVPN_PASSWORD_TEXT];
};

struct ovpn_gateway {
	struct tunnel_env env;
	struct net_prefix addr4, addr6;
	char interface[IFNAMSIZ];
	uint32_t mtu;
	uint16_t port;
	struct selfsigned cert;
	uint8_t password_key[32];
	struct ovpnmgmt *mgmt;
	struct child *child;
	struct event *retry;
	int retry_s;
	LIST_HEAD(, ovpn_lease) leases;
	struct map by_sid, by_cid;
	struct ovpn_guest guest;
};

static struct ovpn_lease *lease_by_sid(const struct ovpn_gateway *gw, const char *sid)
{
	return tunopt_by_sid(&gw->by_sid, sid);
}

/* The same for a sid each time, also after a restart, and nobody else's. */
static void password_of(const struct ovpn_gateway *gw, const char *sid,
			char out[OVPN_PASSWORD_TEXT])
{
	uint8_t hash[(OVPN_PASSWORD_TEXT - 1) / 2];

	tunopt_sid_secret(gw->password_key, sid, hash, sizeof hash);
	hex_encode(hash, sizeof hash, out);
}

/* ---- who comes and goes ---- */

/* Of a client that is there: another server process has another interface. */
static void lease_routes(const struct ovpn_gateway *gw, const struct ovpn_lease *l, bool add)
{
	struct nl *nl = gw->env.journal ? hostjournal_nl(gw->env.journal) : NULL;
	int index = nl ? nl_link_index(nl, gw->interface) : 0, rc = index;

	if (index > 0)
		rc = tunopt_lease_routes(nl, (uint32_t)index, &l->ip4, &l->ip6, add);
	if (add && rc < 0)
		log_error("openvpn: no route to a subscriber: %s", strerror(-rc));
}

static void lease_gone(struct ovpn_gateway *gw, struct ovpn_lease *l)
{
	if (!l->there)
		return;
	lease_routes(gw, l, false);
	map_del(&gw->by_cid, &l->cid);
	l->there = false;
	l->up_before += l->up;
	l->down_before += l->down;
	l->up = l->down = 0;
}

static void guest_refuse(struct ovpn_gateway *gw, const char *why)
{
	log_debug("openvpn: client %" PRIu64 " is refused: %s", gw->guest.cid, why);
	ovpnmgmt_send(gw->mgmt, "client-deny %" PRIu64 " %" PRIu64 " \"%s\" \"%s\"\n",
		      gw->guest.cid, gw->guest.kid, why, why);
}

static void netmask_text(uint8_t bits, char out[NET_ADDR_TEXT])
{
	uint32_t mask = bits ? UINT32_MAX << (32 - bits) : 0;

	cstr_print(out, NET_ADDR_TEXT, "%u.%u.%u.%u", mask >> 24, mask >> 16 & 255, mask >> 8 & 255,
		   mask & 255);
}

static void guest_admit(struct ovpn_gateway *gw, struct ovpn_lease *l)
{
	char ip[NET_ADDR_TEXT], own[NET_ADDR_TEXT], mask[NET_ADDR_TEXT];

	lease_gone(gw, l); /* a second connection takes the place of the first */
	if (map_put(&gw->by_cid, &gw->guest.cid, l)) {
		guest_refuse(gw, "no room");
		return;
	}
	l->cid = gw->guest.cid;
	l->there = true;
	lease_routes(gw, l, true);
	ovpnmgmt_send(gw->mgmt, "client-auth %" PRIu64 " %" PRIu64 "\n", gw->guest.cid,
		      gw->guest.kid);
	if (l->ip4.family) {
		netmask_text(gw->addr4.bits, mask);
		ovpnmgmt_send(gw->mgmt, "ifconfig-push %s %s\n", net_addr_ip_text(&l->ip4, ip),
			      mask);
	}
	if (l->ip6.family)
		ovpnmgmt_send(gw->mgmt, "ifconfig-ipv6-push %s/%u %s\n",
			      net_addr_ip_text(&l->ip6, ip), gw->addr6.bits,
			      net_addr_ip_text(&gw->addr6.addr, own));
	ovpnmgmt_send(gw->mgmt, "END\n");
}

static void guest_decide(struct ovpn_gateway *gw)
{
	struct ovpn_lease *l = lease_by_sid(gw, gw->guest.sid);
	char password[OVPN_PASSWORD_TEXT];
	bool right;

	password_of(gw, gw->guest.sid, password);
	right = sodium_memcmp(password, gw->guest.password, sizeof password) == 0;
	if (!l || !right)
		guest_refuse(gw, "no such lease");
	else if (gw->guest.again)
		ovpnmgmt_send(gw->mgmt, "client-auth-nt %" PRIu64 " %" PRIu64 "\n", gw->guest.cid,
			      gw->guest.kid);
	else
		guest_admit(gw, l);
	sodium_memzero(&gw->guest, sizeof gw->guest);
}

static void guest_env(struct ovpn_guest *g, const struct ovpn_event *e)
{
	/* What is too long is cut, and then no lease's. */
	if (strcmp(e->key, "username") == 0)
		cstr_copy(g->sid, sizeof g->sid, e->value);
	else if (strcmp(e->key, "password") == 0 && strlen(e->value) < sizeof g->password) {
		memset(g->password, 0, sizeof g->password);
		memcpy(g->password, e->value, strlen(e->value));
	}
}

static void gateway_line(char *line, void *arg)
{
	struct ovpn_gateway *gw = arg;
	struct ovpn_lease *l;
	struct ovpn_event e;

	ovpn_event_parse(line, &e);
	switch (e.kind) {
	case OVPN_CONNECT:
	case OVPN_REAUTH:
		gw->guest = (struct ovpn_guest){
			.asking = true, .again = e.kind == OVPN_REAUTH, .cid = e.cid, .kid = e.kid};
		break;
	case OVPN_ENV:
		if (gw->guest.asking)
			guest_env(&gw->guest, &e);
		break;
	case OVPN_ENV_END:
		if (gw->guest.asking)
			guest_decide(gw);
		break;
	case OVPN_DISCONNECT:
		l = map_get(&gw->by_cid, &e.cid);
		if (l)
			lease_gone(gw, l);
		break;
	case OVPN_CLIENT_BYTES:
		l = map_get(&gw->by_cid, &e.cid);
		if (l) {
			l->up = e.in;
			l->down = e.out;
		}
		break;
	case OVPN_FATAL:
		log_error("openvpn: %s", e.value);
		break;
	default:
		break;
	}
}

/* ---- the server process ---- */

static void gateway_retry(struct ovpn_gateway *gw)
{
	struct timeval tv = {.tv_sec = gw->retry_s};

	gw->retry_s = gw->retry_s * 2 > OVPN_RETRY_MAX_S ? OVPN_RETRY_MAX_S : gw->retry_s * 2;
	evtimer_add(gw->retry, &tv);
}

static void all_gone(struct ovpn_gateway *gw)
{
	struct ovpn_lease *l;

	LIST_FOREACH(l, &gw->leases, link)
		lease_gone(gw, l);
	gw->guest.asking = false;
}

static void gateway_up(void *arg)
{
	struct ovpn_gateway *gw = arg;

	gw->retry_s = OVPN_RETRY_FIRST_S;
	ovpnmgmt_send(gw->mgmt, "bytecount 2\n");
}

static void gateway_down(void *arg)
{
	all_gone(arg);
}

static void gateway_exit(struct child *c, int status, void *arg)
{
	struct ovpn_gateway *gw = arg;
	char text[48];

	child_free(c);
	gw->child = NULL;
	log_error("openvpn: the server has ended (%s); it is started again in %d s",
		  child_status_text(status, text), gw->retry_s);
	all_gone(gw);
	gateway_retry(gw);
}

/* `n` bytes are in `out`; more is cut, which the caller sees at the end. */
#define ADD(...)                                                                                   \
	n += (size_t)snprintf(out + (n < max ? n : max - 1), n < max ? max - n : 1, __VA_ARGS__)

static size_t gateway_addresses(const struct ovpn_gateway *gw, char *out, size_t max)
{
	char ip[NET_ADDR_TEXT], mask[NET_ADDR_TEXT];
	size_t n = 0;

	if (gw->addr4.addr.family) {
		netmask_text(gw->addr4.bits, mask);
		ADD("ifconfig %s %s\n", net_addr_ip_text(&gw->addr4.addr, ip), mask);
	}
	/* The second address is nobody's: OpenVPN wants one. */
	if (gw->addr6.addr.family)
		ADD("ifconfig-ipv6 %s/%u ::1\n", net_addr_ip_text(&gw->addr6.addr, ip),
		    gw->addr6.bits);
	return n;
}

static int gateway_config(const struct ovpn_gateway *gw, char *out, size_t max)
{
	const char *dir = gw->env.state_dir;
	bool tcp = over_tcp(&gw->env);
	size_t n = 0;

	ADD("mode server\ntls-server\ntopology subnet\ndev %s\ndev-type tun\ndisable-dco\n",
	    gw->interface);
	ADD("port %u\nproto %s\n%s", gw->port, tcp ? "tcp-server" : "udp",
	    tcp ? "" : "multihome\nexplicit-exit-notify 1\n");
	n += gateway_addresses(gw, out + n, max - n);
	ADD("tun-mtu %u\nmax-clients %u\n", gw->mtu, TUNNEL_LEASES_MAX);
	ADD("management \"%s/openvpn-server.sock\" unix\nmanagement-client\n"
	    "management-client-auth\n",
	    dir);
	ADD("verify-client-cert none\nusername-as-common-name\nscript-security 0\n"
	    "dh none\ntls-version-min 1.2\nstale-routes-check 300\n"
	    "data-ciphers AES-256-GCM:CHACHA20-POLY1305\n");
	/* A client that is silent is forgotten; one that hears nothing comes again. */
	ADD("ping 5\nping-restart 60\npush \"ping 5\"\npush \"ping-restart 12\"\n");
	ADD("verb 1\nsuppress-timestamps\n");
	ADD("<ca>\n%s</ca>\n<cert>\n%s</cert>\n<key>\n%s</key>\n", gw->cert.certificate,
	    gw->cert.certificate, gw->cert.key);
	return n < max ? 0 : -ENAMETOOLONG;
}

static int gateway_run(struct ovpn_gateway *gw)
{
	char config[OVPN_CONFIG_MAX];
	int rc = gateway_config(gw, config, sizeof config);

	if (!rc)
		rc = start_program(&gw->child, &gw->env, "server", config, gateway_exit, log_line,
				   gw);
	sodium_memzero(config, sizeof config);
	return rc;
}

static void gateway_retry_due(evutil_socket_t fd, short what, void *arg)
{
	struct ovpn_gateway *gw = arg;

	(void)fd, (void)what;
	if (gateway_run(gw))
		gateway_retry(gw);
}

/* ---- start and stop ---- */

static void gateway_stop(void *arg)
{
	struct ovpn_gateway *gw = arg;
	struct ovpn_lease *l;

	if (!gw)
		return;
	event_drop(gw->retry);
	ovpnmgmt_free(gw->mgmt);
	child_free(gw->child);
	forget_config(&gw->env, "server");
	while ((l = LIST_FIRST(&gw->leases))) {
		LIST_REMOVE(l, link);
		free(l);
	}
	map_free(&gw->by_sid);
	map_free(&gw->by_cid);
	sodium_memzero(gw, sizeof *gw);
	free(gw);
}

/* Certificate and passwords come from one key that is kept. */
static int gateway_keys(struct ovpn_gateway *gw)
{
	static const char certificate[] = "meshnet openvpn certificate";
	static const char password[] = "meshnet openvpn password";
	uint8_t seed[SELFSIGNED_SEED_BYTES];
	struct keypair pair;
	int rc = keyfile_load(gw->env.state_dir, "openvpn", &pair);

	if (rc)
		return rc;
	crypto_generichash(seed, sizeof seed, (const uint8_t *)certificate, sizeof certificate,
			   pair.secret, sizeof pair.secret);
	crypto_generichash(gw->password_key, sizeof gw->password_key, (const uint8_t *)password,
			   sizeof password, pair.secret, sizeof pair.secret);
	rc = selfsigned_make(&gw->cert, seed, "meshnet gateway");
	sodium_memzero(seed, sizeof seed);
	keyfile_wipe(&pair);
	return rc;
}

static int gateway_manage(struct ovpn_gateway *gw, char *why)
{
	static const struct ovpnmgmt_callbacks cb = {
		.up = gateway_up, .line = gateway_line, .down = gateway_down};
	char path[PATH_MAX];
	int rc = path_of(path, &gw->env, "server", "sock");

	if (!rc)
		rc = ovpnmgmt_listen(&gw->mgmt, gw->env.base, path, &cb, gw);
	if (rc)
		tunnel_say(why, "the management socket in the state directory: %s", strerror(-rc));
	return rc;
}

static int gateway_begin(struct ovpn_gateway *gw, char *why)
{
	int rc = gateway_keys(gw);

	if (rc)
		return tunnel_why(why, rc, "the key of the server: %s", strerror(-rc));
	rc = gateway_manage(gw, why);
	if (rc)
		return rc;
	rc = gateway_run(gw);
	if (rc)
		tunnel_say(why, "openvpn cannot be started: %s", strerror(-rc));
	return rc;
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct ovpn_gateway *gw;
	uint64_t seed;
	int rc;

	if (!*config->interface || strchr(config->interface, '%'))
		return tunnel_why(why, -EINVAL, "openvpn.Interface is one name, without %%");
	gw = calloc(1, sizeof *gw);
	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	gw->addr4 = config->addr4;
	gw->addr6 = config->addr6;
	gw->mtu = mtu_within(config->mtu);
	gw->port = (uint16_t)(env->cfg ? env->cfg->openvpn_port : OVPN_PORT_DEFAULT);
	gw->retry_s = OVPN_RETRY_FIRST_S;
	cstr_copy(gw->interface, sizeof gw->interface, config->interface);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_cid, sizeof(uint64_t), TUNNEL_LEASES_MAX, seed);
	gw->retry = timer_new(env->base, gateway_retry_due, gw);
	rc = gw->retry ? gateway_begin(gw, why) : tunnel_no_memory(why);
	if (rc) {
		gateway_stop(gw);
		return rc;
	}
	*out = gw;
	return 0;
}

static void gateway_info(void *arg, struct json_object *entry)
{
	struct ovpn_gateway *gw = arg;

	json_object_object_add(entry, "port", json_object_new_int(gw->port));
	json_object_object_add(entry, "protocol",
			       json_object_new_string(over_tcp(&gw->env) ? "tcp" : "udp"));
	json_object_object_add(entry, "mtu", json_object_new_int64(gw->mtu));
}

/* ---- leases ---- */

static int lease_new(struct ovpn_gateway *gw, const struct tunnel_lease *t, char *why)
{
	struct ovpn_lease *l = calloc(1, sizeof *l);
	int rc;

	if (!l)
		return tunnel_no_memory(why);
	tunopt_sid_key(l->key, t->sid);
	l->ip4 = t->ip4;
	l->ip6 = t->ip6;
	rc = map_put(&gw->by_sid, l->key, l);
	if (rc) {
		tunnel_say(why, "no room for another lease");
		free(l);
		return rc;
	}
	LIST_INSERT_HEAD(&gw->leases, l, link);
	return 0;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct ovpn_gateway *gw = arg;
	char password[OVPN_PASSWORD_TEXT];
	int rc = lease_by_sid(gw, t->sid) ? 0 : lease_new(gw, t, why);

	if (rc)
		return rc;
	password_of(gw, t->sid, password);
	gateway_info(gw, answer);
	json_object_object_add(answer, "fingerprint", json_object_new_string(gw->cert.fingerprint));
	json_object_object_add(answer, "password", json_object_new_string(password));
	cstr_copy(interface, IFNAMSIZ, gw->interface);
	return 0;
}

static void gateway_close(void *arg, const char *sid)
{
	struct ovpn_gateway *gw = arg;
	struct ovpn_lease *l = lease_by_sid(gw, sid);

	if (!l)
		return;
	if (l->there)
		ovpnmgmt_send(gw->mgmt, "client-kill %" PRIu64 "\n", l->cid);
	lease_gone(gw, l);
	map_del(&gw->by_sid, l->key);
	LIST_REMOVE(l, link);
	free(l);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	const struct ovpn_lease *l = lease_by_sid(arg, sid);

	if (!l)
		return -ENOENT;
	*out = (struct tunnel_counters){.up_bytes = l->up_before + l->up,
					.down_bytes = l->down_before + l->down,
					.connected = l->there};
	return 0;
}

/* ==== subscriber ==== */

struct ovpn_client {
	struct tunnel_env env;
	char sid[SID_MAX + 1], password[OVPN_PASSWORD_TEXT];
	char fingerprint[SELFSIGNED_FINGERPRINT_TEXT];
	struct net_addr server;
	bool tcp;
	struct net_prefix ip4, ip6;
	struct net_addr gateway4, gateway6;
	char interface[IFNAMSIZ];
	uint32_t mtu;
	tunnel_client_state *state;
	void *arg;
	struct ovpnmgmt *mgmt;
	struct child *child;
	bool made; /* the interface is there, with its addresses */
	bool connected;
	uint64_t in, out;
	char why[TUNNEL_WHY_MAX];
};

/* The journal's, or one of our own, which is *mine then and to be closed; NULL when it cannot be
 * had. */
static int client_interface_make(struct ovpn_client *c)
{
	const struct net_prefix *own[] = {&c->ip4, &c->ip6};
	const struct net_addr *peer[] = {&c->gateway4, &c->gateway6};
	struct nl *mine, *nl;
	struct nl_link link;
	int rc = tunopt_nl(&c->env, &nl, &mine);

	if (!rc)
		rc = nl_link_get(nl, c->interface, &link);
	if (!rc)
		rc = nl_link_set_mtu(nl, link.index, c->mtu);
	if (!rc)
		rc = nl_link_set_up(nl, link.index, true);
	for (int i = 0; !rc && i < 2; i++) {
		struct nl_addr a = tunopt_client_addr(own[i], peer[i]);

		if (!a.prefix.addr.family)
			continue;
		a.link = link.index;
		rc = nl_addr_add(nl, &a);
		if (rc == -EEXIST)
			rc = 0;
	}
	nl_close(mine);
	return rc;
}

static void client_connected(struct ovpn_client *c)
{
	int rc = c->made ? 0 : client_interface_make(c);

	if (rc) {
		/* The end of the process tells our owner, outside of this callback. */
		cstr_print(c->why, sizeof c->why, "interface %s: %s", c->interface, strerror(-rc));
		child_stop(c->child, OVPN_STOP_US);
		return;
	}
	c->made = true;
	c->connected = true;
	c->state(TUNNEL_UP, "", c->arg);
}

static void client_interrupted(struct ovpn_client *c, const char *why)
{
	bool was = c->connected;

	c->connected = false;
	if (was)
		c->state(TUNNEL_CONNECTING, *why ? why : "openvpn connects again", c->arg);
}

static void client_line(char *line, void *arg)
{
	struct ovpn_client *c = arg;
	struct ovpn_event e;

	ovpn_event_parse(line, &e);
	switch (e.kind) {
	case OVPN_STATE:
		if (strcmp(e.key, "CONNECTED") == 0)
			client_connected(c);
		else if (strcmp(e.key, "RECONNECTING") == 0)
			client_interrupted(c, e.value);
		break;
	case OVPN_BYTES:
		c->in = e.in;
		c->out = e.out;
		break;
	case OVPN_FATAL:
	case OVPN_PASSWORD:
		cstr_copy(c->why, sizeof c->why, e.value);
		break;
	default:
		break;
	}
}

static void client_up(void *arg)
{
	struct ovpn_client *c = arg;

	/* It has read its configuration: the password need not lie about. */
	forget_config(&c->env, c->interface);
	ovpnmgmt_send(c->mgmt, "state on\nbytecount 1\nhold release\n");
}

static void client_down(void *arg)
{
	(void)arg; /* its exit follows */
}

static void client_exit(struct child *child, int status, void *arg)
{
	struct ovpn_client *c = arg;
	char text[48];

	child_free(child);
	c->child = NULL;
	c->connected = false;
	if (!*c->why)
		cstr_print(c->why, sizeof c->why, "openvpn has ended (%s)",
			   child_status_text(status, text));
	c->state(TUNNEL_FAILED, c->why, c->arg); /* the owner may free us: nothing may follow */
}

/* ---- open and close ---- */

/* The one of the two ciphers that this CPU is good at; the server takes what we offer. */
static const char *ciphers(void)
{
	return crypto_aead_aes256gcm_is_available() ? "AES-256-GCM:CHACHA20-POLY1305"
						    : "CHACHA20-POLY1305";
}

static int client_config(const struct ovpn_client *c, char *out, size_t max)
{
	char ip[NET_ADDR_TEXT];
	size_t n = 0;

	ADD("tls-client\npull\nnobind\ndev %s\ndev-type tun\ndisable-dco\npersist-tun\n",
	    c->interface);
	ADD("proto %s%s\n%sremote %s %u\n", c->tcp ? "tcp" : "udp",
	    c->server.family == 4 ? "4" : "6", c->tcp ? "" : "explicit-exit-notify 1\n",
	    net_addr_ip_text(&c->server, ip), c->server.port);
	ADD("peer-fingerprint %s\ntls-version-min 1.2\ndata-ciphers %s\n", c->fingerprint,
	    ciphers());
	ADD("ifconfig-noexec\nroute-noexec\nscript-security 0\ntun-mtu %u\n", c->mtu);
	ADD("management \"%s/openvpn-%s.sock\" unix\nmanagement-client\nmanagement-hold\n",
	    c->env.state_dir, c->interface);
	ADD("connect-retry 1 2\nhand-window 10\nauth-retry none\n"
	    "verb 1\nsuppress-timestamps\n");
	ADD("<auth-user-pass>\n%s\n%s\n</auth-user-pass>\n", c->sid, c->password);
	return n < max ? 0 : -ENAMETOOLONG;
}

static void client_close(void *arg)
{
	struct ovpn_client *c = arg;

	if (!c)
		return;
	if (c->child)
		forget_config(&c->env, c->interface);
	ovpnmgmt_free(c->mgmt);
	child_free(c->child);
	sodium_memzero(c, sizeof *c);
	free(c);
}

static bool get_text(struct json_object *o, const char *key, char *out, size_t size)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return false;
	const char *text = json_object_get_string(v);
	size_t len = (size_t)json_object_get_string_len(v);
	if (strlen(text) != len || len + 1 != size)
		return false;
	memcpy(out, text, size);
	return true;
}

static bool only(const char *text, const char *alphabet)
{
	return text[strspn(text, alphabet)] == '\0';
}

/* What the gateway says goes into a configuration: nothing but these letters may. */
static bool client_answer(struct ovpn_client *c, struct json_object *o)
{
	struct json_object *port = NULL, *mtu = NULL, *protocol = NULL;

	json_object_object_get_ex(o, "port", &port);
	json_object_object_get_ex(o, "mtu", &mtu);
	json_object_object_get_ex(o, "protocol", &protocol);
	int64_t number = json_object_get_int64(port);
	c->server.port = (uint16_t)number;
	c->mtu = mtu_within(json_object_get_int64(mtu));
	c->tcp = protocol && strcmp(json_object_get_string(protocol), "tcp") == 0;
	return number > 0 && number <= UINT16_MAX &&
	       get_text(o, "fingerprint", c->fingerprint, sizeof c->fingerprint) &&
	       only(c->fingerprint, "0123456789ABCDEF:") &&
	       get_text(o, "password", c->password, sizeof c->password) &&
	       only(c->password, "0123456789abcdef");
}

/* OpenVPN would not say which name it took. */
static int client_name(struct ovpn_client *c, const char *wanted)
{
	struct nl *mine, *nl;
	int rc = tunopt_nl(&c->env, &nl, &mine);

	if (!rc)
		rc = nl_link_free_name(nl, wanted, c->interface);
	nl_close(mine);
	return rc;
}

static int client_fill(struct ovpn_client *c, const struct tunnel_grant *grant, char *why)
{
	cstr_copy(c->sid, sizeof c->sid, grant->sid);
	c->server = grant->server;
	c->ip4 = grant->ip4;
	c->ip6 = grant->ip6;
	c->gateway4 = grant->gateway4;
	c->gateway6 = grant->gateway6;
	if (!c->server.family)
		return tunnel_why(
			why, -EDESTADDRREQ,
			"openvpn needs a gateway that was reached over IP, not over the mesh");
	if (!grant->object || !client_answer(c, grant->object))
		return tunnel_why(why, -EPROTO, "the gateway's answer is not one of openvpn");
	if (client_name(c, grant->interface))
		return tunnel_why(why, -EINVAL, "no interface can be named '%.15s'",
				  grant->interface);
	return 0;
}

static int client_run(struct ovpn_client *c, char *why)
{
	static const struct ovpnmgmt_callbacks cb = {
		.up = client_up, .line = client_line, .down = client_down};
	char config[OVPN_CONFIG_MAX], path[PATH_MAX];
	int rc = path_of(path, &c->env, c->interface, "sock");

	if (!rc)
		rc = ovpnmgmt_listen(&c->mgmt, c->env.base, path, &cb, c);
	if (!rc)
		rc = client_config(c, config, sizeof config);
	if (!rc)
		rc = start_program(&c->child, &c->env, c->interface, config, client_exit, log_line,
				   c);
	sodium_memzero(config, sizeof config);
	if (rc)
		tunnel_say(why, "openvpn cannot be started: %s", strerror(-rc));
	return rc;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = ovpn_probe(env, TUNNEL_SUBSCRIBER, why);
	struct ovpn_client *c;

	if (rc)
		return rc;
	c = calloc(1, sizeof *c);
	if (!c)
		return tunnel_no_memory(why);
	c->env = *env;
	c->state = state;
	c->arg = arg;
	rc = client_fill(c, grant, why);
	if (!rc)
		rc = client_run(c, why);
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct ovpn_client *c = arg;

	return c->made ? c->interface : "";
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct ovpn_client *c = arg;

	*out = (struct tunnel_counters){
		.up_bytes = c->out, .down_bytes = c->in, .connected = c->connected};
}

TUNNEL_METHOD(openvpn, (.name = "openvpn", .probe = ovpn_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_open = client_open, .client_interface = client_interface,
	       .client_counters = client_counters, .client_close = client_close));
