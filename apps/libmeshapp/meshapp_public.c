/* What the public header needs besides, and proof that its numbers are ours. */
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/keyfile.h"
#include "libmeshapp/meshapp_int.h"

#define SAME(public, ours) static_assert((int)(public) == (int)(ours), #public)
SAME(MESHAPP_NAME_MAX, NAME_MAX_BYTES);
SAME(MESHAPP_INFO_MAX, APP_INFO_MAX_BYTES);
SAME(MESHAPP_MESSAGE_MAX, MAX_MESSAGE_BYTES);
SAME(MESHAPP_CREDIT_BYTES, APP_CREDIT_BYTES);
SAME(MESHAPP_OK, CODE_OK);
SAME(MESHAPP_REFUSED, CODE_REFUSED);
SAME(MESHAPP_NOT_FOUND, CODE_NOT_FOUND);
SAME(MESHAPP_NO_ROUTE, CODE_NO_ROUTE);
SAME(MESHAPP_BUSY, CODE_BUSY);
SAME(MESHAPP_INVALID, CODE_INVALID);
SAME(MESHAPP_UNAVAILABLE, CODE_UNAVAILABLE);
SAME(MESHAPP_TIMEOUT, CODE_TIMEOUT);
SAME(MESHAPP_PORT_IN_USE, CODE_PORT_IN_USE);
SAME(MESHAPP_CLOSED, CODE_CLOSED);
SAME(MESHAPP_LOST, CODE_LOST);
SAME(MESHAPP_PROTOCOL, CODE_PROTOCOL);
SAME(MESHAPP_STREAM, CLASS_STREAM);
SAME(MESHAPP_DATAGRAM, CLASS_DATAGRAM);
SAME(MESHAPP_ALL, APP_LIST_ALL);
SAME(MESHAPP_BY_TYPE, APP_LIST_BY_TYPE);
SAME(MESHAPP_BY_NAME, APP_LIST_BY_NAME);

const char *meshapp_code_name(uint16_t code)
{
	return msg_code_name(code);
}

struct noise_keypair *meshapp_key_load(const char *dir, const char *name)
{
	struct noise_keypair *key = malloc(sizeof *key);
	struct keypair stored;
	int err = key ? keyfile_make_dir(dir) : -ENOMEM;

	if (!err)
		err = keyfile_load(dir, name, &stored);
	if (err) {
		free(key);
		errno = -err;
		return NULL;
	}
	noise_keypair_from_secret(key, stored.secret);
	keyfile_wipe(&stored);
	return key;
}

void meshapp_key_free(struct noise_keypair *key)
{
	if (!key)
		return;
	sodium_memzero(key, sizeof *key);
	free(key);
}

/* The log is the process's, as base/log.h has it. */
static void (*log_line)(int level, const char *text);

static void to_app(enum log_level level, const char *line)
{
	log_line((int)level, line);
}

void meshapp_set_log(int max_level, void (*line)(int level, const char *text))
{
	log_line = line;
	log_set_sink(line ? to_app : NULL);
	log_set_level((enum log_level)max_level);
}
