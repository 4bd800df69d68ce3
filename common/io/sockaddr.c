#include "io/sockaddr.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

socklen_t sockaddr_from_net(struct sockaddr_storage *out, const struct net_addr *a)
{
	memset(out, 0, sizeof *out);
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip, 4);
		return sizeof *in;
	}
	if (a->family == 6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(a->port);
		memcpy(&in6->sin6_addr, a->ip, 16);
		return sizeof *in6;
	}
	return 0;
}

static void from_in6(struct net_addr *out, const struct sockaddr_in6 *in6)
{
	out->port = ntohs(in6->sin6_port);
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		out->family = 4;
		memcpy(out->ip, in6->sin6_addr.s6_addr + 12, 4);
	} else {
		out->family = 6;
		memcpy(out->ip, in6->sin6_addr.s6_addr, 16);
	}
}

void sockaddr_to_net(struct net_addr *out, const struct sockaddr *sa)
{
	*out = (struct net_addr){0};
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
		out->family = 4;
		out->port = ntohs(in->sin_port);
		memcpy(out->ip, &in->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		from_in6(out, (const struct sockaddr_in6 *)sa);
	}
}

const char *sockaddr_unix_path(const char *text)
{
	if (strncmp(text, "unix:", 5) == 0)
		text += 5;
	return text[0] == '/' ? text : NULL;
}

socklen_t sockaddr_local_twin(struct sockaddr_storage *out, uint16_t port)
{
	struct sockaddr_un *un = (struct sockaddr_un *)out;
	int len;

	memset(out, 0, sizeof *out);
	un->sun_family = AF_UNIX;
	len = snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "meshnet-%u", port);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

socklen_t sockaddr_from_path(struct sockaddr_storage *out, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)out;
	size_t len = strlen(path);

	memset(out, 0, sizeof *out);
	if (len == 0 || len >= sizeof un->sun_path)
		return 0;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
}
