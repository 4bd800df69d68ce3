/*
 * The method "softether": one SoftEther server for all subscribers, with a hub of its own and a tap
 * behind it for each lease.  Nothing that one subscriber sends is seen by another; what comes out
 * of a tap is that lease's, so that our firewall, which knows interface and leased address, binds
 * one to the other.
 *
 *   options  {}
 *   answer   {"port": n, "hub": "m0123456789", "password": "..", "certificate": "base64", "mtu": n}
 *
 * Link-layer addresses of both ends come from the password, and neither end has to ask for them.
 *
 * The server is told of leases by vpncmd, which takes a quarter of a second: leases that are opened
 * or closed meanwhile wait for the next one.  The subscriber's client connects as soon as the
 * server knows it.  SoftEther makes the interfaces, we give them their names and addresses; they
 * go with its processes, and those with us (tunnel/seproc.h).
 */
#include "tunnel/tunnel.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "base/map.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "io/tun.h"
#include "tunnel/seiface.h"
#include "tunnel/seproc.h"
#include "tunnel/tunopt.h"

#define SE_PORT_DEFAULT 5555
#define SE_MTU_DEFAULT 1400u
#define SE_MTU_MIN 1280u
#define SE_MTU_MAX 1500u    /* of its Ethernet */
#define SE_LEASES_MAX 1000u /* a hub has threads of its own */
#define SE_NUMBER_MAX 99999u
#define SE_BATCH_LEASES 16
#define SE_BATCH_MAX 8192
#define SE_POLL_US 30000u
#define SE_COMMAND_US 20000000u
#define SE_TAP_US 5000000u /* from vpncmd's end to the interface */
#define SE_SILENT_US 8000000u
#define SE_SAMPLE_US 2000000u
#define SE_RETRY_US 1000000u
#define SE_CONNECT_FIRST_US 2000000u
#define SE_CONNECT_MAX_US 4000000u
#define SE_HEADSTART_US 350000u /* the gateway's server must hear of the lease first */
#define SERVER_FILE "softether-server"

static int probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	int rc = se_probe(end, why);

	if (rc)
		return rc;
	rc = tun_probe();
	if (rc)
		tunnel_say(why, "no TAP interface can be made: %s", strerror(-rc));
	else if (!env->journal)
		rc = tunnel_why(why, -EPERM, "the host's network may not be changed");
	return rc;
}

static uint32_t mtu_within(int64_t mtu)
{
	if (mtu <= 0)
		return SE_MTU_DEFAULT;
	return mtu < SE_MTU_MIN ? SE_MTU_MIN : mtu > SE_MTU_MAX ? SE_MTU_MAX : (uint32_t)mtu;
}

/* ==== gateway ==== */

enum lease_step {
	LEASE_NEW,   /* the server does not know it */
	LEASE_ASKED, /* vpncmd runs */
	LEASE_TOLD,  /* its interface must appear */
	LEASE_MADE,
};

struct se_lease {
	LIST_ENTRY(se_lease) link;
	uint8_t key[TUNOPT_SID_KEY];
	char hub[SE_HUB_TEXT], password[SE_PASSWORD_TEXT];
	struct se_ends ends;
	char interface[IFNAMSIZ];
	uint32_t index;
	enum lease_step step;
	uint64_t told_us;
	uint64_t received, received_us; /* when that last grew */
};

struct se_gone { /* a hub to take away */
	STAILQ_ENTRY(se_gone) link;
	char hub[SE_HUB_TEXT];
	bool asked;
};

struct se_gateway {
	struct tunnel_env env;
	struct net_addr own4, own6;
	char template[IFNAMSIZ];
	uint32_t mtu, next;
	uint16_t port;
	struct selfsigned cert;
	char certificate[SE_CERTIFICATE_MAX];
	uint8_t password_key[32];
	char admin[SE_PASSWORD_TEXT];
	struct helper *server;
	struct child *command;
	struct event *retry, *work, *late, *sample; /* server; queue; vpncmd's end; counters */
	LIST_HEAD(, se_lease) leases;
	STAILQ_HEAD(, se_gone) gone;
	struct map by_sid;
};

static struct se_lease *lease_of(const struct se_gateway *gw, const char *sid)
{
	return tunopt_by_sid(&gw->by_sid, sid);
}

