/*
 * The method "fastd": a process and an interface at the gateway for every subscriber (io/fastd.h
 * says why), so that the firewall knows by the interface whose packets they are.  Each has a port
 * of its own: [fastd] Port and the next ones.
 *
 *   options  {"publicKey": key}                                of the subscriber
 *   answer   {"publicKey": key, "port": n, "endpoints": ["IP:PORT"], "mtu": n, "clientKey": key}
 *
 * Keys are fastd's: 64 hexadecimal digits.  "clientKey" is the subscriber's as the gateway knows
 * it.  Both ends keep theirs in the state directory.
 */
#include "tunnel/tunnel.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
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
#include "io/fastd.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/timer.h"
#include "io/tun.h"
#include "tunnel/tunopt.h"

#define FASTD_MTU_DEFAULT 1400u
#define FASTD_MTU_MIN 1280u
#define FASTD_MTU_MAX 9000u
#define FASTD_PORT_DEFAULT 10000u
#define FASTD_KEY_BYTES 32
#define FASTD_PATH_MAX 4096
/* gateway */
#define FASTD_AGAIN_US 500000u /* a process that has ended is started again */
#define FASTD_LASTS_US 5000000u
#define FASTD_STATUS_US 500000u /* what is known of a connection is as old as this at most */
#define FASTD_TAG_BYTES 12
#define FASTD_TAG_TEXT (2 * FASTD_TAG_BYTES + 1)
#define FASTD_TRIES 256 /* numbers in a row that others use */
/* subscriber */
#define FASTD_POLL_US 10000u
#define FASTD_WATCH_US 500000u
#define FASTD_TRY_US 1500000u /* one endpoint */
#define FASTD_OPEN_US 7000000u

_Static_assert(TUNNEL_WHY_MAX >= FASTD_WHY_MAX, "a process's reason fits");

/* ==== both ends ==== */

static int fastd_method_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	(void)env;
	(void)end;
	return fastd_probe(why);
}

static bool get_key(struct json_object *o, const char *name, char out[FASTD_KEY_TEXT])
{
	const char *text;

	if (!tunopt_string(o, name, FASTD_KEY_TEXT - 1, &text) || !fastd_key_valid(text))
		return false;
	memcpy(out, text, FASTD_KEY_TEXT);
	return true;
}

/* The interface that the process will open by its name. */
static int interface_make(const struct tunnel_env *env, struct nl *nl, const char *name,
			  uint32_t mtu, const struct nl_addr *addrs, size_t count)
{
	int rc = env->journal ? host_tun_add(env->journal, name) : tun_make(nl, name), index;

	if (rc)
		return rc;
	rc = index = nl_link_index(nl, name);
	if (rc > 0)
		rc = nl_link_set_mtu(nl, (uint32_t)index, mtu);
	if (!rc)
		rc = nl_link_set_up(nl, (uint32_t)index, true);
	for (size_t i = 0; !rc && i < count; i++) {
		struct nl_addr a = addrs[i];
		a.link = (uint32_t)index;
		if (a.prefix.addr.family)
			rc = nl_addr_add(nl, &a);
	}
	return rc;
}

static void interface_drop(const struct tunnel_env *env, struct nl *nl, const char *name)
{
	int index;

	if (!*name)
		return;
	if (env->journal) {
		host_link_remove(env->journal, name);
		return;
	}
	index = nl_link_index(nl, name);
	if (index > 0)
		nl_link_del(nl, (uint32_t)index);
}

/* Zero where it cannot be read. */
static struct nl_link_stats interface_stats(struct nl *nl, const char *name)
{
	struct nl_link_stats s = {0};
	int index = *name ? nl_link_index(nl, name) : -ENODEV;

	if (index > 0)
		nl_link_get_stats(nl, (uint32_t)index, &s);
	return s;
}

/* ==== gateway ==== */

struct fd_gateway;

struct fd_lease {
	LIST_ENTRY(fd_lease) link;
	struct fd_gateway *gw;
	char sid[SID_MAX + 1], tag[FASTD_TAG_TEXT];
	char interface[IFNAMSIZ];
	unsigned number; /* of its port and in the interface's name */
	bool has_number;
	uint8_t sid_key[TUNOPT_SID_KEY], key[FASTD_KEY_BYTES];
	struct net_addr ip4, ip6;
	struct fastd *process; /* NULL: it has ended and will be started again */
	uint64_t rx_before;    /* what the interface had received when the process was started */
	bool connected;
	uint64_t asked_us, started_us;
};

