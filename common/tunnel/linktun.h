/*
 * What the methods have in common that are links of the kernel (ipip.c, gre.c, vxlan.c): at each
 * end one link for each lease, point to point between the outer addresses, with the leased
 * address.  A method says which link (struct linktun_kind); its functions are made of those here.
 *
 *   answer   {"host": outer address of the subscriber as the gateway sees it, "server": ours,
 *             "mtu": n, and what the method adds}
 *
 * A subscriber whose own address is another one than "host", or that called another one than
 * "server", is behind address translation, which these links do not pass: it says so and closes.
 */
#ifndef TUNNEL_LINKTUN_H
#define TUNNEL_LINKTUN_H

#include "io/netlink.h"
#include "tunnel/tunnel.h"

/* The link of one lease, at either end. */
struct linktun_params {
	struct nl_tunnel tunnel;
	uint8_t peer_mac[6]; /* of links with link-layer addresses */
};

/* Which link carries what over which addresses; of those that fit, the first that the kernel has.
 */
struct linktun_choice {
	uint8_t outer; /* family */
	bool ip6;      /* carries IPv6 too, not only IPv4 */
	enum nl_tunnel_kind kind;
};

struct linktun_kind {
	const char *name;
	const struct linktun_choice *choices;
	size_t choice_count;
	bool ethernet; /* its links have link-layer addresses: peer_mac is set */
	/* Both may be NULL: nothing more to say.  The gateway's: fills in all but kind, local and
	 * remote; adds to `answer` what the other end must know. */
	void (*gateway_fill)(const struct tunnel_env *env, const struct tunnel_lease *lease,
			     struct linktun_params *p, struct json_object *answer);
	/* The subscriber's, from the answer.  0, or -EPROTO and why. */
	int (*client_fill)(const struct tunnel_grant *grant, struct linktun_params *p, char *why);
};

int linktun_probe(const struct linktun_kind *kind, const struct tunnel_env *env, char *why);

int linktun_gateway_start(const struct linktun_kind *kind, void **out, const struct tunnel_env *env,
			  const struct tunnel_gateway_config *config, char *why);
void linktun_gateway_info(void *arg, struct json_object *entry);
int linktun_gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			 char interface[IFNAMSIZ], char *why);
void linktun_gateway_source(void *arg, const char *sid, struct tunnel_source *out);
void linktun_gateway_close(void *arg, const char *sid);
int linktun_gateway_counters(void *arg, const char *sid, struct tunnel_counters *out);
void linktun_gateway_stop(void *arg);

int linktun_client_open(const struct linktun_kind *kind, void **out, const struct tunnel_env *env,
			const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			char *why);
const char *linktun_client_interface(void *arg);
void linktun_client_path(void *arg, struct tunnel_path *out);
void linktun_client_counters(void *arg, struct tunnel_counters *out);
void linktun_client_close(void *arg);

/* The method `tunnel_IDENT` and those of its functions that must know its `kind`: last in its file.
 */
#define LINKTUN_METHOD(ident)                                                                      \
	static int ident##_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)     \
	{                                                                                          \
		(void)end;                                                                         \
		return linktun_probe(&kind, env, why);                                             \
	}                                                                                          \
	static int ident##_gateway_start(void **gw, const struct tunnel_env *env,                  \
					 const struct tunnel_gateway_config *config, char *why)    \
	{                                                                                          \
		return linktun_gateway_start(&kind, gw, env, config, why);                         \
	}                                                                                          \
	static int ident##_client_open(void **client, const struct tunnel_env *env,                \
				       const struct tunnel_grant *grant,                           \
				       tunnel_client_state *state, void *arg, char *why)           \
	{                                                                                          \
		return linktun_client_open(&kind, client, env, grant, state, arg, why);            \
	}                                                                                          \
	TUNNEL_METHOD(                                                                             \
		ident, (.name = #ident, .probe = ident##_probe),                                   \
		(.gateway_start = ident##_gateway_start, .gateway_info = linktun_gateway_info,     \
		 .gateway_open = linktun_gateway_open, .gateway_source = linktun_gateway_source,   \
		 .gateway_close = linktun_gateway_close,                                           \
		 .gateway_counters = linktun_gateway_counters,                                     \
		 .gateway_stop = linktun_gateway_stop),                                            \
		(.client_open = ident##_client_open, .client_interface = linktun_client_interface, \
		 .client_path = linktun_client_path, .client_counters = linktun_client_counters,   \
		 .client_close = linktun_client_close))

/* Bytes that only who knows the sid can tell, the same after a restart; `what` keeps several apart.
 */
void linktun_secret(const char *sid, const char *what, void *out, size_t len);
/* A number of the answer within these bounds; false: there is none. */
bool linktun_number(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out);
void linktun_put_address(struct json_object *o, const char *key, const struct net_addr *a);
bool linktun_get_address(struct json_object *o, const char *key, struct net_addr *out);
void linktun_put_mac(struct json_object *o, const char *key, const uint8_t mac[6]);
bool linktun_get_mac(struct json_object *o, const char *key, uint8_t mac[6]);
/* Walks this host's addresses until `match` answers 1: 0, or -ENOENT when it never does. */
int linktun_find_address(struct nl *nl, uint8_t family, nl_addr_visit *match, void *ctx);
/* The index of the link of ours that has this address; -ENOENT. */
int linktun_link_of(struct nl *nl, const struct net_addr *a);
#endif
