#include "io/resolv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/child.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLVED_LINK "systemd/resolve"
#define RESOLVED_DIR "/run/systemd/resolve"
#define MARK "# Name servers set by Meshnet's %s; the former file comes back when it ends.\n"
#define CONTENT_MAX 65536u
#define OWNER_MAX 64

struct resolv {
	const char *state_dir, *owner;
	struct event_base *base;
	/* systemd-resolved: one command at a time; `all_names` is yet to be said */
	struct child *resolvectl;
	bool all_names;
	char interface[IF_NAMESIZE]; /* "": nothing was said of any */
};

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
static int content_put(const char *owner, const struct content *c)
{
	char temporary[OWNER_MAX + 32];
	int err = 0;

	snprintf(temporary, sizeof temporary, "/etc/.resolv.conf.%.*s", OWNER_MAX, owner);
	(void)unlink(temporary);
	if (c->kind == '-')
		return unlink(RESOLV_CONF) && errno != ENOENT ? -errno : 0;
	if (c->kind == 'l')
		err = symlink(c->data, temporary) ? -errno : 0;
	else
		err = write_file(temporary, O_CREAT | O_EXCL, c->mode, c->data, c->len);
	if (!err && rename(temporary, RESOLV_CONF))
		err = -errno;
	if (err)
		(void)unlink(temporary);
	if (err == -EBUSY && c->kind == 'f')
		err = write_file(RESOLV_CONF, O_TRUNC, c->mode, c->data, c->len);
	return err;
}

/* ---- what was there ---- */

static const char *saved_path(const char *state_dir, const char *owner, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/%s.resolv", state_dir, owner);
	return out;
}

static int save(const char *state_dir, const char *owner, const struct content *c)
{
	char path[PATH_MAX], temporary[PATH_MAX + 4];
	char *text = malloc(CONTENT_MAX + 32);
	int head, err;

	if (!text)
		return -ENOMEM;
	saved_path(state_dir, owner, path);
	snprintf(temporary, sizeof temporary, "%s.new", path);
	head = snprintf(text, 32, "%c %o\n", c->kind, (unsigned)c->mode);
	memcpy(text + head, c->data, c->len);
	err = write_file(temporary, O_CREAT | O_TRUNC, 0600, text, (size_t)head + c->len);
	free(text);
	return err ? err : rename(temporary, path) ? -errno : 0;
}

