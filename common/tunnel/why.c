#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "tunnel/tunnel.h"

int tunnel_why(char *why, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, TUNNEL_WHY_MAX, fmt, ap);
	va_end(ap);
	return rc;
}

int tunnel_no_memory(char *why)
{
	return tunnel_why(why, -ENOMEM, "out of memory");
}
