/* The prompt. */
#include <string.h>

#include "meshctl/command.h"
#include "meshctl/edit.h"
#include "meshctl/run.h"

#define LINE_MAX_BYTES 4096

/* True unless the line is "exit". */
static bool line_run(const struct ctl_args *base, char *line, FILE *out, FILE *err,
		     enum ctl_exit *status)
{
	struct ctl_args a = *base;
	char *words[CTL_WORDS_MAX], error[CTL_ERROR_MAX];
	int count = ctl_split(line, words, CTL_WORDS_MAX);
	const struct ctl_command *c;

	if (count == 0)
		return true;
	*status = CTL_USAGE;
	if (count < 0) {
		fprintf(err, "meshctl: too many words, or a quote that does not end\n");
		return true;
	}
	if (ctl_args_parse(&a, count, words, error)) {
		fprintf(err, "meshctl: %s\n", error);
		return true;
	}
	c = a.count ? ctl_command_find(a.words[0]) : NULL;
	*status = ctl_run(&a, out, err);
	return !c || strcmp(c->name, "exit") != 0;
}

/* Drops the rest of a line that did not fit. */
static void line_skip(FILE *in)
{
	for (int ch = getc(in); ch != EOF && ch != '\n'; ch = getc(in))
		;
}

static enum ctl_exit prompt_plain(const struct ctl_args *a, FILE *in, FILE *out, FILE *err,
				  bool interactive)
{
	char line[LINE_MAX_BYTES];
	enum ctl_exit status = CTL_OK;
	bool more = true;

	while (more) {
		if (interactive)
			fprintf(out, "mesh> ");
		fflush(out);
		if (!fgets(line, sizeof line, in)) {
			if (interactive)
				fputc('\n', out);
			break;
		}
		if (!strchr(line, '\n') && !feof(in)) {
			line_skip(in);
			fprintf(err, "meshctl: the line is too long\n");
			status = CTL_USAGE;
			continue;
		}
		more = line_run(a, line, out, err, &status);
	}
	return status;
}

static enum ctl_exit prompt_edited(const struct ctl_args *a, struct edit *e, FILE *out, FILE *err)
{
	char copy[LINE_MAX_BYTES];
	enum ctl_exit status = CTL_OK;
	const char *line;

	while ((line = edit_line(e))) {
		snprintf(copy, sizeof copy, "%s", line);
		edit_remember(e, line);
		if (!line_run(a, copy, out, err, &status))
			return status;
		fflush(out);
	}
	fputc('\n', out);
	return status;
}

enum ctl_exit ctl_prompt(const struct ctl_args *a, FILE *in, FILE *out, FILE *err, bool interactive)
{
	struct edit *e = interactive ? edit_open(a, in, out, err) : NULL;
	enum ctl_exit status;

	if (!e)
		return prompt_plain(a, in, out, err, interactive);
	status = prompt_edited(a, e, out, err);
	edit_close(e);
	return status;
}
