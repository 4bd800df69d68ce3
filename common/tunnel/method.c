#include <string.h>

#include "tunnel/tunnel.h"

#define BOTH(noun) &tunnel_##noun,
#define GATEWAY(noun) &tunnel_##noun##_gateway,
#define CLIENT(noun) &tunnel_##noun##_client,

static const struct tunnel_method *const methods[] = {TUNNEL_ALL(BOTH) NULL};
static const struct tunnel_method *const gateway_methods[] = {TUNNEL_ALL(GATEWAY) NULL};
static const struct tunnel_method *const client_methods[] = {TUNNEL_ALL(CLIENT) NULL};

static const struct tunnel_method *find(const struct tunnel_method *const *in, const char *name)
{
	while (*in && strcmp((*in)->name, name) != 0)
		in++;
	return *in;
}

const struct tunnel_method *tunnel_gateway_find(const char *name)
{
	return find(gateway_methods, name);
}

const struct tunnel_method *tunnel_client_find(const char *name)
{
	return find(client_methods, name);
}

const struct tunnel_method *tunnel_method_find(const char *name)
{
	return find(methods, name);
}

const struct tunnel_method *const *tunnel_methods(void)
{
	return methods;
}
