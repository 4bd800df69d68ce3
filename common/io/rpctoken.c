#include "io/rpctoken.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/cstr.h"
#include "base/log.h"
#include "io/keyfile.h"

static bool token_ok(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len >= RPC_TOKEN_MAX)
		return false;
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~')
			return false;
	}
	return true;
}

/* What cannot be read counts as foreign; listening on it fails anyway. */
static bool all_loopback(const char *listen)
{
	char *copy = strdup(listen), *rest = NULL;
	bool all = copy != NULL;

	for (char *t = copy ? strtok_r(copy, ", \t", &rest) : NULL; t && all;
	     t = strtok_r(NULL, ", \t", &rest)) {
		struct net_addr addr;
		all = net_addr_parse(&addr, t, 0) == 0 && net_addr_is_loopback(&addr);
	}
	free(copy);
	return all;
}

static int token_load(const struct daemon *d, char out[RPC_TOKEN_MAX])
{
	char name[128];
	struct keypair k;
	int err;

	/* A random secret in a file of its own, made once: just what keyfile does. */
	cstr_print(name, sizeof name, "%s-rpc", d->name);
	err = keyfile_load(d->state_dir, name, &k);
	if (err)
		return err;
	hex_encode(k.secret, sizeof k.secret, out);
	keyfile_wipe(&k);
	log_info("the RPC is open to more than loopback; its token is in %s/%s.key", d->state_dir,
		 name);
	return 0;
}

int rpc_token_get(const struct daemon *d, const char *configured, const char *listen,
		  char out[RPC_TOKEN_MAX])
{
	out[0] = '\0';
	if (configured[0] && !token_ok(configured)) {
		log_error("the RPC token may have up to %d printable characters, without blanks",
			  RPC_TOKEN_MAX - 1);
		return -EINVAL;
	}
	if (configured[0])
		cstr_copy(out, RPC_TOKEN_MAX, configured);
	else if (!all_loopback(listen))
		return token_load(d, out);
	return 0;
}
