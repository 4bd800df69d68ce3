#include "io/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define KEY_TEXT_BYTES 65 /* 64 hex digits and a newline */
#define PATH_BYTES 4096

static int fail(const char *path, int error)
{
	log_error("%s: %s", path, strerror(-error));
	return error;
}

static int path_make(char out[PATH_BYTES], const char *dir, const char *name, const char *suffix)
{
	int n = snprintf(out, PATH_BYTES, "%s/%s.%s", dir, name, suffix);

	return n < 0 || n >= PATH_BYTES ? fail(dir, -ENAMETOOLONG) : 0;
}

int keyfile_make_dir(const char *dir)
{
	char path[PATH_BYTES];
	size_t len = strlen(dir);
	struct stat st;

	if (!len || len >= sizeof path)
		return fail(len ? dir : "an empty directory name", -ENAMETOOLONG);
	memcpy(path, dir, len + 1);
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		path[i] = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			return fail(path, -errno);
		path[i] = dir[i];
	}
	if (stat(dir, &st))
		return fail(dir, -errno);
	return S_ISDIR(st.st_mode) ? 0 : fail(dir, -ENOTDIR);
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A whole, synced file beside `path`, or nothing. */
static int temporary_write(const char *path, char tmp[PATH_BYTES], const char *text, size_t len)
{
	int fd, rc, n = snprintf(tmp, PATH_BYTES, "%s.XXXXXX", path);

	if (n < 0 || n >= PATH_BYTES)
		return -ENAMETOOLONG;
	fd = mkostemp(tmp, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, len);
	if (!rc && fsync(fd))
		rc = -errno;
	close(fd);
	if (rc)
		unlink(tmp);
	return rc;
}

static int dir_sync(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	/* Some file systems cannot sync a directory; the file itself is synced. */
	if (fsync(fd) && errno != EINVAL)
		rc = -errno;
	close(fd);
	return rc;
}

/* Puts the text in place in one step.  Without `replace` a file that is there wins: -EEXIST. */
static int file_put(const char *dir, const char *path, const char *text, size_t len, bool replace)
{
	char tmp[PATH_BYTES];
	int rc = temporary_write(path, tmp, text, len);

	if (rc)
		return rc;
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE)) {
		rc = -errno;
		if (rc == -EINVAL && !replace)
			rc = rename(tmp, path) ? -errno : 0;
	}
	if (rc) {
		unlink(tmp);
		return rc;
	}
	return dir_sync(dir);
}

int keyfile_put(const char *dir, const char *name, const char *suffix, const char *text, size_t len)
{
	char path[PATH_BYTES];
	int rc = path_make(path, dir, name, suffix);

	if (rc)
		return rc;
	rc = file_put(dir, path, text, len, true);
	return rc ? fail(path, rc) : 0;
}

/* Exactly 64 hex digits, and blanks after them. */
static int key_text_parse(const char *text, size_t len, uint8_t out[32])
{
	char hex[MESH_ID_TEXT];
	int rc;

	while (len && strchr(" \t\r\n", text[len - 1]))
		len--;
	if (len != sizeof hex - 1)
		return -EBADMSG;
	memcpy(hex, text, len);
	hex[len] = '\0';
	rc = hex_decode(hex, out, 32) ? -EBADMSG : 0;
	sodium_memzero(hex, sizeof hex);
	return rc;
}

static int mode_restrict(int fd, const char *path)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	if (!(st.st_mode & 077))
		return 0;
	log_warn("%s could be read or written by others (mode %03o); set to 600", path,
		 (unsigned)st.st_mode & 0777);
	return fchmod(fd, 0600) ? -errno : 0;
}

/* -ENOENT is the caller's to judge and not logged. */
static int key_read(const char *path, bool secret, uint8_t out[32])
{
	char text[KEY_TEXT_BYTES + 8];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc;
	ssize_t n = 0;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fail(path, -errno);
	rc = secret ? mode_restrict(fd, path) : 0;
	if (!rc) {
		n = read(fd, text, sizeof text);
		rc = n < 0 ? -errno : key_text_parse(text, (size_t)n, out);
	}
	close(fd);
	sodium_memzero(text, sizeof text);
	if (rc == -EBADMSG)
		log_error("%s: damaged: expected 64 hexadecimal digits; restore it, or move it "
			  "away to get a new key",
			  path);
	else if (rc)
		fail(path, rc);
	return rc;
}