/* -ENOENT: nothing was saved. */
static int load(const char *state_dir, const char *owner, struct content *c)
{
	char path[PATH_MAX], *text = malloc(CONTENT_MAX + 32), *body;
	unsigned mode;
	size_t len = 0;
	int err =
		text ? read_whole(saved_path(state_dir, owner, path), text, CONTENT_MAX + 32, &len)
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

static bool is_ours(const char *owner, const struct content *c)
{
	char mark[sizeof MARK + OWNER_MAX];
	size_t len = (size_t)snprintf(mark, sizeof mark, MARK, owner);

	return c->kind == 'f' && c->len >= len && memcmp(c->data, mark, len) == 0;
}

static void content_ours(struct content *c, const char *owner, const struct net_addr *servers,
			 unsigned count)
{
	char text[NET_ADDR_TEXT];
	int n = snprintf(c->data, sizeof c->data, MARK, owner);

	for (unsigned i = 0; i < count; i++)
		n += snprintf(c->data + n, sizeof c->data - (size_t)n, "nameserver %s\n",
			      net_addr_ip_text(&servers[i], text));
	c->kind = 'f';
	c->mode = 0644;
	c->len = (size_t)n;
}

static int file_set(const struct resolv *r, const struct net_addr *servers, unsigned count)
{
	struct content *c = malloc(sizeof *c);
	int err = c ? content_read(c) : -ENOMEM;

	if (!err && !is_ours(r->owner, c))
		err = save(r->state_dir, r->owner, c);
	if (!err) {
		content_ours(c, r->owner, servers, count);
		err = content_put(r->owner, c);
	}
	free(c);
	if (err)
		log_error("cannot set the name servers in " RESOLV_CONF ": %s", strerror(-err));
	return err;
}

int resolv_cleanup(const char *state_dir, const char *owner)
{
	struct content *now = malloc(sizeof *now), *before = malloc(sizeof *before);
	char path[PATH_MAX];
	int err = now && before ? load(state_dir, owner, before) : -ENOMEM;
	bool none = err == -ENOENT;

	if (!err)
		err = content_read(now);
	if (!err && is_ours(owner, now))
		err = content_put(owner, before);
	else if (!err)
		log_info(RESOLV_CONF " was changed by somebody else; left as it is");
	if (!err && unlink(saved_path(state_dir, owner, path)))
		err = -errno;
	free(now);
	free(before);
	if (err && !none)
		log_error("cannot put " RESOLV_CONF " back: %s", strerror(-err));
	return none ? 0 : err;
}

/* ---- systemd-resolved ---- */

static bool is_managed(void)
{
	char target[PATH_MAX];
	ssize_t n = readlink(RESOLV_CONF, target, sizeof target - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return strstr(target, RESOLVED_LINK) && access(RESOLVED_DIR, X_OK) == 0;
}

static void on_resolvectl(struct child *c, int status, void *arg);

static int start(struct resolv *r, const char *const *argv)
{
	const struct child_spec spec = {
		.name = "resolvectl", .argv = argv, .on_exit = on_resolvectl, .arg = r};
	int rc;

	child_free(r->resolvectl);
	r->resolvectl = NULL;
	rc = child_start(&r->resolvectl, r->base, &spec);
	if (rc)
		log_error("cannot tell systemd-resolved of %s: resolvectl: %s", r->interface,
			  strerror(-rc));
	return rc;
}

static void on_resolvectl(struct child *c, int status, void *arg)
{
	struct resolv *r = arg;
	const char *const argv[] = {"resolvectl", "domain", r->interface, "~.", NULL};
	char text[48];
	bool more = r->all_names;

	(void)c;
	r->all_names = false;
	/* With the interface its settings have gone too: nothing to complain about. */
	if (status && r->interface[0] && if_nametoindex(r->interface))
		log_warn("resolvectl: %s; names may be resolved as before",
			 child_status_text(status, text));
	else if (!status && more)
		(void)start(r, argv);
}

static int link_set(struct resolv *r, const char *interface, const struct net_addr *servers,
		    unsigned count)
{
	char text[RESOLV_SERVERS_MAX][NET_ADDR_TEXT];
	const char *argv[RESOLV_SERVERS_MAX + 4] = {"resolvectl", "dns", r->interface};
	int rc;

	for (unsigned i = 0; i < count; i++)
		argv[3 + i] = net_addr_ip_text(&servers[i], text[i]);
	snprintf(r->interface, sizeof r->interface, "%s", interface);
	rc = start(r, argv);
	r->all_names = !rc;
	return rc;
}

static int link_restore(struct resolv *r)
{
	const char *const argv[] = {"resolvectl", "revert", r->interface, NULL};
	int rc = 0;

	r->all_names = false;
	if (r->interface[0] && if_nametoindex(r->interface))
		rc = start(r, argv);
	if (!rc)
		r->interface[0] = '\0';
	return rc;
}

/* ---- both ---- */

int resolv_open(struct resolv **out, struct event_base *base, const char *state_dir,
		const char *owner)
{
	struct resolv *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	*r = (struct resolv){.state_dir = state_dir, .owner = owner, .base = base};
	(void)resolv_cleanup(state_dir, owner);
	*out = r;
	return 0;
}

int resolv_set(struct resolv *r, const char *interface, const struct net_addr *servers,
	       unsigned count)
{
	if (!count || count > RESOLV_SERVERS_MAX)
		return -EINVAL;
	if (is_managed())
		return link_set(r, interface, servers, count);
	return file_set(r, servers, count);
}

int resolv_restore(struct resolv *r)
{
	int linked = link_restore(r), filed = resolv_cleanup(r->state_dir, r->owner);

	return linked ? linked : filed;
}

void resolv_close(struct resolv *r)
{
	if (!r)
		return;
	(void)resolv_restore(r);
	child_free(r->resolvectl);
	free(r);
}
