#include <string.h>

#include "tunnel/tunnel.h"

static const struct tunnel_method *const methods[] = {
	&tunnel_mesh,	   &tunnel_wireguard, &tunnel_fastd, &tunnel_direct,
	&tunnel_gre,	   &tunnel_ipip,      &tunnel_vxlan, &tunnel_openvpn,
	&tunnel_softether, &tunnel_cjdns,     &tunnel_socks, NULL,
};

const struct tunnel_method *const *tunnel_methods(void)
{
	return methods;
}

const struct tunnel_method *tunnel_method_find(const char *name)
{
	for (size_t i = 0; methods[i]; i++)
		if (strcmp(methods[i]->name, name) == 0)
			return methods[i];
	return NULL;
}
