#include "io/appline.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/daemon_log.h"

int appline_complain(const struct appline *l, const char *what)
{
	fprintf(stderr, "%s: %s (%s --help)\n", l->program, what, l->program);
	return -1;
}

int appline_take(struct appline *l, int opt, const char *arg)
{
	switch (opt) {
	case APPLINE_CHECK:
		l->check = true;
		return 0;
	case 'd':
		l->debug = true;
		return 0;
	case 'f':
		l->path = arg;
		return 0;
	case 'o':
		if (l->option_count == APPLINE_OPTIONS_MAX)
			return appline_complain(l, "too many times -o");
		l->options[l->option_count++] = arg;
		return 0;
	case APPLINE_VERSION:
		printf("%s (meshnet) %s\n", l->program, MESHNET_VERSION);
		return 1;
	case APPLINE_HELP:
		fputs(l->usage, stdout);
		return 1;
	default:
		return -1;
	}
}

int appline_read(struct appline *l, const struct option *options, appline_option *take, void *arg,
		 int argc, char **argv)
{
	int opt, verdict = 0;

	optind = 0;
	while (!verdict && (opt = getopt_long(argc, argv, APPLINE_SHORT, options, NULL)) != -1)
		verdict = take(arg, opt, optarg);
	if (!verdict && optind < argc)
		return appline_complain(l, "too many arguments");
	return verdict;
}

bool appline_text(const struct appline *l, const char **out, const char *what, const char *text,
		  size_t max)
{
	*out = text;
	if (*text && strlen(text) <= max)
		return true;
	fprintf(stderr, "%s: %s: wanted 1 to %zu characters\n", l->program, what, max);
	return false;
}

void appline_say(bool json, struct json_object *status)
{
	const char *separator = "";

	if (json) {
		fputs(json_object_to_json_string_ext(
			      status, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
		      stdout);
	} else {
		json_object_object_foreach(status, key, value)
		{
			printf("%s%s %s", separator, key, json_object_get_string(value));
			separator = ", ";
		}
	}
	putchar('\n');
	fflush(stdout);
	json_object_put(status);
}

static void report(void *ctx, const char *text)
{
	const struct appline *l = ctx;

	fprintf(stderr, "%s: %s\n", l->program, text);
}

int appline_load(const struct appline *l, struct config **cfg)
{
	const struct config_source source = {
		.path = l->path, .options = l->options, .n_options = l->option_count};

	return config_load(cfg, &source, report, (void *)l) ? -1 : 0;
}

void appline_log(const struct appline *l, const struct config *cfg)
{
	daemon_log_open(cfg->daemon_log_format, l->program, false);
	log_set_level(l->debug ? LOG_LEVEL_DEBUG : daemon_log_level(cfg->general_log_level));
}

bool appline_ends(const struct appline *l)
{
	if (l->check)
		printf("%s: the configuration is good\n", l->program);
	return l->check;
}

bool appline_peer(const struct appline *l, struct appline_peer *out, const char *what,
		  const char *text)
{
	const char *at = strchr(text, '@');
	size_t len = at ? (size_t)(at - text) : strlen(text);

	*out = (struct appline_peer){0};
	if (*text && (!len || len > NAME_MAX_BYTES)) {
		fprintf(stderr, "%s: %s: wanted an app id of 1 to %d characters\n", l->program,
			what, NAME_MAX_BYTES);
		return false;
	}
	memcpy(out->app, text, len);
	if (!at)
		return true;
	out->has_node = mesh_id_parse(&out->node, at + 1) == 0;
	if (!out->has_node)
		fprintf(stderr, "%s: %s: '%s' is not a node id of 64 hex digits\n", l->program,
			what, at + 1);
	return out->has_node;
}
