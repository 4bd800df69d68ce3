/* Inside io/netlink*.c: building requests and reading answers. */
#ifndef IO_NETLINK_MSG_H
#define IO_NETLINK_MSG_H

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include "io/netlink.h"

#define NL_REQUEST_MAX 1024

/* The same over generic netlink, for nl_ask alone. */
int nl_open_generic(struct nl **out);

struct nl_request {
	_Alignas(struct nlmsghdr) char buf[NL_REQUEST_MAX];
	struct nlmsghdr *h;
};

/* Returns the zeroed family header of `len` bytes behind the netlink header. */
void *nl_request_init(struct nl_request *q, uint16_t type, uint16_t flags, size_t len);
void nl_put_addr(struct nl_request *q, uint16_t attr, const struct net_addr *a);

/* `answer` is called for each message that is neither error nor end; its non-zero value ends the
 * visits and is returned. */
typedef int nl_answer(const struct nlmsghdr *h, void *ctx);
int nl_ask(struct nl *nl, struct nl_request *q, nl_answer *answer, void *ctx);
int nl_list(struct nl *nl, uint16_t type, uint8_t family, nl_answer *answer, void *ctx);

/* The attributes behind a family header of `len` bytes, by type; those above `max` are left out.
 * False when the message is shorter than its header. */
bool nl_attrs(const struct nlmsghdr *h, size_t len, const struct nlattr **tb, uint16_t max);
/* For loops over attributes up to `end` (libmnl's macros do not compile without conversions). */
static inline bool nl_attr_in(const struct nlattr *a, const void *end)
{
	return mnl_attr_ok(a, (int)((const char *)end - (const char *)a));
}
static inline const void *nl_attr_end(const struct nlattr *nest)
{
	return (const char *)mnl_attr_get_payload(nest) + mnl_attr_get_payload_len(nest);
}
/* Zero, "" or no address when the attribute is missing or short. */
uint32_t nl_attr_u32(const struct nlattr *a);
uint8_t nl_attr_u8(const struct nlattr *a);
void nl_attr_str(const struct nlattr *a, char *out, size_t size);
struct net_addr nl_attr_addr(const struct nlattr *a, uint8_t family);

uint8_t nl_family_of(unsigned char af); /* AF_INET -> 4, AF_INET6 -> 6, else 0 */
unsigned char nl_af(uint8_t family);
#endif
