#include "io/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config_value.h"

/* What a key is, in as few bytes as it takes: a pointer in a table costs three times its size in
 * the file of a program that can be loaded anywhere. */
struct key_place {
	uint16_t offset;
	uint8_t kind, section;
};

/* Sections and keys are in the order of config_keys.def. */
#define KEY(sec, fld, name, k, d, w, text)
#define SECTION(name) SECTION_##name,
enum {
#include "io/config_keys.def"
};
#define KEY(sec, fld, name, k, d, w, text)
#define SECTION(name) #name "\0"
static const char section_texts[] =
#include "io/config_keys.def"
	;

static const struct key_place key_places[] = {
#define KEY(sec, fld, name, k, d, w, text) {offsetof(struct config, sec##_##fld), k, SECTION_##sec},
#include "io/config_keys.def"
};
#define KEY_COUNT (sizeof key_places / sizeof key_places[0])

/* Three texts a key, in the order of config_keys(): the third is its words, or "MIN MAX". */
static const char key_texts[] =
#define KEY(sec, fld, name, k, d, w, text) name "\0" d "\0" w "\0"
#include "io/config_keys.def"
	;

static const char *text_next(const char **at)
{
	const char *text = *at;

	*at += strlen(text) + 1;
	return text;
}

static const char *section_text(uint8_t section)
{
	const char *at = section_texts;

	for (uint8_t i = 0; i < section; i++)
		text_next(&at);
	return at;
}

const struct config_key *config_keys(void)
{
	static struct config_key table[KEY_COUNT];
	const char *at = key_texts, *words;
	char *end;

	for (size_t i = table[0].section ? KEY_COUNT : 0; i < KEY_COUNT; i++) {
		struct config_key *k = &table[i];
		k->kind = key_places[i].kind;
		k->offset = key_places[i].offset;
		k->section = section_text(key_places[i].section);
		k->key = text_next(&at);
		k->def = text_next(&at);
		if (k->kind == CONFIG_BOOL)
			k->def = *k->def == '1' ? "yes" : "no";
		words = text_next(&at);
		if (k->kind == CONFIG_CHOICE) {
			k->words = words;
		} else if (*words) {
			k->min = strtoull(words, &end, 10);
			k->max = strtoull(end, NULL, 10);
		}
	}
	return table;
}

struct config_string {
	struct config_string *next;
	char text[];
};

/* One reading: of a file, of the environment or of an option. */
struct parse {
	struct config *cfg;
	const char *name;
	config_report *report;
	void *ctx;
	const char *at, *end;
	unsigned line; /* 0: the source has no lines */
	unsigned reports;
	bool want_key; /* inih has not yet handed us the key of this line */
	bool failed, no_memory;
	unsigned set_in_line[KEY_COUNT];
};

size_t config_key_count(void)
{
	return KEY_COUNT;
}

/* Other names that users may know a key by. */
static const struct {
	const char *section, *alias, *key;
} aliases[] = {{"node", "Hostname", "Name"}};

const struct config_key *config_key_find(const char *section, const char *key)
{
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
		if (config_name_equal(section, aliases[i].section) &&
		    config_name_equal(key, aliases[i].alias))
			key = aliases[i].key;
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (config_name_equal(section, config_keys()[i].section) &&
		    config_name_equal(key, config_keys()[i].key))
			return &config_keys()[i];
	return NULL;
}

static bool section_known(const char *section)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (config_name_equal(section, config_keys()[i].section))
			return true;
	return false;
}

static bool key_is_text(const struct config_key *k)
{
	return k->kind != CONFIG_U64 && k->kind != CONFIG_BOOL;
}

static const char **text_slot(struct config *cfg, const struct config_key *k)
{
	return (const char **)(void *)((char *)cfg + k->offset);
}

static void number_put(struct config *cfg, const struct config_key *k, uint64_t v)
{
	if (k->kind == CONFIG_U64)
		*(uint64_t *)(void *)((char *)cfg + k->offset) = v;
	else
		*(bool *)(void *)((char *)cfg + k->offset) = v != 0;
}

static uint64_t number_get(const struct config *cfg, const struct config_key *k)
{
	if (k->kind == CONFIG_U64)
		return *(const uint64_t *)(const void *)((const char *)cfg + k->offset);
	return *(const bool *)(const void *)((const char *)cfg + k->offset);
}

