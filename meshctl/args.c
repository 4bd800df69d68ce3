#include "meshctl/args.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MAX_S 3600.0

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
	OPT_METHOD,
	OPT_USES,
	OPT_EXPIRES,
	OPT_ROLE,
	OPT_JSON,
	OPT_HELP,
	OPT_VERSION,
	OPT_NONE
};

static const struct {
	const char *name, *letter;
	bool value;
} options[OPT_NONE] = {
	[OPT_PORT] = {"--port", "-p", true},	   [OPT_RPC] = {"--rpc", NULL, true},
	[OPT_GATEWAY] = {"--gateway", "-g", true}, [OPT_TOKEN] = {"--token", NULL, true},
	[OPT_TIMEOUT] = {"--timeout", NULL, true}, [OPT_METHOD] = {"--method", "-m", true},
	[OPT_USES] = {"--uses", NULL, true},	   [OPT_EXPIRES] = {"--expires", NULL, true},
	[OPT_ROLE] = {"--role", NULL, true},	   [OPT_JSON] = {"--json", NULL, false},
	[OPT_HELP] = {"--help", "-h", false},	   [OPT_VERSION] = {"--version", NULL, false},
};

/* "--rpc=X", "--rpc X", "-pX", "-p X": *value is NULL when it has to be the next word. */
static enum option option_find(const char *word, const char **value)
{
	for (int i = 0; i < OPT_NONE; i++) {
		size_t len = strlen(options[i].name);
		*value = NULL;
		if (strcmp(word, options[i].name) == 0 ||
		    (options[i].letter && strcmp(word, options[i].letter) == 0))
			return (enum option)i;
		if (!options[i].value)
			continue;
		if (strncmp(word, options[i].name, len) == 0 && word[len] == '=') {
			*value = word + len + 1;
			return (enum option)i;
		}
		if (options[i].letter && strncmp(word, options[i].letter, 2) == 0) {
			*value = word + 2;
			return (enum option)i;
		}
	}
	return OPT_NONE;
}

static bool is_connect_gateway(const struct ctl_args *a)
{
	const char *w = a->count ? a->words[0] : "";

	return strcmp(w, "connect-gateway") == 0 || strcmp(w, "connect_gateway") == 0;
}

static int port_set(struct ctl_args *a, const char *value)
{
	if (is_connect_gateway(a))
		return number_parse(value, UINT16_MAX, &a->port);
	if (number_parse(value, UINT16_MAX, &a->rpc.port))
		return -EINVAL;
	a->rpc.given = true;
	return 0;
}

static int timeout_set(struct ctl_args *a, const char *value)
{
	char *end;
	double s = strtod(value, &end);

	if (end == value || *end || !isfinite(s) || s <= 0 || s > TIMEOUT_MAX_S)
		return -EINVAL;
	a->timeout_us = (uint64_t)(s * 1e6) + 1;
	return 0;
}

int ctl_duration_parse(uint64_t *seconds, const char *text)
{
	static const struct {
		char letter;
		uint32_t seconds;
	} units[] = {{'\0', 1}, {'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	v = strtoul(text, &end, 10);
	if (v == 0 || v > UINT32_MAX || (*end && end[1]))
		return -EINVAL;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (units[i].letter != *end)
			continue;
		*seconds = (uint64_t)v * units[i].seconds;
		return 0;
	}
	return -EINVAL;
}

static bool is_invite(const struct ctl_args *a)
{
	return a->count && strcmp(a->words[0], "invite") == 0;
}

static int invite_set(struct ctl_args *a, enum option o, const char *value)
{
	uint64_t number;

	if (!is_invite(a))
		return -EINVAL;
	if (o == OPT_EXPIRES && ctl_duration_parse(&number, value))
		return -EINVAL;
	if (o == OPT_USES &&
	    (!isdigit((unsigned char)*value) || strlen(value) > 7 ||
	     strspn(value, "0123456789") != strlen(value) || !strtoul(value, NULL, 10)))
		return -EINVAL;
	*(o == OPT_USES ? &a->uses : o == OPT_EXPIRES ? &a->expires : &a->role) = value;
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
		return timeout_set(a, value);
	case OPT_METHOD:
		a->method = value;
		return is_connect_gateway(a) ? 0 : -EINVAL;
	case OPT_USES:
	case OPT_EXPIRES:
	case OPT_ROLE:
		return invite_set(a, o, value);
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
	case OPT_METHOD:
		return "used with connect-gateway only";
	case OPT_USES:
		return "a number, after invite";
	case OPT_EXPIRES:
		return "a duration (90s, 30m, 12h, 2d), after invite";
	case OPT_ROLE:
		return "member, relay or gateway, after invite";
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

int ctl_args_parse(struct ctl_args *a, int argc, char *const *argv, char error[CTL_ERROR_MAX])
{
	bool only_words = false;

	for (int i = 0; i < argc; i++) {
		const char *value = NULL, *word = argv[i];
		enum option o;

		if (!only_words && strcmp(word, "--") == 0) {
			only_words = true;
			continue;
		}
		if (only_words || word[0] != '-' || !word[1]) {
			if (word_add(a, word, error))
				return -EINVAL;
			continue;
		}
		o = option_find(word, &value);
		if (o == OPT_NONE) {
			snprintf(error, CTL_ERROR_MAX, "unknown option '%.100s', try --help", word);
			return -EINVAL;
		}
		if (!value)
			value = options[o].value && i + 1 < argc ? argv[++i] : "";
		if ((options[o].value && !*value) || option_set(a, o, value)) {
			snprintf(error, CTL_ERROR_MAX, "%s '%.100s': expected %s", options[o].name,
				 value, expected(o));
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
