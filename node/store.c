#include "node/store.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/clock.h"

#define FILE_NAME "node.state"
#define SOON_US 50000u		     /* changes come together */
#define INTERVAL_US 1000000u	     /* from the beginning of one writing to the next */
#define FAILING_INTERVAL_US 5000000u /* a full disk is not asked every second */
#define HASH_BYTES 32u

struct node_store {
	node_store_take *take;
	void *ctx;
	uint8_t secret[32];
	char dir[PATH_MAX], path[PATH_MAX], temporary[PATH_MAX];
	struct event *due, *written;
	bool armed, wanted; /* wanted: again, when the thread is done */
	bool failing;	    /* and that has been said */
	uint64_t last_us;
	bool has_hash;
	uint8_t hash[HASH_BYTES], next_hash[HASH_BYTES]; /* of what is there; of what is written */
	/* The thread's while it runs, ours otherwise. */
	bool writing;
	pthread_t thread;
	int done_fd, result;
	uint8_t *data;
	size_t len;
};

/* --- the file -------------------------------------------------------------------------------- */

static int write_all(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	/* Some file systems cannot sync a directory; the file itself is synced. */
	if (fsync(fd) && errno != EINVAL)
		err = -errno;
	close(fd);
	return err;
}

/* One temporary name: a killed process leaves no more than one behind, and the next takes it. */
static int put_file(const struct node_store *s)
{
	int fd = open(s->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	int err = fchmod(fd, 0600) ? -errno : write_all(fd, s->data, s->len);
	if (!err && fsync(fd))
		err = -errno;
	close(fd);
	if (!err && rename(s->temporary, s->path))
		err = -errno;
	if (err)
		unlink(s->temporary);
	return err ? err : sync_dir(s->dir);
}

/* The whole file, or -errno; -EBADMSG for one that is longer than any of ours. */
static int read_file(const char *path, uint8_t **data, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		err = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size < 1 || st.st_size > (off_t)KEEP_MAX_BYTES)
		err = -EBADMSG;
	*len = err ? 0 : (size_t)st.st_size;
	*data = err ? NULL : malloc(*len);
	if (!err && !*data)
		err = -ENOMEM;
	ssize_t n = err ? 0 : read(fd, *data, *len);
	if (!err && n != (ssize_t)*len)
		err = n < 0 ? -errno : -EBADMSG;
	close(fd);
	if (err)
		free(*data);
	return err;
}

/* --- writing --------------------------------------------------------------------------------- */

static void say_result(struct node_store *s, int err)
{
	if (err && !s->failing)
		log_warn("%s: cannot be written: %s; after a restart this node would wait for its "
			 "manager",
			 s->path, strerror(-err));
	else if (!err && s->failing)
		log_info("%s: can be written again", s->path);
	s->failing = err != 0;
}

static void *thread_main(void *arg)
{
	struct node_store *s = arg;
	uint64_t one = 1;

	s->result = put_file(s);
	while (write(s->done_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
	return NULL;
}

static void finish(struct node_store *s)
{
	if (!s->writing)
		return;
	pthread_join(s->thread, NULL);
	s->writing = false;
	free(s->data);
	s->data = NULL;
	s->has_hash = s->result == 0;
	memcpy(s->hash, s->next_hash, sizeof s->hash);
	say_result(s, s->result);
}

/* Into s->data.  0; -EALREADY: it is what was written last. */
static int seal(struct node_store *s, const struct keep_state *k)
{
	uint8_t nonce[KEEP_NONCE_BYTES];
	size_t len = keep_encoded_size(k);

	if (len > KEEP_MAX_BYTES - KEEP_SEAL_BYTES)
		return -EFBIG;
	uint8_t *plain = malloc(len);
	s->data = malloc(len + KEEP_SEAL_BYTES);
	s->len = len + KEEP_SEAL_BYTES;
	int err = plain && s->data ? 0 : -ENOMEM;
	if (!err) {
		struct wbuf w = wbuf_init(plain, len);
		keep_encode(k, &w);
		crypto_generichash(s->next_hash, HASH_BYTES, plain, len, s->secret,
				   sizeof s->secret);
		randombytes_buf(nonce, sizeof nonce);
		err = s->has_hash && memcmp(s->hash, s->next_hash, HASH_BYTES) == 0 ? -EALREADY : 0;
	}
	if (!err)
		err = keep_seal(s->data, bytes_of(plain, len), s->secret, nonce);
	if (plain)
		sodium_memzero(plain, len);
	free(plain);
	if (err) {
		free(s->data);
		s->data = NULL;
	}
	return err;
}

static int prepare(struct node_store *s)
{
	struct keep_state k;
	int err = s->take(s->ctx, &k);

	if (err)
		return err == -ENODATA ? -EALREADY : err;
	err = seal(s, &k);
	keep_free(&k);
	return err;
}

static void write_here(struct node_store *s)
{
	s->result = put_file(s);
	free(s->data);
	s->data = NULL;
	s->has_hash = s->result == 0;
	memcpy(s->hash, s->next_hash, sizeof s->hash);
	say_result(s, s->result);
}

/* Signals are for the main thread. */
static bool start_thread(struct node_store *s)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	s->writing = pthread_create(&s->thread, NULL, thread_main, s) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return s->writing;
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct node_store *s = arg;

	(void)fd;
	(void)what;
	s->armed = false;
	if (s->writing) {
		s->wanted = true;
		return;
	}
	int err = prepare(s);
	if (err == -EALREADY)
		return;
	s->last_us = daemon_now_us();
	if (err)
		say_result(s, err);
	else if (!start_thread(s))
		write_here(s);
	if (s->failing && !s->writing)
		node_store_changed(s);
}

static void on_written(evutil_socket_t fd, short what, void *arg)
{
	struct node_store *s = arg;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof count) < 0)
		return;
	finish(s);
	if (s->wanted || s->failing)
		node_store_changed(s);
	s->wanted = false;
}