/* The same for a sid each time, also after a restart, and nobody else's. */
static void lease_names(const struct se_gateway *gw, const char *sid, struct se_lease *l)
{
	uint8_t hash[24 + 5];

	tunopt_sid_secret(gw->password_key, sid, hash, sizeof hash);
	hex_encode(hash, 24, l->password);
	l->hub[0] = 'm';
	hex_encode(hash + 24, 5, l->hub + 1);
}

static void gateway_soon(struct se_gateway *gw, uint64_t us)
{
	timer_in(gw->work, us);
}

/* ---- what vpncmd is told ---- */

static void commands_new(const struct se_lease *l, struct se_text *t)
{
	se_add(t, "HubCreate %s /PASSWORD:%s\nHub %s\n", l->hub, l->password, l->hub);
	/* Nothing comes out of its tap but what the subscriber sends. */
	se_add(t, "LogDisable security\nLogDisable packet\nExtOptionSet NoIpTable /VALUE:1\n"
		  "ExtOptionSet NoAddressPollingIPv4 /VALUE:1\n"
		  "ExtOptionSet NoAddressPollingIPv6 /VALUE:1\n");
	se_add(t,
	       "UserCreate " SE_USER " /GROUP:none /REALNAME:none /NOTE:none\n"
	       "UserPasswordSet " SE_USER " /PASSWORD:%s\n",
	       l->password);
	se_add(t, "Hub\nBridgeCreate %s /DEVICE:%s /TAP:yes\n", l->hub, l->hub);
}

static void commands_all(struct se_gateway *gw, struct se_text *t)
{
	struct se_lease *l;
	struct se_gone *g;
	unsigned count = 0;

	STAILQ_FOREACH(g, &gw->gone, link)
	{
		if (count++ == SE_BATCH_LEASES)
			break;
		g->asked = true;
		se_add(t, "BridgeDelete %s /DEVICE:%s\nHubDelete %s\n", g->hub, g->hub, g->hub);
	}
	count = 0;
	LIST_FOREACH(l, &gw->leases, link) {
		if (l->step != LEASE_NEW)
			continue;
		if (count++ == SE_BATCH_LEASES)
			break;
		l->step = LEASE_ASKED;
		commands_new(l, t);
	}
	/* Its end tells whether the server answered: some of the above may be done already. */
	if (t->len)
		se_add(t, "BridgeList\n");
}

/* It repeats what it is told, with the passwords. */
static void command_line(struct child *c, const char *line, void *arg)
{
	(void)c, (void)arg;
	if (!strstr(line, "VPN Server"))
		log_debug("vpncmd: %s", line);
}

/* All that was asked has been done, or is to be asked again. */
static void command_done(struct se_gateway *gw, bool ok)
{
	uint64_t now = daemon_now_us();
	struct se_lease *l;
	struct se_gone *g, *next;

	evtimer_del(gw->late);
	se_forget(&gw->env, SE_COMMANDS_FILE);
	for (g = STAILQ_FIRST(&gw->gone); g; g = next) {
		next = STAILQ_NEXT(g, link);
		if (ok && g->asked) {
			STAILQ_REMOVE(&gw->gone, g, se_gone, link);
			free(g);
		} else {
			g->asked = false;
		}
	}
	LIST_FOREACH(l, &gw->leases, link)
		if (l->step == LEASE_ASKED) {
			l->step = ok ? LEASE_TOLD : LEASE_NEW;
			l->told_us = now;
		}
	gateway_soon(gw, ok ? SE_POLL_US : SE_RETRY_US / 4);
}

static void command_exit(struct child *c, int status, void *arg)
{
	struct se_gateway *gw = arg;
	char text[48];

	gw->command = NULL;
	child_free(c);
	if (status)
		log_debug("vpncmd: %s", child_status_text(status, text));
	command_done(gw, status == 0);
}

static void command_late(evutil_socket_t fd, short what, void *arg)
{
	struct se_gateway *gw = arg;

	(void)fd, (void)what;
	log_warn("softether: vpncmd does not end");
	child_free(gw->command);
	gw->command = NULL;
	command_done(gw, false);
}

