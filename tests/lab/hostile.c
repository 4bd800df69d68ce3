/*
 * A node that is let in and then does harm: hostile ADDRESS MANAGER-KEY SECONDS TOKEN ID...
 *
 * It asks for connections, links, apps and lists as fast as the channel takes them, measures links
 * that are not its own, calls them lost, and answers what it is told with lies.  Half way it comes
 * back with a report of links and connections with the nodes ID that nobody else knows of.  At the
 * end it prints what it was answered: "NAME COUNT" lines.
 */
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "core/noise.h"
#include "io/chan.h"
#include "io/timer.h"

#define IDS_MAX 64
#define ROUND_US 10000
#define PENDING_MAX (1u << 20)
/* Of each kind: above what is allowed in all, if the manager keeps up. */
#define ROUND_MESSAGES 40

struct hostile {
	struct event_base *base;
	struct event *timer;
	struct noise_keypair key;
	struct mesh_id manager, ids[IDS_MAX];
	size_t id_count;
	const char *address, *token;
	uint64_t instance;
	unsigned rounds_left, rounds_half;
	struct chan_client *client;
	bool ready, reported;
	struct {
		uint64_t sent, connect_busy, connect_other, app_busy, app_other, link_busy,
			link_other, ended, registered, kept;
	} counts;
};

static void say(struct hostile *h, struct chan *ch, struct msg *m)
{
	m->seq = chan_next_seq(ch);
	if (chan_send(ch, m) >= 0)
		h->counts.sent++;
}

static const struct mesh_id *victim(struct hostile *h)
{
	return &h->ids[randombytes_uniform((uint32_t)h->id_count)];
}

static void ask(struct hostile *h, struct chan *ch)
{
	char name[16];
	struct msg m = {.type = MSG_ConnectWithRoute};
	m.connect_with_route.peer = *victim(h);
	m.connect_with_route.app = m.connect_with_route.from_app = bytes_str("x");
	say(h, ch, &m);
	m = (struct msg){.type = MSG_RegisterApp};
	snprintf(name, sizeof name, "h%u", randombytes_uniform(1000));
	m.register_app.app = bytes_str(name);
	m.register_app.type = bytes_str("echo");
	say(h, ch, &m);
	m = (struct msg){.type = MSG_ConnectDirectly};
	randombytes_buf(&m.connect_directly.peer, sizeof m.connect_directly.peer);
	say(h, ch, &m);
	m = (struct msg){.type = MSG_AppListRequest};
	say(h, ch, &m);
}

static void lie(struct hostile *h, struct chan *ch)
{
	struct msg m = {.type = MSG_TransportStats};
	m.transport_stats.stats_count = STATS_PER_MESSAGE_MAX;
	for (unsigned i = 0; i < STATS_PER_MESSAGE_MAX; i++)
		m.transport_stats.stats[i].transport = randombytes_uniform(100000);
	say(h, ch, &m);
	m = (struct msg){.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = randombytes_uniform(100000);
	m.transport_shutdown.code = CODE_LOST;
	say(h, ch, &m);
	m = (struct msg){.type = MSG_TransportSuspect};
	m.transport_suspect.transport = randombytes_uniform(100000);
	m.transport_suspect.suspect = 1;
	say(h, ch, &m);
	m = (struct msg){.type = MSG_CommonAck};
	m.common_ack.value = randombytes_random();
	say(h, ch, &m);
	m = (struct msg){.type = MSG_NodeReport};
	say(h, ch, &m);
}

static void report(struct hostile *h, struct chan *ch)
{
	struct msg m = {.type = MSG_NodeReport};
	struct msg_node_report *r = &m.node_report;
	r->last = 1;
	for (uint32_t i = 0; i < REPORT_ITEMS_MAX; i++) {
		r->transports[r->transports_count++] = (struct report_transport){
			.transport = i + 1, .peer = *victim(h), .initiator = i & 1, .up = 1};
		r->connections[r->connections_count++] = (struct report_connection){
			.connection = i + 1, .peer = *victim(h), .initiator = i & 1, .started = 1};
	}
	for (uint32_t i = 0; i < REPORT_RULES_MAX; i++)
		r->rules[r->rules_count++] = (struct report_rule){i + 1, i, i + 2, i};
	say(h, ch, &m);
}

static void on_up(struct chan *ch, const struct mesh_id *peer)
{
	struct hostile *h = chan_owner(ch);
	struct msg m = {.type = MSG_RegisterNode};
	(void)peer;
	m.register_node.version = PROTOCOL_VERSION;
	m.register_node.instance = h->instance;
	m.register_node.name = bytes_str("hostile");
	m.register_node.token = bytes_str(h->token);
	say(h, ch, &m);
}

static void registered(struct hostile *h, struct chan *ch, const struct msg_register_node_ack *a)
{
	if (a->code != CODE_OK)
		return;
	chan_ready(ch);
	h->ready = true;
	h->counts.registered++;
	h->counts.kept += a->keep;
	if (a->keep)
		report(h, ch);
}

static void count(uint16_t code, uint64_t *busy, uint64_t *other)
{
	++*(code == CODE_BUSY ? busy : other);
}

static void on_msg(struct chan *ch, const struct msg *m)
{
	struct hostile *h = chan_owner(ch);
	switch (m->type) {
	case MSG_RegisterNodeAck:
		registered(h, ch, &m->register_node_ack);
		break;
	case MSG_ConnectWithRouteAck:
		count(m->connect_with_route_ack.code, &h->counts.connect_busy,
		      &h->counts.connect_other);
		break;
	case MSG_RegisterAppAck:
		count(m->register_app_ack.code, &h->counts.app_busy, &h->counts.app_other);
		break;
	case MSG_ConnectDirectlyAck:
		count(m->connect_directly_ack.code, &h->counts.link_busy, &h->counts.link_other);
		break;
	case MSG_TransportShutdown:
	case MSG_ConnectionShutdown:
		h->counts.ended++;
		break;
	default:
		/* Whatever it is asked for: done, of course. */
		if (m->seq)
			chan_send_ack(ch, m->seq, CODE_OK, randombytes_random(), "");
	}
}

static void on_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct hostile *h = chan_owner(ch);
	h->ready = false;
	fprintf(stderr, "channel ended: %u %s\n", code, reason);
}