/* Equal texts share one copy, so that reloads of the same values do not grow. */
static const char *string_intern(struct config *cfg, const char *text)
{
	struct config_string *s;

	for (s = cfg->strings; s; s = s->next)
		if (!strcmp(s->text, text))
			return s->text;
	s = malloc(sizeof *s + strlen(text) + 1);
	if (!s)
		return NULL;
	memcpy(s->text, text, strlen(text) + 1);
	s->next = cfg->strings;
	cfg->strings = s;
	return s->text;
}

struct config *config_new(void)
{
	struct config *cfg = calloc(1, sizeof *cfg);

	if (!cfg)
		return NULL;
	for (const struct config_key *k = config_keys(); k < config_keys() + KEY_COUNT; k++) {
		if (key_is_text(k))
			*text_slot(cfg, k) = k->def;
		else if (k->kind == CONFIG_BOOL)
			number_put(cfg, k, !strcmp(k->def, "yes"));
		else
			number_put(cfg, k, strtoull(k->def, NULL, 10));
	}
	return cfg;
}

void config_free(struct config *cfg)
{
	struct config_string *s;

	if (!cfg)
		return;
	while ((s = cfg->strings)) {
		cfg->strings = s->next;
		free(s);
	}
	free(cfg);
}

__attribute__((format(printf, 2, 3))) static void fault(struct parse *p, const char *fmt, ...)
{
	char text[1024], line[1400];
	va_list ap;

	p->failed = true;
	if (p->reports > CONFIG_REPORTS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (p->reports++ == CONFIG_REPORTS_MAX)
		cstr_print(line, sizeof line, "%s: more faults are not shown", p->name);
	else if (p->line)
		cstr_print(line, sizeof line, "%s:%u: %s", p->name, p->line, text);
	else
		cstr_print(line, sizeof line, "%s: %s", p->name, text);
	p->report(p->ctx, line);
}

/* What a user wrote, made safe for a terminal and not too long. */
static const char *shown(const char *text, char out[72])
{
	size_t len = strlen(text);

	bytes_to_cstr(bytes_of(text, len < 60 ? len : 60), out, 72 - 4);
	if (len > 60)
		memcpy(out + strlen(out), "...", 4);
	return out;
}

static void fault_unknown_section(struct parse *p, const char *section)
{
	char text[72], known[600] = "";
	size_t at = 0;

	for (size_t i = 0; i < KEY_COUNT && at < sizeof known; i++)
		if (!i || strcmp(config_keys()[i].section, config_keys()[i - 1].section) != 0)
			at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? " " : "",
					       config_keys()[i].section);
	fault(p, "unknown section [%s]; known: %s", shown(section, text), known);
}

static void fault_unknown_key(struct parse *p, const char *section, const char *key)
{
	char where[72], text[72], known[800] = "";
	size_t at = 0;

	for (size_t i = 0; i < KEY_COUNT && at < sizeof known; i++)
		if (config_name_equal(section, config_keys()[i].section))
			at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", at ? " " : "",
					       config_keys()[i].key);
	fault(p, "%s.%s: unknown key; known: %s", shown(section, where), shown(key, text), known);
}

static void value_set(struct parse *p, const struct config_key *k, const char *text)
{
	struct config_value v;
	char printed[72], range[256];
	const char *kept;

	if (!config_value_parse(k, text, &v)) {
		fault(p, "%s.%s: '%s' is not accepted; expected %s", k->section, k->key,
		      shown(text, printed), config_key_range(k, range, sizeof range));
		return;
	}
	if (!key_is_text(k)) {
		number_put(p->cfg, k, v.num);
		return;
	}
	kept = string_intern(p->cfg, v.text);
	if (kept)
		*text_slot(p->cfg, k) = kept;
	else
		p->no_memory = true;
}