static void command_run(struct se_gateway *gw)
{
	char commands[SE_BATCH_MAX];
	struct se_text t = {commands, sizeof commands, 0};
	int rc = 0;

	commands_all(gw, &t);
	if (!t.len)
		return;
	assert(t.len < sizeof commands);
	rc = se_command(&gw->command, &gw->env, gw->port, gw->admin, commands, command_exit,
			command_line, gw);
	sodium_memzero(commands, sizeof commands);
	if (rc) {
		log_error("softether: vpncmd cannot be started: %s", strerror(-rc));
		command_done(gw, false);
		return;
	}
	timer_in(gw->late, SE_COMMAND_US);
}

static int hub_gone(struct se_gateway *gw, const char *hub)
{
	struct se_gone *g = calloc(1, sizeof *g);

	if (!g)
		return -ENOMEM;
	memcpy(g->hub, hub, sizeof g->hub);
	STAILQ_INSERT_TAIL(&gw->gone, g, link);
	return 0;
}

/* True while it must be looked for. */
static bool lease_look(struct se_gateway *gw, struct se_lease *l, uint64_t now)
{
	char made[IFNAMSIZ];
	int rc;

	cstr_print(made, sizeof made, "tap_%s", l->hub);
	rc = se_furnish(hostjournal_nl(gw->env.journal), made, l->interface, gw->mtu, &l->ends,
			&l->index);
	if (!rc) {
		l->step = LEASE_MADE;
		return false;
	}
	if (now - l->told_us < SE_TAP_US)
		return true;
	log_error("softether: interface %s: %s; it is made again", l->interface, strerror(-rc));
	l->step = LEASE_NEW;
	hub_gone(gw, l->hub);
	return true;
}

static void gateway_work(evutil_socket_t fd, short what, void *arg)
{
	struct se_gateway *gw = arg;
	uint64_t now = daemon_now_us();
	bool wait = false;
	struct se_lease *l;

	(void)fd, (void)what;
	LIST_FOREACH(l, &gw->leases, link)
		if (l->step == LEASE_TOLD)
			wait |= lease_look(gw, l, now);
	if (gw->server && !gw->command)
		command_run(gw);
	if (wait)
		gateway_soon(gw, SE_POLL_US);
}

static void gateway_sample(evutil_socket_t fd, short what, void *arg)
{
	struct se_gateway *gw = arg;
	struct nl_link_stats s;
	struct se_lease *l;

	(void)fd, (void)what;
	LIST_FOREACH(l, &gw->leases, link)
		if (l->step == LEASE_MADE &&
		    nl_link_get_stats(hostjournal_nl(gw->env.journal), l->index, &s) == 0 &&
		    s.rx_packets != l->received) {
			l->received = s.rx_packets;
			l->received_us = daemon_now_us();
		}
}

/* ---- the server ---- */

static void gateway_again(struct se_gateway *gw)
{
	timer_in(gw->retry, SE_RETRY_US);
}

static void server_exit(struct child *c, int status, void *arg)
{
	struct se_gateway *gw = arg;
	char text[48];
	struct se_lease *l;

	(void)c;
	log_error("softether: the server has ended (%s) and is started again",
		  child_status_text(status, text));
	helper_free(gw->server);
	gw->server = NULL;
	LIST_FOREACH(l, &gw->leases, link)
		l->step = LEASE_NEW;
	gateway_again(gw);
}

static int server_run(struct se_gateway *gw)
{
	struct se_server s = {.port = gw->port, .password = gw->admin, .cert = &gw->cert};
	char config[SE_CONFIG_MAX];
	int rc = se_server_config(&s, config, sizeof config);

	if (!rc)
		rc = se_start(&gw->server, &gw->env, TUNNEL_GATEWAY, SERVER_FILE, config,
			      server_exit, gw);
	sodium_memzero(config, sizeof config);
	if (!rc)
		gateway_soon(gw, SE_POLL_US * 5);
	return rc;
}

static void gateway_retry(evutil_socket_t fd, short what, void *arg)
{
	struct se_gateway *gw = arg;

	(void)fd, (void)what;
	if (server_run(gw))
		gateway_again(gw);
}

/* ---- start and stop ---- */

static void lease_free(struct se_gateway *gw, struct se_lease *l)
{
	map_del(&gw->by_sid, l->key);
	LIST_REMOVE(l, link);
	sodium_memzero(l, sizeof *l);
	free(l);
}

