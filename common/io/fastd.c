#include "io/fastd.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/helper.h"
#include "io/keyfile.h"
#include "io/privileges.h"
#include "io/timer.h"

#define CIPHER "salsa2012+umac"
#define RUN_US 2000000u /* for a program that only answers */
#define STATUS_MAX 16384u
#define STATUS_TIMEOUT_US 500000
#define STATUS_DEPTH 16

struct fastd {
	struct helper *process;
	struct event *over;
	char folder[PATH_MAX - 64];
	char socket[sizeof((struct sockaddr_un *)0)->sun_path];
	fastd_end_cb *ended;
	void *arg;
	char text[80];
};

/* ---- the program and its keys ---- */

int fastd_probe(char why[FASTD_WHY_MAX])
{
	static const char *const argv[] = {"fastd", "--version", NULL};
	char out[128];
	int rc = access("/dev/net/tun", R_OK | W_OK) ? -errno : 0;

	if (rc) {
		cstr_print(why, FASTD_WHY_MAX, "/dev/net/tun: %s", strerror(-rc));
		return rc;
	}
	rc = helper_output(argv, NULL, out, sizeof out, RUN_US);
	if (!rc && strncmp(out, "fastd v", 7) != 0)
		rc = -ENOEXEC;
	if (rc)
		cstr_print(why, FASTD_WHY_MAX, "fastd %s: %s",
			   rc == -ENOENT ? "is not installed" : "cannot be run", strerror(-rc));
	return rc;
}

bool fastd_key_valid(const char *key)
{
	return strlen(key) == FASTD_KEY_TEXT - 1 &&
	       strspn(key, "0123456789abcdef") == FASTD_KEY_TEXT - 1;
}

/* Its secrets are scalars as X25519 has them, but clamped in the file. */
static void secret_text(uint8_t secret[32], char out[FASTD_KEY_TEXT])
{
	secret[0] &= 248;
	secret[31] = (uint8_t)((secret[31] & 127) | 64);
	hex_encode(secret, 32, out);
}

int fastd_keys(const char *dir, const char *name, char secret[FASTD_KEY_TEXT],
	       char public_key[FASTD_KEY_TEXT], char why[FASTD_WHY_MAX])
{
	static const char *const argv[] = {
		"fastd", "--machine-readable", "--show-key", "--config", "-", NULL};
	char input[FASTD_KEY_TEXT + 16], told[FASTD_KEY_TEXT + 16] = "";
	struct keypair k;
	int rc = keyfile_load(dir, name, &k);

	if (rc) {
		cstr_print(why, FASTD_WHY_MAX, "key in %.100s: %s", dir, strerror(-rc));
		return rc;
	}
	secret_text(k.secret, secret);
	cstr_print(input, sizeof input, "secret \"%s\";\n", secret);
	rc = helper_output(argv, input, told, sizeof told, RUN_US);
	sodium_memzero(input, sizeof input);
	keyfile_wipe(&k);
	if (!rc && !fastd_key_valid(told))
		rc = -EBADMSG;
	if (!rc)
		memcpy(public_key, told, FASTD_KEY_TEXT);
	if (rc)
		cstr_print(why, FASTD_WHY_MAX, "fastd --show-key: %s", strerror(-rc));
	return rc;
}

/* ---- files ---- */

static int path_of(const struct fastd *f, const char *name, char out[PATH_MAX])
{
	int n = snprintf(out, PATH_MAX, "%s/%s", f->folder, name);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int write_file(const struct fastd *f, const char *name, const char *text, size_t len)
{
	char path[PATH_MAX];
	int rc = path_of(f, name, path), fd;

	if (rc)
		return rc;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, len);
	rc = n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
	close(fd);
	return rc;
}

static void remove_folder(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	rmdir(path);
}

static int write_config(const struct fastd *f, const struct fastd_config *c)
{
	char text[1024], bind[32] = "", remote[NET_ADDR_TEXT + 16] = "", addr[NET_ADDR_TEXT];
	int n, rc;

	if (c->port)
		cstr_print(bind, sizeof bind, "bind any:%u;\n", c->port);
	if (c->remote.family)
		cstr_print(remote, sizeof remote, "remote %s; ", net_addr_text(&c->remote, addr));
	n = snprintf(text, sizeof text,
		     "log level warn;\nmode tun;\ninterface \"%s\";\nmtu %u;\n%s"
		     "method \"" CIPHER "\";\nsecret \"%s\";\nstatus socket \"%s\";\n"
		     "peer \"peer\" { key \"%s\"; %s}\n",
		     c->interface, c->mtu, bind, c->secret, f->socket, c->peer, remote);
	rc = n < 0 || n >= (int)sizeof text ? -ENAMETOOLONG
					    : write_file(f, "fastd.conf", text, (size_t)n);
	sodium_memzero(text, sizeof text);
	return rc;
}

