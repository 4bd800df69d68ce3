#include "io/hostjournal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/hostjournal_int.h"
#include "io/store.h"

#define BOOT_ID_KEY "kernel.random.boot_id"

enum { Q_DROP_BOOTS, Q_FIND, Q_NOTE, Q_UPDATE, Q_FORGET, Q_LAST, Q_COUNT_OURS, Q_OTHERS };

static const char *const statements[] = {
	[Q_DROP_BOOTS] = "DELETE FROM change WHERE boot <> ?",
	[Q_FIND] = "SELECT id, before, value, prior FROM change"
		   " WHERE netns = ? AND kind = ? AND spec = ?",
	[Q_NOTE] = "INSERT INTO change (boot, netns, kind, spec, text, before, value, prior)"
		   " VALUES (?,?,?,?,?,?,?,?)",
	[Q_UPDATE] = "UPDATE change SET value = ?, prior = ? WHERE id = ?",
	[Q_FORGET] = "DELETE FROM change WHERE id = ?",
	[Q_LAST] = "SELECT id, kind, spec, text, before, value, prior FROM change"
		   " WHERE netns = ? AND id < ? AND kind & ? = 0 ORDER BY id DESC LIMIT 1",
	[Q_COUNT_OURS] = "SELECT count(*) FROM change WHERE netns = ?",
	[Q_OTHERS] = "SELECT count(*) FROM change WHERE netns <> ?",
};

static const char *const migrations[] = {
	"CREATE TABLE change ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" boot TEXT NOT NULL, netns INTEGER NOT NULL,"
	" kind INTEGER NOT NULL, spec BLOB NOT NULL, text TEXT NOT NULL,"
	" before TEXT NOT NULL, value TEXT NOT NULL, prior TEXT NOT NULL,"
	" UNIQUE (netns, kind, spec)) STRICT",
};

static const struct store_spec spec = STORE_SPEC(migrations, statements);

struct hostjournal {
	struct store *store;
	struct nl *nl;
	struct nft *nft;
	int lock_fd;
	uint64_t netns;
	char boot[64];
};

/* ---- opening ---- */

static int take_lock(struct hostjournal *j, const char *path)
{
	char lock[PATH_MAX];

	if (snprintf(lock, sizeof lock, "%s-lock", path) >= (int)sizeof lock)
		return -ENAMETOOLONG;
	j->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (j->lock_fd < 0)
		return -errno;
	if (flock(j->lock_fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	return 0;
}

/* The cookie of a namespace is never used again during a boot (its inode number is). */
static int where_we_are(struct hostjournal *j)
{
	socklen_t len = sizeof j->netns;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &j->netns, &len))
		rc = -errno;
	close(fd);
	return rc ? rc : sysctl_read(BOOT_ID_KEY, j->boot, sizeof j->boot);
}

static int drop_earlier_boots(struct hostjournal *j)
{
	int rc = store_run(j->store, Q_DROP_BOOTS, store_of_str(j->boot));

	if (!rc && store_changes(j->store))
		log_info("host: %llu changes of an earlier boot are history",
			 (unsigned long long)store_changes(j->store));
	if (!rc && store_get_u64(j->store, Q_OTHERS, 0, store_of_u64(j->netns)))
		log_warn("host: changes made in another network namespace are kept in the journal");
	return rc;
}

static int open_parts(struct hostjournal *j, const char *path)
{
	int rc = take_lock(j, path);

	if (!rc)
		rc = where_we_are(j);
	if (!rc)
		rc = store_open(&j->store, path, &spec, NULL);
	/* After a power cut there is nothing to take back: the file must only stay readable. */
	if (!rc)
		rc = store_exec(j->store, "PRAGMA synchronous = NORMAL");
	if (!rc)
		rc = drop_earlier_boots(j);
	if (!rc)
		rc = nl_open(&j->nl);
	if (!rc)
		rc = nft_open(&j->nft);
	return rc;
}

int hostjournal_open(struct hostjournal **out, const char *path)
{
	struct hostjournal *j = calloc(1, sizeof *j);
	int rc;

	if (!j)
		return -ENOMEM;
	j->lock_fd = -1;
	rc = open_parts(j, path);
	if (rc) {
		log_error("host: cannot open the journal %s: %s", path,
			  rc == -EBUSY ? "another process uses it" : strerror(-rc));
		hostjournal_close(j);
		return rc;
	}
	*out = j;
	return 0;
}

