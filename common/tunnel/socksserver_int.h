/* Between socksserver.c (who is let in, TCP) and socksrelay.c (UDP). */
#ifndef TUNNEL_SOCKSSERVER_INT_H
#define TUNNEL_SOCKSSERVER_INT_H

#include <event2/event.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/map.h"
#include "io/tcppair.h"
#include "tunnel/socksserver.h"
#include "tunnel/tunopt.h"
#include "wire/socks5.h"

struct socksrelay;
TAILQ_HEAD(socks_sessions, socks_session);

struct socks_lease {
	LIST_ENTRY(socks_lease) link;
	uint8_t key[TUNOPT_SID_KEY];
	struct socks5_login login; /* as a client writes it */
	struct socks_sessions sessions;
	size_t count;
	struct tunnel_counters counters;
};

enum socks_step { SOCKS_GREETING, SOCKS_LOGIN, SOCKS_REQUEST, SOCKS_CONNECTING, SOCKS_JOINED };

/* A connection of a client. */
struct socks_session {
	TAILQ_ENTRY(socks_session) link; /* of its lease, or of those who have not logged in */
	struct socksserver *server;
	struct socks_lease *lease;
	struct net_addr peer;
	enum socks_step step;
	int fd, target;
	struct event *event, *target_event;
	struct tcppair *pair;
	struct socksrelay *relay;
	uint64_t since_us; /* the step began */
	uint8_t heard[SOCKS5_MESSAGE_MAX];
	size_t heard_len;
};

struct socksserver {
	struct socksserver_config config;
	struct event_base *base;
	int fd;
	struct event *acceptable, *tick;
	LIST_HEAD(, socks_lease) leases;
	struct map by_sid;
	struct socks_sessions strangers; /* the oldest first */
	size_t stranger_count, count;
	struct log_limit limit;
};

/* May a client go there?  SOCKS5_OK, or why not. */
enum socks5_code socksserver_judge(struct socksserver *s, const struct net_addr *to);

/* The datagrams of a session; `bound` is where the client sends them.  0 or -errno. */
int socksrelay_new(struct socksrelay **out, struct socks_session *session, struct net_addr *bound);
void socksrelay_free(struct socksrelay *r);
uint64_t socksrelay_last_us(const struct socksrelay *r);
#endif