static int on_key(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;
	const struct config_key *k = config_key_find(section, name);

	p->want_key = false;
	if (!*section) {
		fault(p, "a key before the first [section]");
	} else if (!section_known(section)) {
		/* Told once, at the line of the section. */
		p->failed = true;
	} else if (!k) {
		fault_unknown_key(p, section, name);
	} else if (p->set_in_line[k - config_keys()]) {
		fault(p, "%s.%s: set twice; the first is in line %u", k->section, k->key,
		      p->set_in_line[k - config_keys()]);
	} else {
		p->set_in_line[k - config_keys()] = p->line;
		value_set(p, k, value);
	}
	return 1;
}

static void section_check(struct parse *p, const char *start, size_t len)
{
	const char *close = memchr(start, ']', len);
	char name[64];
	size_t n;

	if (!close) {
		fault(p, "a section without its ']'");
		return;
	}
	n = (size_t)(close - start - 1);
	if (n >= sizeof name)
		n = sizeof name - 1;
	memcpy(name, start + 1, n);
	name[n] = '\0';
	if (!section_known(name))
		fault_unknown_section(p, name);
}

/* Looks at a line before inih does: it tells only of the first line it cannot read. */
static bool line_check(struct parse *p, const char *line, size_t len, size_t room)
{
	if (memchr(line, '\0', len)) {
		fault(p, "a NUL byte");
		return false;
	}
	while (len && strchr(" \t\r\v\f", *line)) {
		line++;
		len--;
	}
	if (!len || *line == '#' || *line == ';')
		return false;
	if (len > CONFIG_LINE_MAX_BYTES || len > room) {
		fault(p, "a line of more than %u characters", CONFIG_LINE_MAX_BYTES);
		return false;
	}
	if (*line == '[')
		section_check(p, line, len);
	else
		p->want_key = true;
	return true;
}

static void line_finish(struct parse *p)
{
	if (p->want_key)
		fault(p, "neither 'Key = value' nor '[section]'");
	p->want_key = false;
}

/* fgets() over the text for inih, one line a call; lines that it shall not see become empty. */
static char *line_next(char *out, int size, void *stream)
{
	struct parse *p = stream;
	const char *line = p->at, *newline;
	size_t len;

	line_finish(p);
	if (p->at == p->end || size < 3)
		return NULL;
	newline = memchr(line, '\n', (size_t)(p->end - line));
	len = newline ? (size_t)(newline - line) : (size_t)(p->end - line);
	p->at = newline ? newline + 1 : p->end;
	p->line++;
	if (!line_check(p, line, len, (size_t)size - 2))
		len = 0;
	/* Blanks in front of the text may have made the line longer than was checked. */
	while (len > (size_t)size - 2) {
		line++;
		len--;
	}
	memcpy(out, line, len);
	out[len] = '\n';
	out[len + 1] = '\0';
	return out;
}

static int parse_result(const struct parse *p)
{
	if (p->no_memory)
		return -ENOMEM;
	return p->failed ? -EINVAL : 0;
}

int config_parse(struct config *cfg, const char *name, const char *text, size_t len,
		 config_report *report, void *ctx)
{
	struct parse p = {.cfg = cfg, .name = name, .report = report, .ctx = ctx};

	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		text += 3;
		len -= 3;
	}
	p.at = text;
	p.end = text + len;
	ini_allow_multiline = false;
	ini_use_stack = true;
	ini_max_line = (int)CONFIG_LINE_MAX_BYTES + 3;
	ini_parse_stream(line_next, &p, on_key, &p);
	return parse_result(&p);
}

static int file_read(const char *path, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	char *data;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	data = malloc(CONFIG_FILE_MAX_BYTES + 1);
	*len = 0;
	while (data && *len <= CONFIG_FILE_MAX_BYTES &&
	       (n = read(fd, data + *len, CONFIG_FILE_MAX_BYTES + 1 - *len)) > 0)
		*len += (size_t)n;
	if (!data)
		rc = -ENOMEM;
	else if (n < 0)
		rc = -errno;
	else if (*len > CONFIG_FILE_MAX_BYTES)
		rc = -EFBIG;
	close(fd);
	if (rc)
		free(data);
	else
		*text = data;
	return rc;
}

int config_read(struct config *cfg, const char *path, config_report *report, void *ctx)
{
	struct parse p = {.cfg = cfg, .name = path, .report = report, .ctx = ctx};
	char *text = NULL;
	size_t len = 0;
	int rc = file_read(path, &text, &len);

	if (rc) {
		fault(&p, "cannot be read: %s", strerror(-rc));
		return rc;
	}
	rc = config_parse(cfg, path, text, len, report, ctx);
	free(text);
	return rc;
}

