#include "gatewayd/hooks.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cstr.h"

#define ARGUMENTS 9
#define ARGUMENT_MAX 128

/* What a peer chose stands as one argument, but nothing that a careless script could take for an
 * option or a path. */
static void argument(char out[ARGUMENT_MAX], const char *text)
{
	size_t n = 0;

	for (; *text && n < ARGUMENT_MAX - 1; text++)
		if ((unsigned char)*text >= ' ' && *text != 0x7f && !(n == 0 && *text == '-'))
			out[n++] = *text;
	if (!n)
		out[n++] = '-';
	out[n] = '\0';
}

void gw_hooks_run(struct hooks *h, const char *command, const char *event, const struct lease *l,
		  uint64_t timeout_wall_s)
{
	char text[MESH_ID_TEXT], a[ARGUMENTS][ARGUMENT_MAX], name[HOOK_NAME_MAX + 1];
	const char *args[ARGUMENTS + 1] = {NULL};

	if (!*command)
		return;
	argument(a[0], event);
	cstr_copy(a[1], ARGUMENT_MAX, l->sid);
	argument(a[2], l->method);
	argument(a[3], l->name);
	if (l->who.host.family)
		argument(a[4], net_addr_ip_text(&l->who.host, text));
	else
		argument(a[4], mesh_id_text(&l->who.node, text));
	argument(a[5], l->ip4.family ? net_addr_ip_text(&l->ip4, text) : "");
	argument(a[6], l->ip6.family ? net_addr_ip_text(&l->ip6, text) : "");
	argument(a[7], l->interface);
	cstr_print(a[8], ARGUMENT_MAX, "%" PRIu64, timeout_wall_s);
	for (size_t i = 0; i < ARGUMENTS; i++)
		args[i] = a[i];
	cstr_print(name, sizeof(name), "%s of %.8s...", event, l->sid);
	hooks_run(h, name, command, args, NULL);
}
