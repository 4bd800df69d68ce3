#include "base/sid.h"

#include <string.h>

bool sid_valid(const char *sid)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t len = strnlen(sid, SID_MAX + 1);

	return len > 0 && len <= SID_MAX && strspn(sid, letters) == len;
}
