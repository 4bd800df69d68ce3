/*
 * The configuration of all daemons: one INI file, -o options, defaults.  The keys are lines of
 * config_keys.def; a key (node, app_talk_addr) is read as cfg->node_app_talk_addr: `const char *`
 * (never NULL), `uint64_t` or `bool`, always within the range of its line.
 *
 * Order of precedence: default < file < environment (MESH_RPC_PORT) < -o.  Section and key names
 * are compared without case and underscores.  Every fault is reported, not only the first.
 *
 * A string, once given out, stays valid and unchanged until config_free(): a reload puts new
 * strings into the same struct and keeps the old ones.  Lists and networks: io/config_value.h.
 */
#ifndef IO_CONFIG_H
#define IO_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DEFAULT_PATH "/etc/meshnet.cfg"
#define CONFIG_FILE_MAX_BYTES (1u << 20)
#define CONFIG_LINE_MAX_BYTES 2000u
#define CONFIG_REPORTS_MAX 50u /* faults told of one file */

struct config {
#define STR(section, field, key, def, doc) const char *section##_##field;
#define CHOICE(section, field, key, def, words, doc) const char *section##_##field;
#define ADDR(section, field, key, def, doc) const char *section##_##field;
#define HOST(section, field, key, def, doc) const char *section##_##field;
#define ADDRS(section, field, key, def, doc) const char *section##_##field;
#define NETS(section, field, key, def, doc) const char *section##_##field;
#define PUBKEY(section, field, key, def, doc) const char *section##_##field;
#define U64(section, field, key, def, min, max, doc) uint64_t section##_##field;
#define BOOL(section, field, key, def, doc) bool section##_##field;
#include "io/config_keys.def"
#undef STR
#undef CHOICE
#undef ADDR
#undef HOST
#undef ADDRS
#undef NETS
#undef PUBKEY
#undef U64
#undef BOOL
	struct config_string *strings; /* owned: every string value this struct ever had */
};

enum config_kind {
	CONFIG_STR,
	CONFIG_CHOICE,
	CONFIG_ADDR,
	CONFIG_HOST,
	CONFIG_ADDRS,
	CONFIG_NETS,
	CONFIG_PUBKEY,
	CONFIG_U64,
	CONFIG_BOOL
};

struct config_key {
	const char *section, *key;
	enum config_kind kind;
	const char *def;   /* as text */
	const char *words; /* CONFIG_CHOICE */
	uint64_t min, max; /* CONFIG_U64 */
	size_t offset;	   /* in struct config */
};

/* The table, in the order of config_keys.def; config_key_count() entries. */
const struct config_key *config_keys(void);
size_t config_key_count(void);
/* NULL when there is no such key; names as a user writes them. */
const struct config_key *config_key_find(const char *section, const char *key);

/* One line for the user, without a newline: "FILE:LINE: section.Key: ...". */
typedef void config_report(void *ctx, const char *line);

/* All defaults; NULL when out of memory. */
struct config *config_new(void);
void config_free(struct config *cfg);

/*
 * Reads the text of a file into `cfg`; `name` is for reports.  0, -EINVAL when anything was wrong
 * (what was right is set nevertheless), -ENOMEM.
 */
int config_parse(struct config *cfg, const char *name, const char *text, size_t len,
		 config_report *report, void *ctx);
/* The same from a file; also -errno of the open or read (reported). */
int config_read(struct config *cfg, const char *path, config_report *report, void *ctx);
/* "section.key=value", as given to -o.  0, -EINVAL (reported), -ENOMEM. */
int config_set(struct config *cfg, const char *option, config_report *report, void *ctx);

struct config_source {
	const char *path;	    /* NULL: CONFIG_DEFAULT_PATH, which may be absent */
	const char *const *options; /* -o, in their order */
	size_t n_options;
	const char *rpc_port; /* the text of MESH_RPC_PORT, or NULL */
};

/* Everything in its order into a new struct.  0, or -errno with *out NULL and all faults reported.
 */
int config_load(struct config **out, const struct config_source *src, config_report *report,
		void *ctx);
/* Moves the values of `from` into `cfg` (consumes `from`), logs the names of keys that changed and
 * returns how many did. */
unsigned config_replace(struct config *cfg, struct config *from);
#endif
