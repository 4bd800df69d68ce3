#include <stdarg.h>
#include <stdio.h>

#include "tunnel/tunnel.h"

void tunnel_say(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, TUNNEL_WHY_MAX, fmt, ap);
	va_end(ap);
}

void tunnel_say_memory(char *why)
{
	tunnel_say(why, "out of memory");
}