static int client_new(struct hostile *h)
{
	struct chan_options opt = {
		.name = "manager",
		.key = &h->key,
		.peer_role = FROM_MANAGER,
		.cb = {.on_up = on_up, .on_msg = on_msg, .on_down = on_down},
		.arg = h,
		.expected = &h->manager,
	};
	h->ready = false;
	return chan_client_new(&h->client, h->base, h->address, &opt);
}

static void on_round(evutil_socket_t fd, short what, void *arg)
{
	struct hostile *h = arg;
	struct chan *ch = chan_client_chan(h->client);
	struct timeval tv = {0, ROUND_US};
	(void)fd, (void)what;
	if (!h->rounds_left--) {
		event_base_loopexit(h->base, NULL);
		return;
	}
	if (h->rounds_left == h->rounds_half && !h->reported) {
		h->reported = true;
		chan_client_free(h->client);
		if (client_new(h))
			exit(1);
		ch = NULL;
	}
	for (unsigned i = 0;
	     ch && h->ready && i < ROUND_MESSAGES && chan_output_pending(ch) < PENDING_MAX; i++) {
		ask(h, ch);
		lie(h, ch);
		ch = chan_client_chan(h->client);
	}
	evtimer_add(h->timer, &tv);
}

static void print_counts(const struct hostile *h)
{
	printf("sent %llu\nconnect_busy %llu\nconnect_other %llu\napp_busy %llu\napp_other %llu\n"
	       "link_busy %llu\nlink_other %llu\nended %llu\nregistered %llu\nkept %llu\n",
	       (unsigned long long)h->counts.sent, (unsigned long long)h->counts.connect_busy,
	       (unsigned long long)h->counts.connect_other, (unsigned long long)h->counts.app_busy,
	       (unsigned long long)h->counts.app_other, (unsigned long long)h->counts.link_busy,
	       (unsigned long long)h->counts.link_other, (unsigned long long)h->counts.ended,
	       (unsigned long long)h->counts.registered, (unsigned long long)h->counts.kept);
}

int main(int argc, char **argv)
{
	static struct hostile h;
	uint8_t secret[NOISE_KEY_BYTES];
	if (argc < 6 || argc - 5 > IDS_MAX || sodium_init() < 0 ||
	    mesh_id_parse(&h.manager, argv[2])) {
		fprintf(stderr, "usage: hostile ADDRESS MANAGER-KEY SECONDS TOKEN ID...\n");
		return 2;
	}
	for (int i = 5; i < argc; i++)
		if (mesh_id_parse(&h.ids[h.id_count++], argv[i]))
			return 2;
	h.address = argv[1];
	h.token = argv[4];
	h.rounds_left = (unsigned)(atoi(argv[3]) * (1000000 / ROUND_US));
	h.rounds_half = h.rounds_left / 2;
	randombytes_buf(secret, sizeof secret);
	noise_keypair_from_secret(&h.key, secret);
	randombytes_buf(&h.instance, sizeof h.instance);
	h.base = event_base_new();
	h.timer = h.base ? evtimer_new(h.base, on_round, &h) : NULL;
	if (!h.timer || client_new(&h))
		return 1;
	on_round(-1, 0, &h);
	event_base_dispatch(h.base);
	print_counts(&h);
	chan_client_free(h.client);
	event_free(h.timer);
	event_base_free(h.base);
	return 0;
}