static void gateway_stop(void *arg)
{
	struct se_gateway *gw = arg;
	struct se_gone *g;

	if (!gw)
		return;
	struct event *events[] = {gw->retry, gw->work, gw->late, gw->sample};
	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		event_drop(events[i]);
	child_free(gw->command);
	helper_free(gw->server);
	se_forget(&gw->env, SERVER_FILE);
	se_forget(&gw->env, SE_COMMANDS_FILE);
	while (!LIST_EMPTY(&gw->leases))
		lease_free(gw, LIST_FIRST(&gw->leases));
	while ((g = STAILQ_FIRST(&gw->gone))) {
		STAILQ_REMOVE_HEAD(&gw->gone, link);
		free(g);
	}
	map_free(&gw->by_sid);
	sodium_memzero(gw, sizeof *gw);
	free(gw);
}

/* Certificate and passwords come from one key that is kept. */
static int gateway_keys(struct se_gateway *gw)
{
	static const char certificate[] = "meshnet softether certificate";
	static const char password[] = "meshnet softether password";
	uint8_t seed[SELFSIGNED_SEED_BYTES], random[24];
	struct keypair pair;
	int rc = keyfile_load(gw->env.state_dir, "softether", &pair);

	if (rc)
		return rc;
	crypto_generichash(seed, sizeof seed, (const uint8_t *)certificate, sizeof certificate,
			   pair.secret, sizeof pair.secret);
	crypto_generichash(gw->password_key, sizeof gw->password_key, (const uint8_t *)password,
			   sizeof password, pair.secret, sizeof pair.secret);
	randombytes_buf(random, sizeof random);
	hex_encode(random, sizeof random, gw->admin);
	rc = selfsigned_make(&gw->cert, seed, "meshnet gateway");
	if (!rc)
		se_pem_body(gw->cert.certificate, gw->certificate, sizeof gw->certificate);
	sodium_memzero(seed, sizeof seed);
	keyfile_wipe(&pair);
	return rc;
}

static int gateway_begin(struct se_gateway *gw, char *why)
{
	int rc;

	gw->retry = timer_new(gw->env.base, gateway_retry, gw);
	gw->work = timer_new(gw->env.base, gateway_work, gw);
	gw->late = timer_new(gw->env.base, command_late, gw);
	gw->sample = event_new(gw->env.base, -1, EV_PERSIST, gateway_sample, gw);
	if (!gw->retry || !gw->work || !gw->late || !gw->sample ||
	    timer_in(gw->sample, SE_SAMPLE_US))
		return tunnel_no_memory(why);
	rc = gateway_keys(gw);
	if (!rc)
		rc = server_run(gw);
	if (rc)
		tunnel_say(why, "SoftEther cannot be started: %s", strerror(-rc));
	return rc;
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct se_gateway *gw;
	char name[IFNAMSIZ];
	uint64_t seed;
	int rc = probe(env, TUNNEL_GATEWAY, why);

	if (rc)
		return rc;
	if (!nl_link_numbered(name, config->interface, SE_NUMBER_MAX))
		return tunnel_why(
			why, -EINVAL,
			"[softether] Interface must have a %%d: there is one for each lease");
	gw = calloc(1, sizeof *gw);
	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	gw->own4 = config->addr4.addr;
	gw->own6 = config->addr6.addr;
	gw->mtu = mtu_within(config->mtu);
	gw->port = (uint16_t)(env->cfg ? env->cfg->softether_port : SE_PORT_DEFAULT);
	cstr_copy(gw->template, sizeof gw->template, config->interface);
	LIST_INIT(&gw->leases);
	STAILQ_INIT(&gw->gone);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, TUNOPT_SID_KEY, SE_LEASES_MAX, seed);
	rc = gateway_begin(gw, why);
	if (rc) {
		gateway_stop(gw);
		return rc;
	}
	*out = gw;
	return 0;
}

static void gateway_info(void *arg, struct json_object *entry)
{
	const struct se_gateway *gw = arg;

	tunopt_set_u32(entry, "port", gw->port);
	tunopt_set_u32(entry, "mtu", gw->mtu);
}

/* ---- leases ---- */

/* A name that nobody has, and that no lease waits for; and no hub twice. */
static bool lease_unique(struct se_gateway *gw, struct se_lease *l)
{
	struct nl *nl = hostjournal_nl(gw->env.journal);
	const struct se_lease *o;

	for (unsigned i = 0; i <= SE_LEASES_MAX; i++) {
		uint32_t number = gw->next;
		bool taken = false;
		gw->next = number >= SE_NUMBER_MAX ? 0 : number + 1;
		nl_link_numbered(l->interface, gw->template, number);
		LIST_FOREACH(o, &gw->leases, link) {
			if (strcmp(o->hub, l->hub) == 0)
				return false;
			taken |= strcmp(o->interface, l->interface) == 0;
		}
		if (!taken && nl_link_index(nl, l->interface) == -ENODEV)
			return true;
	}
	return false;
}

