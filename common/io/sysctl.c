#include "io/sysctl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cstr.h"

#define SYSCTL_KEY_MAX 128
#define SYSCTL_ROOT "/proc/sys/"

/* Keys may hold names that others chose (interfaces): no path component may be empty or climb. */
static int sysctl_path(const char *key, char *out, size_t size)
{
	size_t len = strlen(key), component = 0;

	if (len == 0 || len > SYSCTL_KEY_MAX || sizeof SYSCTL_ROOT + len > size)
		return -EINVAL;
	char *p = stpcpy(out, SYSCTL_ROOT);
	for (size_t i = 0; i <= len; i++) {
		char c = key[i] == '.' ? '/' : key[i] == '/' ? '.' : key[i];
		if (c && !isalnum((unsigned char)c) && !strchr("_-./:@", c))
			return -EINVAL;
		p[i] = c;
		if (c != '/' && c != '\0')
			continue;
		if (i == component || p[component] == '.')
			return -EINVAL;
		component = i + 1;
	}
	return 0;
}

int sysctl_read(const char *key, char *out, size_t size)
{
	char path[sizeof SYSCTL_ROOT + SYSCTL_KEY_MAX];
	int rc = sysctl_path(key, path, sizeof path);

	if (rc)
		return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, out, size);
	rc = n < 0 ? -errno : (size_t)n == size ? -EMSGSIZE : 0;
	close(fd);
	if (rc)
		return rc;
	while (n > 0 && isspace((unsigned char)out[n - 1]))
		n--;
	out[n] = '\0';
	return 0;
}

int sysctl_write(const char *key, const char *value)
{
	char path[sizeof SYSCTL_ROOT + SYSCTL_KEY_MAX];
	size_t len = strlen(value);
	int rc = sysctl_path(key, path, sizeof path);

	if (rc)
		return rc;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, value, len);
	rc = n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
	close(fd);
	return rc;
}

void sysctl_quiet_ipv6(const char *interface)
{
	char key[64];

	/* A host without IPv6 has no such key. */
	cstr_print(key, sizeof key, "net.ipv6.conf.%s.addr_gen_mode", interface);
	for (char *p = key + strlen("net.ipv6.conf."); *p && p < strrchr(key, '.'); p++)
		if (*p == '.')
			*p = '/';
	sysctl_write(key, "1");
}