struct fd_gateway {
	struct tunnel_env env;
	struct nl *nl, *own_nl;
	struct event *again, *settled;
	char interface[IFNAMSIZ];
	uint32_t mtu;
	uint16_t port;
	struct net_addr addr4, addr6;
	char secret[FASTD_KEY_TEXT], key[FASTD_KEY_TEXT];
	LIST_HEAD(, fd_lease) leases;
	struct map by_sid, by_key;
	uint8_t taken[TUNNEL_LEASES_MAX / 8]; /* numbers */
};

/* ---- numbers: a lease keeps its own over our restart, for the subscriber knows the port ---- */

static int number_path(const struct fd_gateway *gw, const char *tag, char out[FASTD_PATH_MAX])
{
	int n = snprintf(out, FASTD_PATH_MAX, "%s/fastd-gateway%s%s", gw->env.state_dir,
			 *tag ? "/" : "", tag);

	return n < 0 || n >= FASTD_PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool number_load(const struct fd_gateway *gw, const char *tag, unsigned *number)
{
	char path[FASTD_PATH_MAX], text[16] = "";
	int fd = number_path(gw, tag, path) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	char *end;

	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	unsigned long v = strtoul(text, &end, 10);
	*number = (unsigned)v;
	return n > 1 && *end == '\n' && v < TUNNEL_LEASES_MAX;
}

/* Without the file the subscriber would have to ask again after our restart; no more. */
static void number_save(const struct fd_gateway *gw, const struct fd_lease *l)
{
	char path[FASTD_PATH_MAX], text[16];
	int len = snprintf(text, sizeof text, "%u\n", l->number), fd;

	if (number_path(gw, "", path) || keyfile_make_dir(path) || number_path(gw, l->tag, path))
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		log_warn("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void number_forget(const struct fd_gateway *gw, const char *tag)
{
	char path[FASTD_PATH_MAX];

	if (number_path(gw, tag, path) == 0)
		unlink(path);
}

static bool number_taken(const struct fd_gateway *gw, unsigned n)
{
	return gw->taken[n / 8] & 1u << n % 8;
}

static void number_set(struct fd_gateway *gw, unsigned n, bool taken)
{
	uint8_t bit = (uint8_t)(1u << n % 8);

	gw->taken[n / 8] = (uint8_t)(taken ? gw->taken[n / 8] | bit : gw->taken[n / 8] & ~bit);
}

static bool tag_has_lease(const struct fd_gateway *gw, const char *tag)
{
	const struct fd_lease *l;

	LIST_FOREACH(l, &gw->leases, link)
		if (strcmp(l->tag, tag) == 0)
			return true;
	return false;
}

/* The leases of an earlier run are back: numbers of others are not needed any more. */
static void on_settled(evutil_socket_t fd, short what, void *arg)
{
	const struct fd_gateway *gw = arg;
	char path[FASTD_PATH_MAX];
	DIR *d = number_path(gw, "", path) ? NULL : opendir(path);
	struct dirent *e;

	(void)fd, (void)what;
	while (d && (e = readdir(d)))
		if (strlen(e->d_name) == FASTD_TAG_TEXT - 1 && !tag_has_lease(gw, e->d_name))
			number_forget(gw, e->d_name);
	if (d)
		closedir(d);
}

/* ---- interfaces and ports ---- */

/* fastd binds it for both families at once. */
static bool port_free(uint16_t port)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd >= 0) {
		rc = bind(fd, (struct sockaddr *)&v6, sizeof v6);
	} else {
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		rc = bind(fd, (struct sockaddr *)&v4, sizeof v4);
	}
	if (fd >= 0)
		close(fd);
	return rc == 0;
}

/* Point to point: so the way to the subscriber comes with the address. */
static struct nl_addr lease_addr(const struct net_addr *own, const struct net_addr *subscriber)
{
	struct net_prefix p = {.addr = *own};

	if (!subscriber->family || own->family != subscriber->family)
		return (struct nl_addr){0};
	return tunopt_client_addr(&p, subscriber);
}

static uint16_t lease_port(const struct fd_lease *l)
{
	return (uint16_t)(l->gw->port + l->number);
}

/* -EEXIST: this number's interface or port is somebody else's. */
static int number_try(struct fd_lease *l, unsigned n)
{
	struct fd_gateway *gw = l->gw;
	const struct nl_addr addrs[] = {lease_addr(&gw->addr4, &l->ip4),
					lease_addr(&gw->addr6, &l->ip6)};
	char name[IFNAMSIZ];
	int rc;

	if (!nl_link_numbered(name, gw->interface, n) || gw->port + n > UINT16_MAX)
		return -ENOSPC;
	if (number_taken(gw, n) || !port_free((uint16_t)(gw->port + n)))
		return -EEXIST;
	rc = interface_make(&gw->env, gw->nl, name, gw->mtu, addrs, 2);
	if (rc == -EEXIST)
		return rc;
	memcpy(l->interface, name, sizeof name); /* also half made: lease_free takes it back */
	l->number = n;
	l->has_number = true;
	number_set(gw, n, true);
	return rc;
}

static int number_take(struct fd_lease *l)
{
	unsigned saved, first = 0;
	int rc = -EEXIST;

	if (number_load(l->gw, l->tag, &saved))
		rc = number_try(l, saved);
	while (rc == -EEXIST && first < TUNNEL_LEASES_MAX && number_taken(l->gw, first))
		first++;
	for (unsigned i = 0; rc == -EEXIST && i < FASTD_TRIES && first + i < TUNNEL_LEASES_MAX; i++)
		rc = number_try(l, first + i);
	if (!rc)
		number_save(l->gw, l);
	return rc;
}

/* ---- processes ---- */

static void on_end(const char *text, void *arg)
{
	struct fd_lease *l = arg;

	log_warn("fastd: %s: %s; it is started again", l->interface, text);
	fastd_close(l->process);
	l->process = NULL;
	timer_in(l->gw->again,
		 daemon_now_us() - l->started_us >= FASTD_LASTS_US ? 0 : FASTD_AGAIN_US);
}

static uint64_t lease_received(const struct fd_lease *l)
{
	return interface_stats(l->gw->nl, l->interface).rx_packets;
}

static int process_start(struct fd_lease *l, char *why)
{
	struct fd_gateway *gw = l->gw;
	char folder[FASTD_PATH_MAX], key[FASTD_KEY_TEXT];
	const struct fastd_config fc = {.folder = folder,
					.interface = l->interface,
					.secret = gw->secret,
					.peer = key,
					.mtu = gw->mtu,
					.port = lease_port(l),
					.ended = on_end,
					.arg = l};
	int n = snprintf(folder, sizeof folder, "%s/fastd-g%u", gw->env.state_dir, l->number);

	if (n < 0 || n >= (int)sizeof folder)
		return -ENAMETOOLONG;
	hex_encode(l->key, FASTD_KEY_BYTES, key);
	fastd_close(l->process);
	l->process = NULL;
	l->connected = false;
	l->rx_before = lease_received(l);
	l->started_us = daemon_now_us();
	return fastd_open(&l->process, gw->env.base, gw->env.journal, &fc, why);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct fd_gateway *gw = arg;
	char why[TUNNEL_WHY_MAX] = "";
	struct fd_lease *l;

	(void)fd, (void)what;
	LIST_FOREACH(l, &gw->leases, link) {
		if (l->process || process_start(l, why) == 0)
			continue;
		log_error("fastd: %s", why);
		timer_in(gw->again, FASTD_AGAIN_US);
	}
}

/* Was there a connection in this process's time?  Then it takes no new one for a while. */
static bool process_used(struct fd_lease *l)
{
	return l->process && (l->connected || lease_received(l) > l->rx_before ||
			      fastd_connected(l->process) > 0);
}

/* ---- leases ---- */

static struct fd_lease *lease_by_sid(const struct fd_gateway *gw, const char *sid)
{
	return tunopt_by_sid(&gw->by_sid, sid);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	struct fd_gateway *gw = arg;
	struct fd_lease *l = lease_by_sid(gw, sid);
	uint64_t now = daemon_now_us();
	struct nl_link_stats t;

	if (!l)
		return -ENOENT;
	if (l->process && (!l->asked_us || now - l->asked_us >= FASTD_STATUS_US)) {
		l->connected = fastd_connected(l->process) > 0;
		l->asked_us = now;
	}
	t = interface_stats(gw->nl, l->interface);
	tunopt_count(out, &t, TUNNEL_GATEWAY, l->process && l->connected);
	return 0;
}

static void lease_free(struct fd_gateway *gw, struct fd_lease *l)
{
	fastd_close(l->process);
	interface_drop(&gw->env, gw->nl, l->interface);
	if (map_get(&gw->by_sid, l->sid_key) == l)
		map_del(&gw->by_sid, l->sid_key);
	if (map_get(&gw->by_key, l->key) == l)
		map_del(&gw->by_key, l->key);
	if (l->has_number)
		number_set(gw, l->number, false);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_enter(struct fd_lease *l, char *why)
{
	struct fd_gateway *gw = l->gw;
	int rc = map_put(&gw->by_sid, l->sid_key, l);

	if (!rc)
		rc = map_put(&gw->by_key, l->key, l);
	if (!rc)
		rc = number_take(l);
	if (rc)
		tunnel_say(why, "no interface or port for the lease: %s", strerror(-rc));
	return rc ? rc : process_start(l, why);
}

static int lease_new(struct fd_gateway *gw, const struct tunnel_lease *t, const uint8_t *key,
		     struct fd_lease **out, char *why)
{
	struct fd_lease *l;
	int rc;

	if (map_get(&gw->by_key, key))
		return tunnel_why(why, -EEXIST, "this key has another lease already");
	l = calloc(1, sizeof *l);
	if (!l)
		return tunnel_no_memory(why);
	l->gw = gw;
	cstr_copy(l->sid, sizeof l->sid, t->sid);
	tunopt_sid_key(l->sid_key, t->sid);
	hex_encode(l->sid_key, FASTD_TAG_BYTES, l->tag);
	memcpy(l->key, key, sizeof l->key);
	l->ip4 = t->ip4;
	l->ip6 = t->ip6;
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = lease_enter(l, why);
	if (rc) {
		number_forget(gw, l->tag);
		lease_free(gw, l);
		return rc;
	}
	*out = l;
	return 0;
}

/* Whoever asks again has lost its end: it needs a process that takes a new handshake. */
static int lease_again(struct fd_lease *l, char *why)
{
	return process_used(l) ? process_start(l, why) : 0;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct fd_gateway *gw = arg;
	struct fd_lease *l = lease_by_sid(gw, t->sid);
	char text[FASTD_KEY_TEXT];
	uint8_t key[FASTD_KEY_BYTES];
	int rc;

	if (!get_key(t->options, "publicKey", text) || strcmp(text, gw->key) == 0 ||
	    hex_decode(text, key, sizeof key))
		return tunnel_why(why, -EINVAL,
				  "options must hold the subscriber's publicKey (64 hex digits)");
	if (l && (memcmp(l->key, key, sizeof key) != 0 || !net_addr_same_ip(&l->ip4, &t->ip4) ||
		  !net_addr_same_ip(&l->ip6, &t->ip6)))
		return tunnel_why(why, -EEXIST, "this sid is another subscriber's");
	rc = l ? lease_again(l, why) : lease_new(gw, t, key, &l, why);
	if (rc)
		return rc;
	tunopt_set_string(answer, "publicKey", gw->key);
	tunopt_set_u32(answer, "port", lease_port(l));
	tunopt_set_endpoints(answer, gw->env.cfg ? gw->env.cfg->fastd_endpoints : "", lease_port(l),
			     gw->nl);
	tunopt_set_u32(answer, "mtu", gw->mtu);
	tunopt_set_string(answer, "clientKey", text);
	memcpy(interface, l->interface, IFNAMSIZ);
	return 0;
}

static void gateway_close(void *arg, const char *sid)
{
	struct fd_lease *l = lease_by_sid(arg, sid);

	if (!l)
		return;
	number_forget(arg, l->tag);
	lease_free(arg, l);
}

/* ---- start and stop ---- */

/* The numbers stay, as the leases do. */
static void gateway_stop(void *arg)
{
	struct fd_gateway *gw = arg;
	char path[FASTD_PATH_MAX];

	if (!gw)
		return;
	while (!LIST_EMPTY(&gw->leases))
		lease_free(gw, LIST_FIRST(&gw->leases));
	if (number_path(gw, "", path) == 0)
		rmdir(path); /* if there are none */
	map_free(&gw->by_sid);
	map_free(&gw->by_key);
	event_drop(gw->again);
	event_drop(gw->settled);
	nl_close(gw->own_nl);
	sodium_memzero(gw, sizeof *gw);
	free(gw);
}

static int gateway_begin(struct fd_gateway *gw, const struct tunnel_gateway_config *config,
			 char *why)
{
	const struct config *cfg = gw->env.cfg;
	int rc;

	if (!strstr(config->interface, "%d") || strlen(config->interface) >= IFNAMSIZ)
		return tunnel_why(why, -EINVAL, "[fastd] Interface '%s' needs a %%d",
				  config->interface);
	cstr_copy(gw->interface, sizeof gw->interface, config->interface);
	gw->mtu = config->mtu ? config->mtu : FASTD_MTU_DEFAULT;
	gw->port = cfg ? (uint16_t)cfg->fastd_port : FASTD_PORT_DEFAULT;
	gw->addr4 = config->addr4.addr;
	gw->addr6 = config->addr6.addr;
	rc = tunopt_nl(&gw->env, &gw->nl, &gw->own_nl);
	gw->again = timer_new(gw->env.base, on_again, gw);
	gw->settled = timer_new(gw->env.base, on_settled, gw);
	if (!rc && (!gw->again || !gw->settled || timer_in(gw->settled, 0)))
		rc = -ENOMEM;
	if (rc)
		return tunnel_why(why, rc, "%s", strerror(-rc));
	return fastd_keys(gw->env.state_dir, "fastd-gateway", gw->secret, gw->key, why);
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct fd_gateway *gw;
	uint64_t seed;
	int rc = fastd_probe(why);

	if (rc)
		return rc;
	gw = calloc(1, sizeof *gw);
	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_key, FASTD_KEY_BYTES, TUNNEL_LEASES_MAX, seed);
	rc = gateway_begin(gw, config, why);
	if (rc) {
		gateway_stop(gw);
		return rc;
	}
	*out = gw;
	return 0;
}

static void gateway_info(void *arg, struct json_object *entry)
{
	const struct fd_gateway *gw = arg;

	tunopt_set_string(entry, "publicKey", gw->key);
	tunopt_set_u32(entry, "port", gw->port);
	tunopt_set_u32(entry, "mtu", gw->mtu);
}

/* ==== subscriber ==== */

struct fd_client {
	struct tunnel_env env;
	struct nl *nl, *own_nl;
	struct fastd *process;
	struct event *timer;
	char secret[FASTD_KEY_TEXT], key[FASTD_KEY_TEXT], server[FASTD_KEY_TEXT];
	struct net_addr endpoints[TUNOPT_ADDRS_MAX];
	size_t endpoint_count, endpoint;
	uint32_t mtu;
	char interface[IFNAMSIZ]; /* "": not made */
	tunnel_client_state *state;
	void *arg;
	bool up, lost; /* it was connected once; it is not now */
	uint64_t begun_us, tried_us;
};

/* The owner may free the client in this call: nothing may follow it. */
static void client_fail(struct fd_client *c, const char *text)
{
	evtimer_del(c->timer);
	c->state(TUNNEL_FAILED, text, c->arg);
}

static void client_ended(const char *text, void *arg)
{
	client_fail(arg, text);
}

/* A process for one endpoint: fastd itself would try the next one after 20 s. */
static int client_dial(struct fd_client *c, char *why)
{
	char folder[FASTD_PATH_MAX];
	const struct fastd_config fc = {.folder = folder,
					.interface = c->interface,
					.secret = c->secret,
					.peer = c->server,
					.mtu = c->mtu,
					.remote = c->endpoints[c->endpoint],
					.ended = client_ended,
					.arg = c};
	int n = snprintf(folder, sizeof folder, "%s/fastd-%s", c->env.state_dir, c->interface);

	fastd_close(c->process);
	c->process = NULL;
	c->tried_us = daemon_now_us();
	if (n < 0 || n >= (int)sizeof folder)
		return tunnel_why(why, -ENAMETOOLONG, "%.100s: too long", c->env.state_dir);
	return fastd_open(&c->process, c->env.base, c->env.journal, &fc, why);
}

static void client_opening(struct fd_client *c, uint64_t now)
{
	char why[TUNNEL_WHY_MAX] = "";

	if (now - c->begun_us >= FASTD_OPEN_US) {
		client_fail(c, "the gateway does not answer the handshake");
		return;
	}
	if (now - c->tried_us >= FASTD_TRY_US) {
		c->endpoint = (c->endpoint + 1) % c->endpoint_count;
		if (client_dial(c, why)) {
			client_fail(c, why);
			return;
		}
	}
	timer_in(c->timer, FASTD_POLL_US);
}

static void client_timer(evutil_socket_t fd, short what, void *arg)
{
	struct fd_client *c = arg;
	bool flows = fastd_connected(c->process) > 0;

	(void)fd, (void)what;
	if (!c->up && !flows) {
		client_opening(c, daemon_now_us());
		return;
	}
	timer_in(c->timer, FASTD_WATCH_US);
	if (c->up && flows != c->lost)
		return;
	c->lost = !flows;
	c->up = true;
	c->state(flows ? TUNNEL_UP : TUNNEL_CONNECTING, flows ? "" : "the connection is lost",
		 c->arg);
}

static int client_options(const struct tunnel_env *env, struct json_object *options, char *why)
{
	char secret[FASTD_KEY_TEXT], key[FASTD_KEY_TEXT];
	int rc = fastd_keys(env->state_dir, "fastd-subscriber", secret, key, why);

	if (rc)
		return rc;
	tunopt_set_string(options, "publicKey", key);
	sodium_memzero(secret, sizeof secret);
	return 0;
}

static void client_close(void *arg)
{
	struct fd_client *c = arg;

	if (!c)
		return;
	fastd_close(c->process);
	interface_drop(&c->env, c->nl, c->interface);
	event_drop(c->timer);
	nl_close(c->own_nl);
	sodium_memzero(c, sizeof *c);
	free(c);
}

static int client_fill(struct fd_client *c, const struct tunnel_grant *grant, char *why)
{
	char mine[FASTD_KEY_TEXT];

	if (!get_key(grant->object, "publicKey", c->server) ||
	    !get_key(grant->object, "clientKey", mine))
		return tunnel_why(why, -EPROTO, "the gateway's answer lacks keys");
	if (strcmp(mine, c->key) != 0)
		return tunnel_why(why, -ESTALE, "the gateway has an old key of ours");
	c->endpoint_count = tunopt_endpoints(grant->object, &grant->server, c->endpoints);
	if (!c->endpoint_count)
		return tunnel_why(why, -EPROTO, "the gateway's answer names no address");
	if (!tunopt_u32(grant->object, "mtu", FASTD_MTU_MIN, FASTD_MTU_MAX, &c->mtu))
		c->mtu = FASTD_MTU_DEFAULT;
	return 0;
}

static int client_interface_make(struct fd_client *c, const struct tunnel_grant *grant, char *why)
{
	const struct nl_addr addrs[] = {tunopt_client_addr(&grant->ip4, &grant->gateway4),
					tunopt_client_addr(&grant->ip6, &grant->gateway6)};
	char name[IFNAMSIZ];
	int rc = nl_link_free_name(c->nl, grant->interface, name);

	if (!rc)
		rc = interface_make(&c->env, c->nl, name, c->mtu, addrs, 2);
	if (rc != -EEXIST && rc != -EINVAL)
		memcpy(c->interface, name, sizeof name); /* also half made */
	if (rc)
		tunnel_say(why, "interface '%s': %s", grant->interface, strerror(-rc));
	return rc;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	struct fd_client *c = calloc(1, sizeof *c);
	int rc;

	if (c) {
		c->env = *env;
		c->state = state;
		c->arg = arg;
		c->begun_us = daemon_now_us();
		c->timer = timer_new(env->base, client_timer, c);
	}
	rc = c && c->timer ? tunopt_nl(env, &c->nl, &c->own_nl) : -ENOMEM;
	if (rc)
		tunnel_say(why, "%s", strerror(-rc));
	else
		rc = fastd_keys(env->state_dir, "fastd-subscriber", c->secret, c->key, why);
	if (!rc)
		rc = client_fill(c, grant, why);
	if (!rc)
		rc = client_interface_make(c, grant, why);
	if (!rc)
		rc = client_dial(c, why);
	if (!rc)
		rc = timer_in(c->timer, FASTD_POLL_US);
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct fd_client *c = arg;

	return c->interface;
}

static struct net_addr client_server(void *arg)
{
	const struct fd_client *c = arg;

	return c->endpoints[c->endpoint];
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct fd_client *c = arg;
	struct nl_link_stats t = interface_stats(c->nl, c->interface);

	tunopt_count(out, &t, TUNNEL_SUBSCRIBER, c->up && !c->lost);
}

TUNNEL_METHOD(fastd, (.name = "fastd", .probe = fastd_method_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_options = client_options, .client_open = client_open,
	       .client_interface = client_interface, .client_server = client_server,
	       .client_counters = client_counters, .client_close = client_close));