void hostjournal_close(struct hostjournal *j)
{
	if (!j)
		return;
	nft_close(j->nft);
	nl_close(j->nl);
	if (j->store)
		store_close(j->store);
	if (j->lock_fd >= 0)
		close(j->lock_fd);
	free(j);
}

struct nl *hostjournal_nl(struct hostjournal *j)
{
	return j->nl;
}

struct nft *hostjournal_nft(struct hostjournal *j)
{
	return j->nft;
}

/* ---- entries ---- */

static void copy_text(char *out, size_t size, const char *text)
{
	cstr_copy(out, size, text);
}

static void read_values(struct host_entry *e, const struct store_rows *r, int column)
{
	copy_text(e->before, sizeof e->before, store_str(r, column));
	copy_text(e->value, sizeof e->value, store_str(r, column + 1));
	copy_text(e->prior, sizeof e->prior, store_str(r, column + 2));
}

int hostjournal_find(struct hostjournal *j, struct host_entry *e)
{
	struct store_rows r =
		store_query(j->store, Q_FIND, store_of_u64(j->netns), store_of_u64(e->kind),
			    store_of_blob(bytes_of(e->spec, e->spec_len)));
	int rc = -ENOENT;

	if (store_next(&r)) {
		e->id = store_u64(&r, 0);
		read_values(e, &r, 1);
		rc = 0;
	}
	int end = store_end(&r);
	return end ? end : rc;
}

int hostjournal_note(struct hostjournal *j, struct host_entry *e)
{
	int rc = store_run(j->store, Q_NOTE, store_of_str(j->boot), store_of_u64(j->netns),
			   store_of_u64(e->kind), store_of_blob(bytes_of(e->spec, e->spec_len)),
			   store_of_str(e->text), store_of_str(e->before), store_of_str(e->value),
			   store_of_str(e->prior));

	if (!rc)
		e->id = store_last_id(j->store);
	return rc;
}

int hostjournal_update(struct hostjournal *j, const struct host_entry *e)
{
	return store_run(j->store, Q_UPDATE, store_of_str(e->value), store_of_str(e->prior),
			 store_of_u64(e->id));
}

int hostjournal_forget(struct hostjournal *j, const struct host_entry *e)
{
	return store_run(j->store, Q_FORGET, store_of_u64(e->id));
}

size_t hostjournal_count(const struct hostjournal *j)
{
	return (size_t)store_get_u64(j->store, Q_COUNT_OURS, 0, store_of_u64(j->netns));
}

/* ---- undo ---- */

/* The newest entry below `e->id`.  0, -ENOENT at the end. */
static int previous_entry(struct hostjournal *j, struct host_entry *e, unsigned keep)
{
	struct store_rows r = store_query(j->store, Q_LAST, store_of_u64(j->netns),
					  store_of_u64(e->id), store_of_u64(keep));
	int rc = -ENOENT;

	if (store_next(&r)) {
		struct bytes b = store_blob(&r, 2);
		rc = 0;
		e->id = store_u64(&r, 0);
		e->kind = (enum host_change)store_u32(&r, 1);
		e->spec_len = b.len <= sizeof e->spec ? b.len : 0;
		if (e->spec_len)
			memcpy(e->spec, b.data, e->spec_len);
		copy_text(e->text, sizeof e->text, store_str(&r, 3));
		read_values(e, &r, 4);
	}
	int end = store_end(&r);
	return end ? end : rc;
}

/* All links at once, which may be a thousand; what goes wrong here shows when each is undone. */
static void links_leave(struct hostjournal *j)
{
	struct host_entry e = {.id = INT64_MAX};
	size_t n = 0;

	while (previous_entry(j, &e, ~(unsigned)HOST_LINK) == 0) {
		host_link_leave(j, &e);
		n++;
	}
	if (n)
		nl_leaving_del(j->nl);
}

int hostjournal_undo(struct hostjournal *j, unsigned keep)
{
	struct host_entry e = {.id = INT64_MAX};
	int failed = 0, undone = 0, rc;

	if (!(keep & HOST_LINK))
		links_leave(j);
	while ((rc = previous_entry(j, &e, keep)) == 0) {
		rc = host_entry_undo(j, &e);
		if (!rc)
			rc = hostjournal_forget(j, &e);
		if (rc) {
			log_error("host: cannot take back %s: %s", e.text, strerror(-rc));
			failed++;
		} else {
			undone++;
		}
	}
	if (undone)
		log_info("host: took back %d changes", undone);
	return rc == -ENOENT ? failed : rc;
}