static int lease_new(struct se_gateway *gw, const struct tunnel_lease *t, struct se_lease **out,
		     char *why)
{
	struct se_lease *l = calloc(1, sizeof *l);
	int rc;

	if (!l)
		return tunnel_no_memory(why);
	tunopt_sid_key(l->key, t->sid);
	lease_names(gw, t->sid, l);
	l->ends = (struct se_ends){.peer4 = t->ip4, .peer6 = t->ip6};
	se_mac_of(l->password, TUNNEL_GATEWAY, l->ends.own_mac);
	se_mac_of(l->password, TUNNEL_SUBSCRIBER, l->ends.peer_mac);
	if (t->ip4.family)
		l->ends.own4 = gw->own4;
	if (t->ip6.family)
		l->ends.own6 = gw->own6;
	rc = lease_unique(gw, l) ? map_put(&gw->by_sid, l->key, l) : -ENOSPC;
	if (rc) {
		tunnel_say(why, "no room for another lease");
		free(l);
		return rc;
	}
	LIST_INSERT_HEAD(&gw->leases, l, link);
	gateway_soon(gw, 0);
	*out = l;
	return 0;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct se_gateway *gw = arg;
	struct se_lease *l = lease_of(gw, t->sid);
	int rc = l ? 0 : lease_new(gw, t, &l, why);

	if (rc)
		return rc;
	gateway_info(gw, answer);
	tunopt_set_string(answer, "hub", l->hub);
	tunopt_set_string(answer, "password", l->password);
	tunopt_set_string(answer, "certificate", gw->certificate);
	cstr_copy(interface, IFNAMSIZ, l->interface);
	return 0;
}

static void gateway_close(void *arg, const char *sid)
{
	struct se_gateway *gw = arg;
	struct se_lease *l = lease_of(gw, sid);

	if (!l)
		return;
	/* At once; the hub follows. */
	if (l->step == LEASE_MADE)
		nl_link_set_up(hostjournal_nl(gw->env.journal), l->index, false);
	if (l->step != LEASE_NEW && hub_gone(gw, l->hub))
		log_error("softether: hub %s stays: out of memory", l->hub);
	lease_free(gw, l);
	gateway_soon(gw, 0);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	struct se_gateway *gw = arg;
	const struct se_lease *l = lease_of(gw, sid);
	struct nl_link_stats s = {0};

	if (!l)
		return -ENOENT;
	if (l->step == LEASE_MADE)
		nl_link_get_stats(hostjournal_nl(gw->env.journal), l->index, &s);
	tunopt_count(out, &s, TUNNEL_GATEWAY,
		     l->step == LEASE_MADE &&
			     (s.rx_packets != l->received ||
			      (l->received_us && daemon_now_us() - l->received_us < SE_SILENT_US)));
	return 0;
}

/* ==== subscriber ==== */

struct se_client {
	struct tunnel_env env;
	struct se_account account;
	struct se_ends ends;
	char hub[SE_HUB_TEXT], password[SE_PASSWORD_TEXT], certificate[SE_CERTIFICATE_MAX];
	char control[SE_PASSWORD_TEXT], device[SE_HUB_TEXT];
	char interface[IFNAMSIZ], file[IFNAMSIZ + 16];
	uint32_t mtu, index;
	tunnel_client_state *state;
	void *arg;
	struct helper *program;
	struct event *poll;
	int nudge; /* a socket on the interface, -1 */
	uint64_t started_us, patience_us;
	bool made, up;
};

static void client_exit(struct child *child, int status, void *arg)
{
	struct se_client *c = arg;
	bool was = c->up;
	char text[48], why[TUNNEL_WHY_MAX];

	(void)child;
	helper_free(c->program);
	c->program = NULL;
	cstr_print(why, sizeof why, "SoftEther's client has ended (%s)",
		   child_status_text(status, text));
	log_debug("%s", why);
	/* Before it was up it is started again in a moment. */
	if (was)
		c->state(TUNNEL_FAILED, why, c->arg); /* nothing may follow */
}

