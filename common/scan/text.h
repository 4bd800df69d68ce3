/* What parsers of network modules have in common.  Pure. */
#ifndef SCAN_TEXT_H
#define SCAN_TEXT_H

#include "base/buf.h"
#include "base/prefix.h"
#include "scan/scan.h"

#define TEXT_WORD_MAX 128 /* longer words are cut */

struct json_object;

/* Takes the next line (without its end) off `rest`; false when nothing is left. */
bool text_line(struct bytes *rest, struct bytes *line);
/* Takes the next word off `line` into `out`; false, and "" there, when none is left. */
bool text_word(struct bytes *line, char out[TEXT_WORD_MAX]);
/* The word behind the word `key`, looked for from the beginning; false and "" without it. */
bool text_after(struct bytes line, const char *key, char out[TEXT_WORD_MAX]);
bool text_begins(struct bytes line, const char *with);
/* A number of digits only; `otherwise` for anything else. */
uint32_t text_number(const char *text, uint32_t otherwise);

/*
 * The length of the first JSON object or array in the bytes, with what stands before it; 0 when
 * more bytes are needed.  Only finds its end (brackets and strings): parse it after that.
 */
size_t text_json_span(const uint8_t *data, size_t len);
/* Takes the next JSON object or array off `rest`, parsed strictly; NULL when none is left, or for
 * what is none (then *bad).  The caller puts it. */
struct json_object *text_json(struct bytes *rest, bool *bad);
/* A member by name, of this type; NULL. */
struct json_object *text_json_get(struct json_object *o, const char *key, int type);
/* Its text; "" when there is none. */
const char *text_json_str(struct json_object *o, const char *key);
/* A number, rounded; negative ones and none are 0. */
uint32_t text_json_u32(struct json_object *o, const char *key);

/* A host with this address ("10.0.0.1", "10.0.0.1/32"); false for what is none, for the
 * unspecified address and multicast. */
bool scan_host_of(struct net_host *out, const char *address, const char *how);
/*
 * The host that a route leads to: the address of a host route; of a small network (IPv4, /24 and
 * smaller) the first address, where its router usually sits.  False for others.
 */
bool scan_host_of_route(struct net_host *out, const struct net_prefix *dst, const char *how);
bool scan_addr_usable(const struct net_addr *a);

int scan_put_host(const struct scan_sink *sink, const struct net_host *host);
/* NULL: our own host.  A link of a host to itself is left out. */
int scan_put_link(const struct scan_sink *sink, const struct net_host *a, const struct net_host *b,
		  uint32_t cost);
#endif
