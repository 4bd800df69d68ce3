#include "meshctl/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meshctl/command.h"

#define TIMEOUT_MAX_S 3600.0
#define WATCH_DEFAULT_US 2000000u
#define WATCH_MIN_S 0.1

static int number_parse(const char *text, unsigned long max, uint16_t *out)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	v = strtoul(text, &end, 10);
	if (*end || v == 0 || v > max)
		return -EINVAL;
	*out = (uint16_t)v;
	return 0;
}

int ctl_endpoint_parse(struct ctl_endpoint *e, const char *text)
{
	const char *colon = strrchr(text, ':'), *start = text, *end = text + strlen(text);
	struct ctl_endpoint v = {.given = true};

	if (*text == '[') {
		start = text + 1;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		colon = end[1] ? end + 1 : NULL;
	} else if (colon && strchr(text, ':') == colon) {
		end = colon;
	} else {
		colon = NULL;
	}
	if (colon && number_parse(colon + 1, UINT16_MAX, &v.port))
		return -EINVAL;
	if ((size_t)(end - start) > CTL_HOST_MAX || (end == start && !colon))
		return -EINVAL;
	if (end == start)
		snprintf(v.host, sizeof v.host, "127.0.0.1");
	else
		memcpy(v.host, start, (size_t)(end - start));
	*e = v;
	return 0;
}

int ctl_args_init(struct ctl_args *a, const char *env_port, char error[CTL_ERROR_MAX])
{
	*a = (struct ctl_args){.rpc = {"127.0.0.1", 0, false}, .gate = {"127.0.0.1", 0, false}};
	if (!env_port || !*env_port)
		return 0;
	if (number_parse(env_port, UINT16_MAX, &a->rpc.port)) {
		snprintf(error, CTL_ERROR_MAX, "MESH_RPC_PORT=%s is no port (1 to 65535)",
			 env_port);
		return -EINVAL;
	}
	return 0;
}

enum option {
	OPT_PORT,
	OPT_RPC,
	OPT_GATEWAY,
	OPT_TOKEN,
	OPT_TIMEOUT,
	OPT_WATCH,
	OPT_JSON,
	OPT_HELP,
	OPT_VERSION,
	OPT_NONE
};

static const struct ctl_option options[OPT_NONE] = {
	[OPT_PORT] = {"--port", "-p", "PORT", NULL},
	[OPT_RPC] = {"--rpc", NULL, "HOST[:PORT]", NULL},
	[OPT_GATEWAY] = {"--gateway", "-g", "HOST[:PORT]", NULL},
	[OPT_TOKEN] = {"--token", NULL, "TOKEN", NULL},
	[OPT_TIMEOUT] = {"--timeout", NULL, "SECONDS", NULL},
	[OPT_WATCH] = {"--watch", "-w", NULL, NULL}, /* its value may be left out */
	[OPT_JSON] = {"--json", NULL, NULL, NULL},
	[OPT_HELP] = {"--help", "-h", NULL, NULL},
	[OPT_VERSION] = {"--version", NULL, NULL, NULL},
};

/* "--rpc=X", "--rpc X", "-pX", "-p X": *value is NULL when it has to be the next word. */
static bool option_matches(const struct ctl_option *o, const char *word, const char **value)
{
	size_t len = strlen(o->name);

	*value = NULL;
	if (strcmp(word, o->name) == 0 || (o->letter && strcmp(word, o->letter) == 0))
		return true;
	if (strncmp(word, o->name, len) == 0 && word[len] == '=') {
		*value = word + len + 1;
		return true;
	}
	if (!o->value || !o->letter || strncmp(word, o->letter, 2) != 0)
		return false;
	*value = word + 2;
	return true;
}

static enum option option_find(const char *word, const char **value)
{
	for (int i = 0; i < OPT_NONE; i++) {
		if (option_matches(&options[i], word, value))
			return (enum option)i;
	}
	return OPT_NONE;
}

/* An option of the command that has been named already. */
static const struct ctl_option *own_option(const struct ctl_args *a, const char *word,
					   const char **value)
{
	const struct ctl_command *c = a->count ? ctl_command_find(a->words[0]) : NULL;

	for (const struct ctl_option *o = c ? c->options : NULL; o && o->name; o++) {
		if (option_matches(o, word, value))
			return o;
	}
	return NULL;
}

const char *ctl_args_option(const struct ctl_args *a, const char *name)
{
	for (size_t i = a->option_count; i > 0; i--) {
		if (strcmp(a->options[i - 1].option->name, name) == 0)
			return a->options[i - 1].value;
	}
	return NULL;
}

const char *ctl_args_global(size_t i, bool *takes_value)
{
	if (i >= OPT_NONE)
		return NULL;
	*takes_value = options[i].value != NULL;
	return options[i].name;
}

static int port_set(struct ctl_args *a, const char *value)
{
	if (number_parse(value, UINT16_MAX, &a->rpc.port))
		return -EINVAL;
	a->rpc.given = true;
	return 0;
}