/* What stands between quotes in its configuration. */
static bool text_plain(const char *text)
{
	for (; *text; text++)
		if (*text == '"' || *text == '\\' || iscntrl((unsigned char)*text))
			return false;
	return true;
}

static int make_folder(struct fastd *f, const struct fastd_config *c)
{
	int rc;

	if (strlen(c->folder) >= sizeof f->folder ||
	    snprintf(f->socket, sizeof f->socket, "%s/status", c->folder) >= (int)sizeof f->socket)
		return -ENAMETOOLONG;
	if (!text_plain(c->folder) || !text_plain(c->interface) || !fastd_key_valid(c->peer) ||
	    !fastd_key_valid(c->secret))
		return -EINVAL;
	memcpy(f->folder, c->folder, strlen(c->folder) + 1);
	remove_folder(f->folder);
	rc = keyfile_make_dir(f->folder);
	return rc ? rc : write_config(f, c);
}

/* ---- status ---- */

static int dial(const struct fastd *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_usec = STATUS_TIMEOUT_US};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	memcpy(a.sun_path, f->socket, strlen(f->socket) + 1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) ||
	    connect(fd, (struct sockaddr *)&a, sizeof a))
		rc = -errno;
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

/* All that it sends, cut at the limit: then it is no JSON. */
static int read_all(int fd, char *text, size_t size, size_t *len)
{
	for (*len = 0; *len < size;) {
		ssize_t n = recv(fd, text + *len, size - *len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? 0 : errno == EAGAIN ? -ETIMEDOUT : -errno;
		*len += (size_t)n;
	}
	return 0;
}

int fastd_connected(struct fastd *f)
{
	char text[STATUS_MAX];
	size_t len;
	int fd = dial(f), rc;

	if (fd < 0)
		return fd;
	rc = read_all(fd, text, sizeof text, &len);
	close(fd);
	return rc ? rc : fastd_status_connected(text, len);
}

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	if (!o || !json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_object))
		return NULL;
	return v;
}

int fastd_status_connected(const char *text, size_t len)
{
	struct json_tokener *t = json_tokener_new_ex(STATUS_DEPTH);
	struct json_object *root, *peers;
	int rc = -EBADMSG;

	if (!t)
		return -ENOMEM;
	root = len <= STATUS_MAX ? json_tokener_parse_ex(t, text, (int)len) : NULL;
	json_tokener_free(t);
	peers = member(root, "peers");
	if (peers) {
		rc = 0;
		json_object_object_foreach(peers, key, value)
		{
			(void)key;
			rc |= member(value, "connection") != NULL;
		}
	}
	json_object_put(root);
	return rc;
}

/* ---- open and close ---- */

static void on_over(evutil_socket_t fd, short what, void *arg)
{
	struct fastd *f = arg;

	(void)fd, (void)what;
	f->ended(f->text, f->arg);
}

static void on_exit_of(struct child *c, int status, void *arg)
{
	struct fastd *f = arg;
	char text[48];

	(void)c;
	cstr_print(f->text, sizeof f->text, "fastd ended: %s", child_status_text(status, text));
	event_active(f->over, EV_TIMEOUT, 0);
}

static void on_line(struct child *c, const char *line, void *arg)
{
	(void)c, (void)arg;
	log_debug("fastd: %s", line);
}

static int start(struct fastd *f, struct event_base *base, struct hostjournal *journal)
{
	char path[PATH_MAX];
	const char *const argv[] = {"fastd", "--config", path, NULL};
	const struct helper_spec spec = {.name = "fastd",
					 .argv = argv,
					 .privileges = PRIVILEGES_NETWORK,
					 .socket = f->socket,
					 .on_exit = on_exit_of,
					 .on_line = on_line,
					 .arg = f};
	int rc = path_of(f, "fastd.conf", path);

	return rc ? rc : helper_start(&f->process, base, journal, &spec);
}

int fastd_open(struct fastd **out, struct event_base *base, struct hostjournal *journal,
	       const struct fastd_config *config, char why[FASTD_WHY_MAX])
{
	struct fastd *f = calloc(1, sizeof *f);
	int rc = f ? 0 : -ENOMEM;

	if (!rc) {
		f->ended = config->ended;
		f->arg = config->arg;
		f->over = timer_new(base, on_over, f);
		rc = f->over ? make_folder(f, config) : -ENOMEM;
	}
	if (!rc)
		rc = start(f, base, journal);
	if (rc) {
		cstr_print(why, FASTD_WHY_MAX, "fastd in %.100s: %s", config->folder,
			   strerror(-rc));
		fastd_close(f);
		return rc;
	}
	*out = f;
	return 0;
}

void fastd_close(struct fastd *f)
{
	if (!f)
		return;
	helper_free(f->process);
	if (*f->folder)
		remove_folder(f->folder);
	event_drop(f->over);
	free(f);
}
