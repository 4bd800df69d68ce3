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

#include "base/cstr.h"
#include "base/log.h"
#include "io/child.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLVED_LINK "systemd/resolve"
#define RESOLVED_DIR "/run/systemd/resolve"
#define MARK "# Name servers set by Meshnet's %s; the former file comes back when it ends.\n"
#define CONTENT_MAX 65536u
#define OWNER_MAX 64
#define LINKS_MAX 8u /* that systemd-resolved was told of */

enum saying { SAY_NOTHING, SAY_SERVERS, SAY_NAMES, SAY_REVERT };

struct resolv {
	const char *state_dir, *owner;
	struct event_base *base;
	/* systemd-resolved: one command at a time: the servers of the interface in use, that they
	 * answer for all names, and then that the others' do no more. */
	struct child *resolvectl;
	enum saying saying;
	struct net_addr servers[RESOLV_SERVERS_MAX];
	unsigned count;
	char interface[IF_NAMESIZE]; /* in use; "": none */
	char told[LINKS_MAX][IF_NAMESIZE];
	unsigned told_count;
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

	cstr_print(temporary, sizeof temporary, "/etc/.resolv.conf.%.*s", OWNER_MAX, owner);
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
	cstr_print(out, PATH_MAX, "%s/%s.resolv", state_dir, owner);
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
	cstr_print(temporary, sizeof temporary, "%s.new", path);
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

static void told_add(struct resolv *r, const char *interface)
{
	unsigned i = 0;

	while (i < r->told_count && strcmp(r->told[i], interface) != 0)
		i++;
	if (i == LINKS_MAX) /* it has most likely gone, and its settings with it */
		i = 0;
	else if (i == r->told_count)
		r->told_count++;
	cstr_copy(r->told[i], sizeof r->told[i], interface);
}

static void told_drop(struct resolv *r, unsigned i)
{
	memmove(r->told[i], r->told[i + 1], (--r->told_count - i) * sizeof r->told[0]);
}

static void on_resolvectl(struct child *c, int status, void *arg);

/* A command that still runs is ended: what it would have said counts no more, or is said later. */
static int start(struct resolv *r, enum saying saying, const char *const *argv)
{
	const struct child_spec spec = {
		.name = "resolvectl", .argv = argv, .on_exit = on_resolvectl, .arg = r};
	int rc;

	child_free(r->resolvectl);
	r->resolvectl = NULL;
	r->saying = saying;
	rc = child_start(&r->resolvectl, r->base, &spec);
	if (rc)
		log_error("cannot tell systemd-resolved of %s: resolvectl: %s", argv[2],
			  strerror(-rc));
	return rc;
}

static int say_servers(struct resolv *r)
{
	char text[RESOLV_SERVERS_MAX][NET_ADDR_TEXT];
	const char *argv[RESOLV_SERVERS_MAX + 4] = {"resolvectl", "dns", r->interface};

	for (unsigned i = 0; i < r->count; i++)
		argv[3 + i] = net_addr_ip_text(&r->servers[i], text[i]);
	return start(r, SAY_SERVERS, argv);
}

static int say_names(struct resolv *r)
{
	const char *const argv[] = {"resolvectl", "domain", r->interface, "~.", NULL};

	return start(r, SAY_NAMES, argv);
}

/* The links of tunnels that are not used any more: they may be there for long, as a standby. */
static int say_revert(struct resolv *r)
{
	for (unsigned i = 0; i < r->told_count;) {
		const char *const argv[] = {"resolvectl", "revert", r->told[i], NULL};

		if (strcmp(r->told[i], r->interface) == 0)
			i++;
		else if (!if_nametoindex(r->told[i]))
			told_drop(r, i);
		else
			return start(r, SAY_REVERT, argv);
	}
	return 0;
}

static void on_resolvectl(struct child *c, int status, void *arg)
{
	struct resolv *r = arg;
	enum saying said = r->saying;
	char text[48];

	(void)c;
	r->saying = SAY_NOTHING;
	/* With the interface its settings have gone too: nothing to complain about. */
	if (status && said != SAY_REVERT && r->interface[0] && if_nametoindex(r->interface))
		log_warn("resolvectl: %s; names may be resolved as before",
			 child_status_text(status, text));
	if (said == SAY_REVERT) {
		/* The first that is not the one in use, as when it was started; refused or not. */
		unsigned i = r->told_count && strcmp(r->told[0], r->interface) == 0;
		if (i < r->told_count)
			told_drop(r, i);
	}
	if (said == SAY_SERVERS && !status)
		(void)say_names(r);
	else
		(void)say_revert(r);
}

static int link_set(struct resolv *r, const char *interface, const struct net_addr *servers,
		    unsigned count)
{
	memcpy(r->servers, servers, count * sizeof *servers);
	r->count = count;
	cstr_copy(r->interface, sizeof r->interface, interface);
	told_add(r, interface);
	return say_servers(r);
}

static int link_restore(struct resolv *r)
{
	r->interface[0] = '\0';
	return say_revert(r);
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