static const char *trim(char *text)
{
	size_t len = strlen(text);

	while (len && strchr(" \t\r\n", text[len - 1]))
		text[--len] = '\0';
	return text + strspn(text, " \t\r\n");
}

int config_set(struct config *cfg, const char *option, config_report *report, void *ctx)
{
	struct parse p = {.cfg = cfg, .name = "-o", .report = report, .ctx = ctx};
	char text[CONFIG_LINE_MAX_BYTES + 1], printed[72], *dot, *equals;
	const char *section, *key;
	const struct config_key *k;

	if (strlen(option) >= sizeof text) {
		fault(&p, "more than %u characters", CONFIG_LINE_MAX_BYTES);
		return -EINVAL;
	}
	memcpy(text, option, strlen(option) + 1);
	equals = strchr(text, '=');
	dot = strchr(text, '.');
	if (!equals || !dot || dot > equals) {
		fault(&p, "'%s' is not section.key=value", shown(option, printed));
		return -EINVAL;
	}
	*equals = *dot = '\0';
	section = trim(text);
	key = trim(dot + 1);
	k = config_key_find(section, key);
	if (k)
		value_set(&p, k, trim(equals + 1));
	else if (section_known(section))
		fault_unknown_key(&p, section, key);
	else
		fault_unknown_section(&p, section);
	return parse_result(&p);
}

/* Keeps the first error but lets the later steps tell theirs. */
static void keep_first(int *rc, int next)
{
	if (!*rc)
		*rc = next;
}

int config_load(struct config **out, const struct config_source *src, config_report *report,
		void *ctx)
{
	struct config *cfg = config_new();
	struct parse env = {.cfg = cfg, .name = "MESH_RPC_PORT", .report = report, .ctx = ctx};
	int rc = 0;

	*out = NULL;
	if (!cfg) {
		report(ctx, "out of memory");
		return -ENOMEM;
	}
	if (src->path)
		rc = config_read(cfg, src->path, report, ctx);
	else if (!access(CONFIG_DEFAULT_PATH, F_OK) || errno != ENOENT)
		rc = config_read(cfg, CONFIG_DEFAULT_PATH, report, ctx);
	if (src->rpc_port) {
		value_set(&env, config_key_find("nodemanager", "RpcPort"), src->rpc_port);
		keep_first(&rc, parse_result(&env));
	}
	for (size_t i = 0; i < src->n_options; i++)
		keep_first(&rc, config_set(cfg, src->options[i], report, ctx));
	if (rc)
		config_free(cfg);
	else
		*out = cfg;
	return rc;
}

/* Our own copy of an equal text, or the copy of `from`, which changes hands: nothing can fail. */
static const char *string_take(struct config *cfg, struct config *from, const char *text)
{
	struct config_string **link, *s;

	for (s = cfg->strings; s; s = s->next)
		if (!strcmp(s->text, text))
			return s->text;
	for (link = &from->strings; (s = *link); link = &s->next)
		if (s->text == text) {
			*link = s->next;
			s->next = cfg->strings;
			cfg->strings = s;
			break;
		}
	/* Not on the list: the default, a literal. */
	return text;
}

static bool key_replace(struct config *cfg, struct config *from, const struct config_key *k)
{
	if (!key_is_text(k)) {
		uint64_t v = number_get(from, k);

		if (number_get(cfg, k) == v)
			return false;
		number_put(cfg, k, v);
		return true;
	}
	if (!strcmp(*text_slot(cfg, k), *text_slot(from, k)))
		return false;
	*text_slot(cfg, k) = string_take(cfg, from, *text_slot(from, k));
	return true;
}

unsigned config_replace(struct config *cfg, struct config *from)
{
	unsigned changed = 0;

	for (const struct config_key *k = config_keys(); k < config_keys() + KEY_COUNT; k++)
		if (key_replace(cfg, from, k)) {
			changed++;
			log_info("configuration: %s.%s changed", k->section, k->key);
		}
	config_free(from);
	return changed;
}