static int client_run(struct se_client *c)
{
	char config[SE_CONFIG_MAX];
	uint8_t random[5];
	int rc;

	/* Another name each time: an earlier one may not be gone yet. */
	randombytes_buf(random, sizeof random);
	c->device[0] = 'm';
	hex_encode(random, sizeof random, c->device + 1);
	rc = se_client_config(&c->account, config, sizeof config);
	if (!rc)
		rc = se_start(&c->program, &c->env, TUNNEL_SUBSCRIBER, c->file, config, client_exit,
			      c);
	sodium_memzero(config, sizeof config);
	c->started_us = daemon_now_us();
	timer_in(c->poll, SE_POLL_US);
	return rc;
}

static void client_halt(struct se_client *c)
{
	helper_free(c->program);
	c->program = NULL;
	se_forget(&c->env, c->file);
	if (c->nudge >= 0)
		close(c->nudge);
	c->nudge = -1;
	c->made = c->up = false;
}

/* An echo request to the gateway; anything that comes back says that the tunnel is there. */
static void client_nudge(struct se_client *c)
{
	bool six = !c->ends.peer4.family;
	struct net_addr to = six ? c->ends.peer6 : c->ends.peer4;
	/* Type, code, checksum (the kernel's for IPv6), number, sequence. */
	uint8_t echo[8] = {six ? 128 : 8, 0, six ? 0 : 0xf7, six ? 0 : 0xff};
	struct sockaddr_storage ss;
	socklen_t len;

	to.port = 0;
	len = sockaddr_from_net(&ss, &to);
	if (c->nudge < 0)
		c->nudge = socket(ss.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
				  six ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	/* Before it is bound, on no account. */
	if (c->nudge >= 0 && setsockopt(c->nudge, SOL_SOCKET, SO_BINDTODEVICE, c->interface,
					(socklen_t)strlen(c->interface)) == 0)
		sendto(c->nudge, echo, sizeof echo, MSG_NOSIGNAL, (struct sockaddr *)&ss, len);
}

static bool client_there(struct se_client *c)
{
	struct nl_link_stats s;

	if (nl_link_get_stats(hostjournal_nl(c->env.journal), c->index, &s) == 0 && s.rx_packets)
		return true;
	client_nudge(c);
	return false;
}

static void client_is_up(struct se_client *c)
{
	if (c->nudge >= 0)
		close(c->nudge);
	c->nudge = -1;
	c->up = true;
	se_forget(&c->env, c->file);
	c->state(TUNNEL_UP, "", c->arg); /* nothing may follow */
}

static void client_poll(evutil_socket_t fd, short what, void *arg)
{
	struct se_client *c = arg;
	char made[IFNAMSIZ];
	int rc;

	(void)fd, (void)what;
	timer_in(c->poll, SE_POLL_US);
	if (!c->made) {
		cstr_print(made, sizeof made, "vpn_%s", c->device);
		rc = se_furnish(hostjournal_nl(c->env.journal), made, c->interface, c->mtu,
				&c->ends, &c->index);
		c->made = rc == 0;
	}
	if (c->made && client_there(c)) {
		evtimer_del(c->poll);
		client_is_up(c);
		return;
	}
	if (c->patience_us && daemon_now_us() - c->started_us < c->patience_us)
		return;
	/* It waits longer than we would between its tries. */
	if (c->patience_us)
		log_debug("softether: no connection yet, the client starts again");
	c->patience_us = c->patience_us * 2 > SE_CONNECT_MAX_US ? SE_CONNECT_MAX_US
			 : c->patience_us			? c->patience_us * 2
								: SE_CONNECT_FIRST_US;
	client_halt(c);
	if (client_run(c)) {
		evtimer_del(c->poll);
		c->state(TUNNEL_FAILED, "SoftEther's client cannot be started", c->arg);
	}
}

/* ---- open and close ---- */

static bool only(const char *text, const char *alphabet)
{
	return text[strspn(text, alphabet)] == '\0';
}

/* A string of `len` bytes (0: of any length that fits) of these letters: it goes into a
 * configuration. */
static bool get_text(struct json_object *o, const char *key, const char *alphabet, size_t len,
		     char *out, size_t size)
{
	const char *text;

	if (!tunopt_string(o, key, size - 1, &text) || !only(text, alphabet) ||
	    (len && strlen(text) != len))
		return false;
	cstr_copy(out, size, text);
	return true;
}

static bool client_answer(struct se_client *c, struct json_object *o)
{
	static const char hex[] = "0123456789abcdef";
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/=";
	uint32_t port = 0;

	if (!tunopt_u32(o, "port", 1, UINT16_MAX, &port))
		return false;
	c->account.server.port = (uint16_t)port;
	if (!tunopt_u32(o, "mtu", SE_MTU_MIN, SE_MTU_MAX, &c->mtu))
		c->mtu = SE_MTU_DEFAULT;
	return get_text(o, "hub", "m0123456789abcdef", 0, c->hub, sizeof c->hub) &&
	       get_text(o, "password", hex, SE_PASSWORD_TEXT - 1, c->password,
			sizeof c->password) &&
	       get_text(o, "certificate", base64, 0, c->certificate, sizeof c->certificate);
}

static int client_fill(struct se_client *c, const struct tunnel_grant *grant, char *why)
{
	uint8_t random[24];
	int rc;

	if (!grant->server.family)
		return tunnel_why(
			why, -EDESTADDRREQ,
			"softether needs a gateway that was reached over IP, not over the mesh");
	c->account.server = grant->server;
	if (!grant->object || !client_answer(c, grant->object))
		return tunnel_why(why, -EPROTO, "the gateway's answer is not one of softether");
	rc = nl_link_free_name(hostjournal_nl(c->env.journal), grant->interface, c->interface);
	if (rc)
		return tunnel_why(why, rc, "no interface can be named '%.15s'", grant->interface);
	cstr_print(c->file, sizeof c->file, "softether-%s", c->interface);
	c->ends = (struct se_ends){.own4 = grant->ip4.addr,
				   .own6 = grant->ip6.addr,
				   .peer4 = grant->gateway4,
				   .peer6 = grant->gateway6};
	if (!c->ends.own4.family)
		c->ends.peer4.family = 0;
	randombytes_buf(random, sizeof random);
	hex_encode(random, sizeof random, c->control);
	se_mac_of(c->password, TUNNEL_SUBSCRIBER, c->ends.own_mac);
	se_mac_of(c->password, TUNNEL_GATEWAY, c->ends.peer_mac);
	memcpy(c->account.mac, c->ends.own_mac, sizeof c->account.mac);
	c->account.hub = c->hub;
	c->account.password = c->password;
	c->account.certificate = c->certificate;
	c->account.device = c->device;
	c->account.control = c->control;
	return 0;
}

static void client_close(void *arg)
{
	struct se_client *c = arg;

	if (!c)
		return;
	if (c->made) /* at once: the process takes its interface with it in a moment */
		nl_link_set_up(hostjournal_nl(c->env.journal), c->index, false);
	client_halt(c);
	event_drop(c->poll);
	sodium_memzero(c, sizeof *c);
	free(c);
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = probe(env, TUNNEL_SUBSCRIBER, why);
	struct se_client *c;

	if (rc)
		return rc;
	c = calloc(1, sizeof *c);
	if (!c)
		return tunnel_no_memory(why);
	c->env = *env;
	c->state = state;
	c->arg = arg;
	c->nudge = -1;
	c->poll = timer_new(env->base, client_poll, c);
	rc = c->poll ? client_fill(c, grant, why) : tunnel_no_memory(why);
	if (!rc && evtimer_add(c->poll, &(struct timeval){.tv_usec = SE_HEADSTART_US}))
		rc = tunnel_no_memory(why);
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct se_client *c = arg;

	return c->made ? c->interface : "";
}

/* An Ethernet: the gateway is the next hop. */
static void client_path(void *arg, struct tunnel_path *out)
{
	const struct se_client *c = arg;

	out->source4 = c->ends.own4;
	out->source6 = c->ends.own6;
	out->via4 = c->ends.peer4;
	out->via6 = c->ends.peer6;
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct se_client *c = arg;
	struct nl_link_stats s = {0};

	if (c->made)
		nl_link_get_stats(hostjournal_nl(c->env.journal), c->index, &s);
	tunopt_count(out, &s, TUNNEL_SUBSCRIBER, c->up);
}

TUNNEL_METHOD(softether, (.name = "softether", .probe = probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_open = client_open, .client_interface = client_interface,
	       .client_path = client_path, .client_counters = client_counters,
	       .client_close = client_close));