void node_store_changed(struct node_store *s)
{
	uint64_t now = daemon_now_us(), at = now + SOON_US;
	uint64_t next = s->last_us + (s->failing ? FAILING_INTERVAL_US : INTERVAL_US);

	if (s->armed)
		return;
	if (s->last_us && next > at)
		at = next;
	struct timeval tv = {(time_t)((at - now) / 1000000u), (suseconds_t)((at - now) % 1000000u)};
	s->armed = event_add(s->due, &tv) == 0;
}

void node_store_write_now(struct node_store *s)
{
	finish(s);
	int err = prepare(s);
	s->last_us = daemon_now_us();
	if (!err)
		write_here(s);
	else if (err != -EALREADY)
		say_result(s, err);
	if (s->failing)
		node_store_changed(s);
}

/* --- reading --------------------------------------------------------------------------------- */

static int open_sealed(struct node_store *s, struct bytes sealed, struct keep_state *out)
{
	uint8_t *plain = malloc(sealed.len);
	size_t len = 0;
	int err = plain ? keep_open(plain, &len, sealed, s->secret) : -ENOMEM;

	if (!err)
		err = keep_decode(out, bytes_of(plain, len));
	if (plain)
		sodium_memzero(plain, sealed.len);
	free(plain);
	return err;
}

int node_store_load(struct node_store *s, struct keep_state *out)
{
	uint8_t *data = NULL;
	size_t len = 0;
	int err = read_file(s->path, &data, &len);

	*out = (struct keep_state){0};
	if (!err) {
		err = open_sealed(s, bytes_of(data, len), out);
		free(data);
	}
	if (err == -EBADMSG)
		log_warn("%s: damaged, or not written by this node; it is ignored", s->path);
	else if (err && err != -ENOENT)
		log_warn("%s: cannot be read: %s", s->path, strerror(-err));
	return err;
}

void node_store_remove(struct node_store *s)
{
	if (unlink(s->path) && errno != ENOENT)
		log_warn("%s: cannot be removed: %s", s->path, strerror(errno));
}

/* --- life ------------------------------------------------------------------------------------ */

static bool make_paths(struct node_store *s, const char *dir)
{
	return (size_t)snprintf(s->dir, sizeof s->dir, "%s", dir) < sizeof s->dir &&
	       (size_t)snprintf(s->path, sizeof s->path, "%s/" FILE_NAME, dir) < sizeof s->path &&
	       (size_t)snprintf(s->temporary, sizeof s->temporary, "%s/" FILE_NAME ".new", dir) <
		       sizeof s->temporary;
}

struct node_store *node_store_new(struct event_base *base, const char *dir,
				  const uint8_t secret[32], node_store_take *take, void *ctx)
{
	struct node_store *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->take = take;
	s->ctx = ctx;
	memcpy(s->secret, secret, sizeof s->secret);
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->due = event_new(base, -1, 0, on_due, s);
	if (s->done_fd >= 0)
		s->written = event_new(base, s->done_fd, EV_READ | EV_PERSIST, on_written, s);
	if (!make_paths(s, dir) || !s->due || !s->written || event_add(s->written, NULL)) {
		node_store_free(s);
		return NULL;
	}
	return s;
}

void node_store_free(struct node_store *s)
{
	if (!s)
		return;
	finish(s);
	if (s->due)
		event_free(s->due);
	if (s->written)
		event_free(s->written);
	if (s->done_fd >= 0)
		close(s->done_fd);
	sodium_memzero(s, sizeof *s);
	free(s);
}