static int pair_complete(struct keypair *k)
{
	return crypto_scalarmult_base(k->id.b, k->secret) ? -EBADMSG : 0;
}

int keyfile_generate(struct keypair *out)
{
	if (sodium_init() < 0)
		return -EIO;
	randombytes_buf(out->secret, sizeof out->secret);
	return pair_complete(out);
}

static int pair_create(const char *dir, const char *path, struct keypair *out)
{
	char text[KEY_TEXT_BYTES + 1];
	int rc = keyfile_generate(out);

	if (rc)
		return fail(path, rc);
	hex_encode(out->secret, sizeof out->secret, text);
	text[KEY_TEXT_BYTES - 1] = '\n';
	rc = file_put(dir, path, text, KEY_TEXT_BYTES, false);
	sodium_memzero(text, sizeof text);
	if (rc && rc != -EEXIST)
		fail(path, rc);
	if (!rc)
		log_info("made a new key in %s", path);
	return rc;
}

int keyfile_load(const char *dir, const char *name, struct keypair *out)
{
	char path[PATH_BYTES];
	int rc;

	if (sodium_init() < 0)
		return fail("libsodium", -EIO);
	rc = keyfile_make_dir(dir);
	if (!rc)
		rc = path_make(path, dir, name, "key");
	if (rc)
		return rc;
	rc = key_read(path, true, out->secret);
	if (rc == -ENOENT) {
		rc = pair_create(dir, path, out);
		/* Somebody else was faster. */
		if (rc == -EEXIST)
			rc = key_read(path, true, out->secret);
	}
	if (!rc)
		rc = pair_complete(out);
	if (rc)
		keyfile_wipe(out);
	return rc;
}

void keyfile_wipe(struct keypair *k)
{
	sodium_memzero(k, sizeof *k);
}

int keyfile_pin_load(const char *dir, const char *name, struct mesh_id *out)
{
	char path[PATH_BYTES];
	int rc = path_make(path, dir, name, "pin");

	return rc ? rc : key_read(path, false, out->b);
}

int keyfile_pin_save(const char *dir, const char *name, const struct mesh_id *id)
{
	char path[PATH_BYTES], text[KEY_TEXT_BYTES + 1];
	int rc = keyfile_make_dir(dir);

	if (!rc)
		rc = path_make(path, dir, name, "pin");
	if (rc)
		return rc;
	mesh_id_text(id, text);
	text[KEY_TEXT_BYTES - 1] = '\n';
	rc = file_put(dir, path, text, KEY_TEXT_BYTES, true);
	return rc ? fail(path, rc) : 0;
}

static int pin_first(const char *dir, const char *name, const struct mesh_id *offered)
{
	char text[MESH_ID_TEXT];
	int rc = keyfile_pin_save(dir, name, offered);

	if (!rc)
		log_warn("%s: no key is configured; trusting %s from now on, and no other", name,
			 mesh_id_text(offered, text));
	return rc;
}

int keyfile_trust(const char *dir, const char *name, const char *configured,
		  const struct mesh_id *offered)
{
	char want_text[MESH_ID_TEXT], got_text[MESH_ID_TEXT];
	struct mesh_id want;
	int rc;

	if (*configured)
		rc = mesh_id_parse(&want, configured);
	else
		rc = keyfile_pin_load(dir, name, &want);
	if (rc == -ENOENT && !*configured)
		return pin_first(dir, name, offered);
	if (rc || mesh_id_equal(&want, offered))
		return rc;
	log_error("%s: refused: its key is %s, not the %s %s", name,
		  mesh_id_text(offered, got_text),
		  *configured ? "configured" : "one trusted at first use,",
		  mesh_id_text(&want, want_text));
	return -EACCES;
}
