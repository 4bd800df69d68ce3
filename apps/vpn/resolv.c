#include "vpn/resolv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define TEMPORARY "/etc/.resolv.conf.meshnet"
#define SAVED_NAME "vpn-client.resolv"
#define MARK_LINE                                                                                  \
	"# Name servers of a Meshnet VPN; the former file comes back when vpn-client ends.\n"
#define RESOLVED_DIR "/run/systemd/resolve"
#define CONTENT_MAX 65536u

/* ---- files ---- */

/* What a path holds, by its own name: a regular file's bytes, a link's target, or nothing. */
struct content {
	char kind; /* 'f', 'l', '-' */
	mode_t mode;
	size_t len;
	char data[CONTENT_MAX];
};

static int read_whole(const char *path, char *out, size_t size, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	for (*len = 0; n > 0 && *len<size; *len += n> 0 ? (size_t)n : 0)
		n = read(fd, out + *len, size - *len);
	if (n)
		err = n < 0 ? -errno : -EFBIG;
	close(fd);
	return err;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_file(const char *path, int flags, mode_t mode, const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags, mode), err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, data, len);
	if (!err && (flags & O_CREAT) && fchmod(fd, mode))
		err = -errno;
	if (!err && fsync(fd))
		err = -errno;
	close(fd);
	return err;
}

static int content_read(struct content *c)
{
	struct stat st;

	*c = (struct content){.kind = '-'};
	if (lstat(RESOLV_CONF, &st))
		return errno == ENOENT ? 0 : -errno;
	c->mode = st.st_mode & 07777;
	if (S_ISREG(st.st_mode)) {
		c->kind = 'f';
		return read_whole(RESOLV_CONF, c->data, sizeof c->data, &c->len);
	}
	c->kind = 'l';
	ssize_t n = S_ISLNK(st.st_mode) ? readlink(RESOLV_CONF, c->data, sizeof c->data) : -1;
	if (n < 0 || n >= PATH_MAX)
		return -EINVAL;
	c->len = (size_t)n;
	c->data[c->len] = '\0';
	return 0;
}

/* Whoever reads it sees the old file or the new one.  A file that is a mount of its own (ip netns,
 * containers) cannot be replaced, only rewritten. */
static int content_put(const struct content *c)
{
	int err = 0;

	(void)unlink(TEMPORARY);
	if (c->kind == '-')
		return unlink(RESOLV_CONF) && errno != ENOENT ? -errno : 0;
	if (c->kind == 'l')
		err = symlink(c->data, TEMPORARY) ? -errno : 0;
	else
		err = write_file(TEMPORARY, O_CREAT | O_EXCL, c->mode, c->data, c->len);
	if (!err && rename(TEMPORARY, RESOLV_CONF))
		err = -errno;
	if (err)
		(void)unlink(TEMPORARY);
	if (err == -EBUSY && c->kind == 'f')
		err = write_file(RESOLV_CONF, O_TRUNC, c->mode, c->data, c->len);
	return err;
}

/* ---- what was there ---- */

static const char *saved_path(const char *state_dir, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/" SAVED_NAME, state_dir);
	return out;
}

static int save(const char *state_dir, const struct content *c)
{
	char path[PATH_MAX], temporary[PATH_MAX + 4];
	char *text = malloc(CONTENT_MAX + 32);
	int head, err;

	if (!text)
		return -ENOMEM;
	saved_path(state_dir, path);
	snprintf(temporary, sizeof temporary, "%s.new", path);
	head = snprintf(text, 32, "%c %o\n", c->kind, (unsigned)c->mode);
	memcpy(text + head, c->data, c->len);
	err = write_file(temporary, O_CREAT | O_TRUNC, 0600, text, (size_t)head + c->len);
	free(text);
	return err ? err : rename(temporary, path) ? -errno : 0;
}

/* -ENOENT: nothing was saved. */
static int load(const char *state_dir, struct content *c)
{
	char path[PATH_MAX], *text = malloc(CONTENT_MAX + 32), *body;
	unsigned mode;
	size_t len = 0;
	int err = text ? read_whole(saved_path(state_dir, path), text, CONTENT_MAX + 32, &len)
		       : -ENOMEM;

	body = err ? NULL : memchr(text, '\n', len < 32 ? len : 32);
	if (!err && (!body || sscanf(text, "%c %o", &c->kind, &mode) != 2 ||
		     !strchr("fl-", c->kind) || len - (size_t)(body + 1 - text) >= CONTENT_MAX))
		err = -EBADMSG;
	if (!err) {
		c->mode = (mode_t)mode & 07777;
		c->len = len - (size_t)(body + 1 - text);
		memcpy(c->data, body + 1, c->len);
		c->data[c->len] = '\0';
	}
	free(text);
	return err;
}

static bool is_ours(const struct content *c)
{
	return c->kind == 'f' && c->len >= strlen(MARK_LINE) &&
	       memcmp(c->data, MARK_LINE, strlen(MARK_LINE)) == 0;
}

/* ---- set and restore ---- */

static void content_ours(struct content *c, const struct net_addr *servers, unsigned count)
{
	char text[NET_ADDR_TEXT];
	int n = snprintf(c->data, sizeof c->data, "%s", MARK_LINE);

	for (unsigned i = 0; i < count; i++)
		n += snprintf(c->data + n, sizeof c->data - (size_t)n, "nameserver %s\n",
			      net_addr_ip_text(&servers[i], text));
	c->kind = 'f';
	c->mode = 0644;
	c->len = (size_t)n;
}

int vpn_resolv_set(const char *state_dir, const struct net_addr *servers, unsigned count)
{
	struct content *c = malloc(sizeof *c);
	int err = c ? content_read(c) : -ENOMEM;

	if (!err && !is_ours(c))
		err = save(state_dir, c);
	if (!err) {
		content_ours(c, servers, count);
		err = content_put(c);
	}
	free(c);
	if (err)
		log_error("cannot set the name servers in " RESOLV_CONF ": %s", strerror(-err));
	return err;
}

int vpn_resolv_restore(const char *state_dir)
{
	struct content *now = malloc(sizeof *now), *before = malloc(sizeof *before);
	char path[PATH_MAX];
	int err = now && before ? load(state_dir, before) : -ENOMEM;
	bool none = err == -ENOENT;

	if (!err)
		err = content_read(now);
	if (!err && is_ours(now))
		err = content_put(before);
	else if (!err)
		log_info(RESOLV_CONF " was changed by somebody else; left as it is");
	if (!err && unlink(saved_path(state_dir, path)))
		err = -errno;
	free(now);
	free(before);
	if (err && !none)
		log_error("cannot put " RESOLV_CONF " back: %s", strerror(-err));
	return none ? 0 : err;
}

bool vpn_resolv_is_managed(void)
{
	char target[PATH_MAX];
	ssize_t n = readlink(RESOLV_CONF, target, sizeof target - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return strstr(target, "systemd/resolve") && access(RESOLVED_DIR, X_OK) == 0;
}
