/* Values of the configuration: what a key accepts, and help with lists and networks. */
#ifndef IO_CONFIG_VALUE_H
#define IO_CONFIG_VALUE_H

#include "base/addr.h"
#include "io/config.h"

/* "30..86400", "bbr|cubic", "yes|no", "IP:PORT", ...: what the key accepts.  Returns `out`. */
const char *config_key_range(const struct config_key *k, char *out, size_t size);

struct config_value {
	uint64_t num; /* CONFIG_U64, CONFIG_BOOL */
	char text[CONFIG_LINE_MAX_BYTES + 1];
};
/* False when the key does not accept `text`. */
bool config_value_parse(const struct config_key *k, const char *text, struct config_value *out);

/* Without case and underscores, as all names of sections and keys are compared. */
bool config_name_equal(const char *a, const char *b);

/*
 * Steps through a comma separated value: copies the next element, without blanks around it, to
 * `out`. False at the end.  Empty elements are skipped, those too long for `out` are cut. const
 * char *at = cfg->gateway_methods; while (config_list_next(&at, item, sizeof item)) ...
 */
bool config_list_next(const char **at, char *out, size_t size);
/* Is `word` an element?  Compared without case. */
bool config_list_has(const char *list, const char *word);
bool config_list_contains(const char *list, const char *item);

/* "10.0.0.0/8"; without "/BITS" one address.  0 or -EINVAL. */
int config_net_parse(const char *text, struct net_addr *net, unsigned *bits);
/* True when `a` is in one of the networks of a NETS value; an IPv4 address mapped into IPv6 counts
 * as IPv4. */
bool config_nets_contain(const char *nets, const struct net_addr *a);
#endif
