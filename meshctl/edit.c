#include "meshctl/edit.h"

#include <errno.h>
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meshctl/command.h"
#include "meshctl/complete.h"

#define HISTORY_LINES 1000
#define LINE_MAX_BYTES 4096
#define PATH_BYTES 4096
#define CANDIDATES_MAX 256
#define CANDIDATE_BYTES 128

struct edit {
	EditLine *el;
	History *history;
	HistEvent event;
	const struct ctl_args *args;
	FILE *out;
	char path[PATH_BYTES]; /* "" when there is no home for it */
	char line[LINE_MAX_BYTES];
};

static char *prompt(EditLine *el)
{
	static char text[] = "mesh> ";

	(void)el;
	return text;
}

/* ---- the history file ---- */

/* Makes the folders of `path`, 0700 each that is new. */
static bool folders_make(const char *path)
{
	char part[PATH_BYTES];

	for (size_t i = 1; i < sizeof part && path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) && errno != EEXIST)
			return false;
	}
	return true;
}

static void history_path(char out[PATH_BYTES])
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = 0;

	if (state && *state == '/')
		n = snprintf(out, PATH_BYTES, "%s/meshnet/history", state);
	else if (home && *home == '/')
		n = snprintf(out, PATH_BYTES, "%s/.local/state/meshnet/history", home);
	if (n <= 0 || n >= PATH_BYTES || !folders_make(out))
		out[0] = '\0';
}

static void history_save(struct edit *e)
{
	mode_t mask;

	if (!*e->path)
		return;
	mask = umask(077);
	history(e->history, &e->event, H_SAVE, e->path);
	umask(mask);
	chmod(e->path, 0600); /* also one that was there before */
}

void edit_remember(struct edit *e, const char *line)
{
	/* A secret is not kept. */
	if (!line[strspn(line, " \t")] || strstr(line, "--token"))
		return;
	history(e->history, &e->event, H_ENTER, line);
	history_save(e);
}

/* ---- Tab ---- */

struct candidates {
	char words[CANDIDATES_MAX][CANDIDATE_BYTES];
	size_t count;
	bool more;
};

static void candidate_add(const char *word, void *arg)
{
	struct candidates *c = arg;

	if (strlen(word) >= CANDIDATE_BYTES)
		return;
	if (c->count == CANDIDATES_MAX)
		c->more = true;
	else
		snprintf(c->words[c->count++], CANDIDATE_BYTES, "%s", word);
}

static size_t common_length(const struct candidates *c)
{
	size_t len = strlen(c->words[0]);

	for (size_t i = 1; i < c->count; i++) {
		size_t same = 0;
		while (same < len && c->words[i][same] == c->words[0][same])
			same++;
		len = same;
	}
	return len;
}

static void candidates_show(const struct candidates *c, FILE *out)
{
	fputc('\n', out);
	for (size_t i = 0; i < c->count; i++)
		fprintf(out, "%s%s", c->words[i], i + 1 < c->count ? "  " : "");
	fprintf(out, "%s\n", c->more ? "  ..." : "");
	fflush(out);
}

/* Inserts what all candidates have in common; when that is nothing new, they are listed. */
static unsigned char take(struct edit *e, const struct candidates *c, size_t typed)
{
	size_t len = c->count ? common_length(c) : 0;
	char text[CANDIDATE_BYTES + 1];

	if (!c->count)
		return CC_ERROR;
	if (len <= typed && c->count > 1) {
		candidates_show(c, e->out);
		return CC_REDISPLAY;
	}
	snprintf(text, sizeof text, "%.*s%s", (int)(len - typed), c->words[0] + typed,
		 c->count == 1 ? " " : "");
	return el_insertstr(e->el, text) ? CC_ERROR : CC_REFRESH;
}

static unsigned char on_tab(EditLine *el, int ch)
{
	char line[LINE_MAX_BYTES], *words[CTL_WORDS_MAX], empty[] = "";
	const LineInfo *info = el_line(el);
	size_t len = (size_t)(info->cursor - info->buffer), typed;
	struct candidates *c;
	struct edit *e = NULL;
	unsigned char result;
	int count;

	(void)ch;
	if (el_get(el, EL_CLIENTDATA, &e) || len >= sizeof line)
		return CC_ERROR;
	memcpy(line, info->buffer, len);
	line[len] = '\0';
	bool fresh = len == 0 || line[len - 1] == ' ' || line[len - 1] == '\t';
	count = ctl_split(line, words, CTL_WORDS_MAX - 1);
	if (count < 0)
		return CC_ERROR;
	if (fresh)
		words[count++] = empty;
	typed = strlen(words[count - 1]);
	c = calloc(1, sizeof *c);
	if (!c)
		return CC_ERROR;
	ctl_complete(e->args, words, (size_t)count, candidate_add, c);
	result = take(e, c, typed);
	free(c);
	return result;
}

/* Ctrl-C leaves the line, not the prompt. */
static unsigned char on_cancel(EditLine *el, int ch)
{
	const LineInfo *info = el_line(el);
	int behind = (int)(info->lastchar - info->cursor);
	int all = (int)(info->lastchar - info->buffer);

	(void)ch;
	el_cursor(el, behind);
	el_deletestr(el, all);
	return CC_REFRESH;
}

/* ---- life ---- */

static bool is_dumb(void)
{
	const char *term = getenv("TERM");

	return !term || !*term || strcmp(term, "dumb") == 0;
}

static void edit_setup(struct edit *e)
{
	el_set(e->el, EL_CLIENTDATA, e);
	el_set(e->el, EL_PROMPT, prompt);
	el_set(e->el, EL_EDITOR, "emacs");
	el_set(e->el, EL_HIST, history, e->history);
	el_set(e->el, EL_ADDFN, "mesh-complete", "Complete the word", on_tab);
	el_set(e->el, EL_BIND, "^I", "mesh-complete", NULL);
	el_set(e->el, EL_ADDFN, "mesh-cancel", "Leave the line", on_cancel);
	el_set(e->el, EL_BIND, "^C", "mesh-cancel", NULL);
	el_set(e->el, EL_SETTY, "-d", "-isig", NULL);
	el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(e->el, NULL); /* ~/.editrc */
}

struct edit *edit_open(const struct ctl_args *args, FILE *in, FILE *out, FILE *err)
{
	bool able = isatty(fileno(in)) && isatty(fileno(out)) && !is_dumb();
	struct edit *e = able ? calloc(1, sizeof *e) : NULL;

	if (!e)
		return NULL;
	e->args = args;
	e->out = out;
	e->history = history_init();
	e->el = e->history ? el_init("meshctl", in, out, err) : NULL;
	if (!e->el) {
		edit_close(e);
		return NULL;
	}
	history(e->history, &e->event, H_SETSIZE, HISTORY_LINES);
	history(e->history, &e->event, H_SETUNIQUE, 1);
	history_path(e->path);
	if (*e->path)
		history(e->history, &e->event, H_LOAD, e->path);
	edit_setup(e);
	return e;
}

const char *edit_line(struct edit *e)
{
	int count = 0;
	const char *line = el_gets(e->el, &count);
	size_t len;

	if (!line || count <= 0)
		return NULL;
	len = strcspn(line, "\r\n");
	if (len >= sizeof e->line)
		len = sizeof e->line - 1;
	memcpy(e->line, line, len);
	e->line[len] = '\0';
	return e->line;
}

void edit_close(struct edit *e)
{
	if (!e)
		return;
	if (e->el)
		el_end(e->el);
	if (e->history)
		history_end(e->history);
	free(e);
}
