#include <string.h>

#include "scan/scan.h"

static const struct scan_module *const modules[] = {
	&scan_kernel, &scan_l2,	       &scan_babel, &scan_bird, &scan_frr, &scan_olsr,
	&scan_batman, &scan_yggdrasil, &scan_cjdns, &scan_mesh, NULL};
_Static_assert(sizeof modules / sizeof *modules <= SCAN_MODULES_MAX + 1, "sets of modules");

const struct scan_module *const *scan_modules(void)
{
	return modules;
}

const struct scan_module *scan_module_find(const char *name)
{
	for (size_t i = 0; modules[i]; i++)
		if (strcmp(modules[i]->name, name) == 0)
			return modules[i];
	return NULL;
}
