/* Any text as a configuration file, line by line as -o, and as lists and networks. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/config.h"
#include "io/config_value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore_report(void *ctx, const char *line)
{
	/* Every report is one line. */
	if (!*line || strchr(line, '\n'))
		abort();
	(*(unsigned *)ctx)++;
}

static void ignore_log(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* What was accepted is within the range of its key. */
static void values_check(const struct config *cfg)
{
	for (size_t i = 0; i < config_key_count(); i++) {
		const struct config_key *k = &config_keys()[i];
		const char *at = (const char *)cfg + k->offset;
		struct config_value v;

		if (k->kind == CONFIG_U64) {
			uint64_t n = *(const uint64_t *)(const void *)at;

			if (n < k->min || n > k->max)
				abort();
		} else if (k->kind != CONFIG_BOOL &&
			   !config_value_parse(k, *(const char *const *)(const void *)at, &v)) {
			abort();
		}
	}
}

static void helpers_try(const char *text)
{
	static const struct net_addr addr = {.family = 4, .ip = {10, 1, 2, 3}};
	const char *at = text;
	char item[16];
	size_t items = 0;

	config_nets_contain(text, &addr);
	while (config_list_next(&at, item, sizeof item))
		if (!*item || ++items > strlen(text))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *cfg = config_new(), *live = config_new();
	unsigned reports = 0;
	char *text = malloc(size + 1);
	int rc;

	if (!cfg || !live || !text)
		abort();
	log_set_sink(ignore_log);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	rc = config_parse(cfg, "fuzz", (const char *)data, size, ignore_report, &reports);
	if ((rc != 0) != (reports != 0) || reports > CONFIG_REPORTS_MAX + 1)
		abort();
	values_check(cfg);
	config_set(cfg, text, ignore_report, &reports);
	values_check(cfg);
	helpers_try(text);
	config_replace(live, cfg);
	values_check(live);
	config_free(live);
	free(text);
	return 0;
}
