#include "io/wgpeers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "base/map.h"

#define LINE_MAX_BYTES (2 * WG_KEY_BYTES + NET_ADDR_TEXT + 2)
#define FILE_MAX_BYTES (WGPEERS_MAX * LINE_MAX_BYTES)

struct wgpeers {
	struct map by_key;
	bool changed;
};

struct entry {
	uint8_t key[WG_KEY_BYTES];
	struct net_addr endpoint;
};

struct wgpeers *wgpeers_new(void)
{
	struct wgpeers *p = calloc(1, sizeof *p);
	uint64_t seed;

	if (!p)
		return NULL;
	randombytes_buf(&seed, sizeof seed);
	map_init(&p->by_key, WG_KEY_BYTES, WGPEERS_MAX, seed);
	return p;
}

void wgpeers_free(struct wgpeers *p)
{
	struct entry *e;
	size_t it = 0;

	if (!p)
		return;
	while ((e = map_next(&p->by_key, &it)))
		free(e);
	map_free(&p->by_key);
	free(p);
}

struct net_addr wgpeers_get(const struct wgpeers *p, const uint8_t key[WG_KEY_BYTES])
{
	const struct entry *e = map_get(&p->by_key, key);

	return e ? e->endpoint : (struct net_addr){0};
}

void wgpeers_set(struct wgpeers *p, const uint8_t key[WG_KEY_BYTES], const struct net_addr *a)
{
	struct entry *e = map_get(&p->by_key, key);

	if (e ? net_addr_equal(&e->endpoint, a) : !a->family)
		return;
	p->changed = true;
	if (!a->family) {
		map_del(&p->by_key, key);
		free(e);
		return;
	}
	if (!e) {
		e = calloc(1, sizeof *e);
		if (e)
			memcpy(e->key, key, sizeof e->key);
		if (!e || map_put(&p->by_key, key, e)) {
			free(e);
			return; /* then this one waits for the subscriber */
		}
	}
	e->endpoint = *a;
}

/* ---- the file ---- */

static void parse_line(struct wgpeers *p, const char *line, size_t len)
{
	char text[LINE_MAX_BYTES], *space;
	uint8_t key[WG_KEY_BYTES];
	struct net_addr a;

	if (len >= sizeof text)
		return;
	memcpy(text, line, len);
	text[len] = '\0';
	space = strchr(text, ' ');
	if (!space)
		return;
	*space = '\0';
	if (hex_decode(text, key, sizeof key) == 0 && net_addr_parse(&a, space + 1, 0) == 0 &&
	    a.port)
		wgpeers_set(p, key, &a);
}

void wgpeers_parse(struct wgpeers *p, const char *text, size_t len)
{
	const char *end = text + len, *line = text, *newline;

	while (line < end && (newline = memchr(line, '\n', (size_t)(end - line)))) {
		parse_line(p, line, (size_t)(newline - line));
		line = newline + 1;
	}
	p->changed = false;
}

struct wgpeers *wgpeers_load(const char *path)
{
	struct wgpeers *p = wgpeers_new();
	int fd = p ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;
	char *text;

	if (fd < 0)
		return p;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
	    st.st_size <= (off_t)FILE_MAX_BYTES && (text = malloc((size_t)st.st_size))) {
		ssize_t n = read(fd, text, (size_t)st.st_size);
		if (n > 0)
			wgpeers_parse(p, text, (size_t)n);
		free(text);
	}
	close(fd);
	return p;
}

static int write_all(const struct wgpeers *p, FILE *f)
{
	char hex[2 * WG_KEY_BYTES + 1], text[NET_ADDR_TEXT];
	const struct entry *e;
	size_t it = 0;

	while ((e = map_next(&p->by_key, &it))) {
		hex_encode(e->key, sizeof e->key, hex);
		fprintf(f, "%s %s\n", hex, net_addr_text(&e->endpoint, text));
	}
	return ferror(f) ? -EIO : 0;
}

/* After a power cut it may be an old one: then some wait for the subscriber. */
int wgpeers_save(struct wgpeers *p, const char *path)
{
	char tmp[PATH_MAX];
	int fd, rc;
	FILE *f;

	if (!p->changed)
		return 0;
	if (p->by_key.count == 0) {
		p->changed = false;
		return unlink(path) && errno != ENOENT ? -errno : 0;
	}
	if (snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp)
		return -ENAMETOOLONG;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!f) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rc = write_all(p, f);
	if (fclose(f) && !rc)
		rc = -errno;
	if (!rc && rename(tmp, path))
		rc = -errno;
	if (rc)
		unlink(tmp);
	p->changed = rc != 0;
	return rc;
}
