/* The template of a network module: copy this file and fill it in.  It knows an empty network. */
#include <errno.h>
#include <stdio.h>

#include "base/cstr.h"
#include "scan/scan.h"

static int null_probe(const struct scan_env *env, char *why)
{
	(void)env;
	cstr_print(why, SCAN_WHY_MAX, "the null network has no hosts");
	return -ENODEV;
}

static int null_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	(void)data;
	(void)sink;
	return len ? -EBADMSG : 0;
}

static int null_query(void **request, const struct scan_env *env, const struct net_host *host,
		      scan_answer_cb *cb, void *arg)
{
	(void)env;
	(void)host;
	(void)cb;
	(void)arg;
	*request = NULL;
	return -ENODEV;
}

static void null_query_cancel(void *request)
{
	(void)request;
}

const struct scan_module scan_null = {
	.name = "null",
	.probe = null_probe,
	.parse = null_parse,
	.query = null_query,
	.query_cancel = null_query_cancel,
};
