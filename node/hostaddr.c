#include "node/hostaddr.h"

#include <fnmatch.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include "io/config_value.h"
#include "io/sockaddr.h"

bool hostaddr_excluded(const char *name, const char *exclude)
{
	char pattern[64];

	while (config_list_next(&exclude, pattern, sizeof pattern))
		if (fnmatch(pattern, name, 0) == 0)
			return true;
	return false;
}

static bool is_link_local(const struct net_addr *a)
{
	if (a->family == 4)
		return a->ip[0] == 169 && a->ip[1] == 254;
	return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static size_t collect(const struct ifaddrs *list, struct net_addr *out, size_t n, size_t max,
		      const char *exclude, uint8_t family, bool loopback)
{
	for (const struct ifaddrs *i = list; i && n < max; i = i->ifa_next) {
		struct net_addr a;
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) ||
		    hostaddr_excluded(i->ifa_name, exclude))
			continue;
		sockaddr_to_net(&a, i->ifa_addr);
		a.port = 0;
		if (a.family == family && net_addr_is_loopback(&a) == loopback &&
		    !is_link_local(&a))
			out[n++] = a;
	}
	return n;
}

size_t hostaddr_list(struct net_addr *out, size_t max, const char *exclude)
{
	struct ifaddrs *list;
	size_t n = 0;

	if (getifaddrs(&list))
		return 0;
	n = collect(list, out, n, max, exclude, 4, false);
	n = collect(list, out, n, max, exclude, 6, false);
	if (!n)
		n = collect(list, out, n, max, exclude, 4, true);
	if (!n)
		n = collect(list, out, n, max, exclude, 6, true);
	freeifaddrs(list);
	return n;
}

size_t hostaddr_parse(struct net_addr *out, size_t max, const char *text)
{
	char item[NET_ADDR_TEXT];
	size_t n = 0;

	while (n < max && config_list_next(&text, item, sizeof item))
		if (net_addr_parse(&out[n], item, 0) == 0)
			n++;
	return n;
}