static int seconds_parse(const char *value, double least, uint64_t *out_us)
{
	char *end;
	double s = strtod(value, &end);

	if (end == value || *end || !isfinite(s) || s < least || s <= 0 || s > TIMEOUT_MAX_S)
		return -EINVAL;
	*out_us = (uint64_t)(s * 1e6) + 1;
	return 0;
}

static int option_set(struct ctl_args *a, enum option o, const char *value)
{
	switch (o) {
	case OPT_PORT:
		return port_set(a, value);
	case OPT_RPC:
		return ctl_endpoint_parse(&a->rpc, value);
	case OPT_GATEWAY:
		return ctl_endpoint_parse(&a->gate, value);
	case OPT_TOKEN:
		a->token = value;
		return 0;
	case OPT_TIMEOUT:
		return seconds_parse(value, 0, &a->timeout_us);
	case OPT_WATCH:
		a->watch_us = WATCH_DEFAULT_US;
		return *value ? seconds_parse(value, WATCH_MIN_S, &a->watch_us) : 0;
	case OPT_JSON:
		a->json = true;
		return 0;
	case OPT_HELP:
		a->help = true;
		return 0;
	case OPT_VERSION:
		a->version = true;
		return 0;
	case OPT_NONE:
		break;
	}
	return -EINVAL;
}

static const char *expected(enum option o)
{
	switch (o) {
	case OPT_PORT:
		return "a port (1 to 65535)";
	case OPT_RPC:
	case OPT_GATEWAY:
		return "HOST or HOST:PORT";
	case OPT_TIMEOUT:
		return "seconds, up to 3600";
	case OPT_WATCH:
		return "seconds, 0.1 to 3600, or nothing";
	default:
		return "a value";
	}
}

static int word_add(struct ctl_args *a, const char *word, char *error)
{
	if (a->count == CTL_WORDS_MAX) {
		snprintf(error, CTL_ERROR_MAX, "more than %d words", CTL_WORDS_MAX);
		return -EINVAL;
	}
	a->words[a->count++] = word;
	return 0;
}

static int own_option_add(struct ctl_args *a, const struct ctl_option *o, const char *value,
			  char *error)
{
	if ((o->value && !*value) || (!o->value && *value)) {
		snprintf(error, CTL_ERROR_MAX, "%s '%.100s': expected %s", o->name, value,
			 o->value ? o->value : "no value");
		return -EINVAL;
	}
	if (a->option_count == CTL_OPTIONS_MAX) {
		snprintf(error, CTL_ERROR_MAX, "more than %d options", CTL_OPTIONS_MAX);
		return -EINVAL;
	}
	a->options[a->option_count].option = o;
	a->options[a->option_count++].value = value;
	return 0;
}

/* Whether the next word is the value: always, never, or (--watch) when it is a number. */
static bool takes_next(enum option o, const char *next)
{
	if (o == OPT_WATCH)
		return next && (isdigit((unsigned char)*next) || *next == '.');
	return options[o].value != NULL;
}

/* Takes the option at argv[i]; *used is 2 when it has the next word too. */
static int option_take(struct ctl_args *a, int argc, char *const *argv, int i, int *used,
		       char *error)
{
	const char *value = NULL, *next = i + 1 < argc ? argv[i + 1] : NULL;
	const struct ctl_option *own = own_option(a, argv[i], &value);
	enum option o;

	*used = 1;
	if (own) {
		if (!value && own->value && next)
			*used = 2;
		return own_option_add(a, own, value ? value : *used == 2 ? next : "", error);
	}
	o = option_find(argv[i], &value);
	if (o == OPT_NONE) {
		snprintf(error, CTL_ERROR_MAX, "unknown option '%.100s', try --help", argv[i]);
		return -EINVAL;
	}
	if (!value && takes_next(o, next)) {
		value = next ? next : "";
		*used = 2;
	}
	if (!value)
		value = "";
	if ((options[o].value && !*value) || option_set(a, o, value)) {
		snprintf(error, CTL_ERROR_MAX, "%s '%.100s': expected %s", options[o].name, value,
			 expected(o));
		return -EINVAL;
	}
	return 0;
}

int ctl_args_parse(struct ctl_args *a, int argc, char *const *argv, char error[CTL_ERROR_MAX])
{
	bool only_words = false;

	for (int i = 0, used; i < argc; i += used) {
		used = 1;
		if (!only_words && strcmp(argv[i], "--") == 0)
			only_words = true;
		else if (only_words || argv[i][0] != '-' || !argv[i][1]) {
			if (word_add(a, argv[i], error))
				return -EINVAL;
		} else if (option_take(a, argc, argv, i, &used, error)) {
			return -EINVAL;
		}
	}
	return 0;
}

int ctl_split(char *line, char **words, int max)
{
	int count = 0;
	char *p = line;

	for (;;) {
		char *w;
		bool quoted = false;
		p += strspn(p, " \t\r\n");
		if (!*p)
			return count;
		if (count == max)
			return -E2BIG;
		words[count++] = w = p;
		for (; *p && (quoted || !strchr(" \t\r\n", *p)); p++) {
			if (*p == '"')
				quoted = !quoted;
			else
				*w++ = *p;
		}
		if (quoted)
			return -EINVAL;
		if (*p)
			p++;
		*w = '\0';
	}
}
