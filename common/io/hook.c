#include "io/hook.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/log.h"
#include "io/child.h"

#define ENV_MAX 256 /* ours and the event's */
#define STOP_US 1000000u

/* One run: its words and environment in one allocation. */
struct run {
	TAILQ_ENTRY(run) queue;
	const char *name;
	const char *argv[HOOK_ARGS_MAX + 1], *env[HOOK_ARGS_MAX + 1];
	char text[];
};
TAILQ_HEAD(runs, run);

struct hooks {
	struct event_base *base;
	struct runs waiting;
	size_t count;
	struct run *running;
	struct child *child;
	struct event *deadline, *next;
};

/* --- words -------------------------------------------------------------------------------- */

/* Divides `line` in place.  The number of words, or -EINVAL. */
static int split(char *line, const char **words, size_t max)
{
	size_t n = 0;
	char *in = line, *out = line, quote = '\0';

	while (*in) {
		while (*in == ' ' || *in == '\t')
			in++;
		if (!*in)
			break;
		if (n == max)
			return -EINVAL;
		words[n++] = out;
		for (; *in && (quote || (*in != ' ' && *in != '\t')); in++) {
			if (quote && *in == quote)
				quote = '\0';
			else if (!quote && (*in == '"' || *in == '\''))
				quote = *in;
			else
				*out++ = *in;
		}
		bool more = *in != '\0';
		*out++ = '\0';
		in += more;
	}
	return quote ? -EINVAL : (int)n;
}

int hook_check(const char *line)
{
	char copy[HOOK_LINE_MAX];
	const char *words[HOOK_ARGS_MAX];

	if (strlen(line) >= sizeof copy)
		return -EINVAL;
	memcpy(copy, line, strlen(line) + 1);
	int n = split(copy, words, HOOK_ARGS_MAX);
	return n < 0 ? n : 0;
}

static size_t list_size(const char *const *list)
{
	size_t size = 0;

	for (; list && *list; list++)
		size += strlen(*list) + 1;
	return size;
}

/* Appends copies of `list`, as far as there is room; returns where the text goes on. */
static char *append(const char **to, size_t from, size_t max, const char *const *list, char *text)
{
	for (; list && *list && from < max; list++) {
		size_t len = strlen(*list) + 1;
		memcpy(text, *list, len);
		to[from++] = text;
		text += len;
	}
	return text;
}

static struct run *run_new(const char *name, const char *line, const char *const *args,
			   const char *const *env)
{
	size_t len = strlen(line) + 1;
	struct run *r = calloc(1, sizeof *r + len + list_size(args) + list_size(env));
	int n;

	if (!r)
		return NULL;
	r->name = name;
	memcpy(r->text, line, len);
	n = split(r->text, r->argv, HOOK_ARGS_MAX);
	if (n <= 0) {
		free(r);
		return NULL;
	}
	char *text = append(r->argv, (size_t)n, HOOK_ARGS_MAX, args, r->text + len);
	append(r->env, 0, HOOK_ARGS_MAX, env, text);
	return r;
}

/* --- running ------------------------------------------------------------------------------ */

static void run_next(struct hooks *h);

static void done(struct hooks *h)
{
	event_del(h->deadline);
	free(h->running);
	h->running = NULL;
	run_next(h);
}

static void on_exit_status(struct child *c, int status, void *arg)
{
	struct hooks *h = arg;
	char text[48];

	(void)c;
	if (status)
		log_warn("hook %s: %s", h->running->name, child_status_text(status, text));
	done(h);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct hooks *h = arg;

	(void)fd, (void)what;
	log_warn("hook %s is ended: it took longer than %d s", h->running->name, HOOK_SECONDS_MAX);
	child_stop(h->child, STOP_US);
}

static void on_next(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	done(arg);
}

/* Our environment, and the event's before it, so that it counts. */
static int start(struct hooks *h, struct run *r)
{
	const char *env[ENV_MAX + 1];
	size_t n = 0;
	struct child_spec spec = {
		.name = r->name, .argv = r->argv, .env = env, .on_exit = on_exit_status, .arg = h};

	for (const char *const *e = r->env; *e && n < ENV_MAX; e++)
		env[n++] = *e;
	for (char **e = environ; *e && n < ENV_MAX; e++)
		env[n++] = *e;
	env[n] = NULL;
	child_free(h->child);
	h->child = NULL;
	return child_start(&h->child, h->base, &spec);
}

static void run_next(struct hooks *h)
{
	static const struct timeval longest = {HOOK_SECONDS_MAX, 0};
	struct run *r = TAILQ_FIRST(&h->waiting);
	int err;

	if (h->running || !r)
		return;
	TAILQ_REMOVE(&h->waiting, r, queue);
	h->count--;
	h->running = r;
	err = start(h, r);
	if (err) {
		log_warn("hook %s: %s: %s", r->name, r->argv[0], strerror(-err));
		event_active(h->next, EV_TIMEOUT, 0);
	} else {
		evtimer_add(h->deadline, &longest);
	}
}

int hooks_new(struct hooks **out, struct event_base *base)
{
	struct hooks *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	TAILQ_INIT(&h->waiting);
	h->base = base;
	h->deadline = evtimer_new(base, on_deadline, h);
	h->next = evtimer_new(base, on_next, h);
	if (!h->deadline || !h->next) {
		hooks_free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void hooks_free(struct hooks *h)
{
	struct run *r;

	if (!h)
		return;
	child_free(h->child);
	free(h->running);
	while ((r = TAILQ_FIRST(&h->waiting))) {
		TAILQ_REMOVE(&h->waiting, r, queue);
		free(r);
	}
	if (h->deadline)
		event_free(h->deadline);
	if (h->next)
		event_free(h->next);
	free(h);
}

bool hooks_idle(const struct hooks *h)
{
	return !h->running && h->count == 0;
}

void hooks_run(struct hooks *h, const char *name, const char *line, const char *const *args,
	       const char *const *env)
{
	struct run *r;

	if (!*line)
		return;
	if (h->count >= HOOK_WAITING_MAX) {
		log_warn("hook %s is not run: %d wait already", name, HOOK_WAITING_MAX);
		return;
	}
	r = run_new(name, line, args, env);
	if (!r) {
		log_warn("hook %s cannot be run: '%s'", name, line);
		return;
	}
	TAILQ_INSERT_TAIL(&h->waiting, r, queue);
	h->count++;
	run_next(h);
}
