#include "io/hook.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/child.h"
#include "io/clock.h"
#include "io/privileges.h"
#include "io/timer.h"

#define ENV_MAX 256 /* ours and the event's */
#define STOP_US 1000000u

/* One run: its words and environment in one allocation. */
struct run {
	TAILQ_ENTRY(run) link;
	struct hooks *hooks;
	struct child *child; /* NULL: it waits */
	struct event *deadline;
	bool late;
	char name[HOOK_NAME_MAX + 1];
	const char *argv[HOOK_WORDS_MAX + HOOK_VALUES_MAX + 1], *env[HOOK_VALUES_MAX + 1];
	char text[];
};
TAILQ_HEAD(runs, run);

struct hooks {
	struct event_base *base;
	struct runs running, waiting;
	size_t running_count, running_max, waiting_count, waiting_max;
	struct event *next;
	struct hook_counters counters;
	struct log_limit crowded;
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

int hook_check(const char *line, char program[HOOK_LINE_MAX])
{
	char copy[HOOK_LINE_MAX];
	const char *words[HOOK_WORDS_MAX];

	if (strlen(line) >= sizeof copy)
		return -EINVAL;
	memcpy(copy, line, strlen(line) + 1);
	int n = split(copy, words, HOOK_WORDS_MAX);
	if (n >= 0 && program)
		cstr_copy(program, HOOK_LINE_MAX, n ? words[0] : "");
	return n < 0 ? n : 0;
}

static size_t list_size(const char *const *list)
{
	size_t size = 0;

	for (; list && *list; list++)
		size += strlen(*list) + 1;
	return size;
}

/* Copies `list` to `to`; returns where the text goes on. */
static char *append(const char **to, const char *const *list, char *text)
{
	for (size_t n = 0; list && list[n]; n++) {
		size_t len = strlen(list[n]) + 1;

		assert(n < HOOK_VALUES_MAX);
		memcpy(text, list[n], len);
		to[n] = text;
		text += len;
	}
	return text;
}

static void run_free(struct run *r)
{
	event_drop(r->deadline);
	child_free(r->child);
	free(r);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg);

static struct run *run_new(struct hooks *h, const char *name, const char *line,
			   const char *const *args, const char *const *env)
{
	size_t len = strlen(line) + 1;
	struct run *r = calloc(1, sizeof *r + len + list_size(args) + list_size(env));
	int n;

	if (!r)
		return NULL;
	r->hooks = h;
	cstr_copy(r->name, sizeof r->name, name);
	memcpy(r->text, line, len);
	n = split(r->text, r->argv, HOOK_WORDS_MAX);
	r->deadline = timer_new(h->base, on_deadline, r);
	if (n <= 0 || !r->deadline) {
		run_free(r);
		return NULL;
	}
	append(r->env, env, append(r->argv + n, args, r->text + len));
	return r;
}

/* --- running ------------------------------------------------------------------------------ */

static void failed(struct run *r, const char *why)
{
	r->hooks->counters.failed++;
	log_warn("hook %s (%s): %s", r->name, r->argv[0], why);
}

static void on_exit_status(struct child *c, int status, void *arg)
{
	struct run *r = arg;
	struct hooks *h = r->hooks;
	char text[48];

	(void)c;
	if (r->late)
		failed(r, "took too long and was ended");
	else if (status)
		failed(r, child_status_text(status, text));
	TAILQ_REMOVE(&h->running, r, link);
	h->running_count--;
	run_free(r);
	event_active(h->next, EV_TIMEOUT, 0);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	(void)fd, (void)what;
	r->late = true;
	child_stop(r->child, STOP_US);
}

/* Our environment, and the event's before it, so that it counts. */
static int start(struct run *r)
{
	static const struct timeval longest = {HOOK_SECONDS_MAX, 0};
	const char *env[ENV_MAX + 1];
	size_t n = 0;
	struct child_spec spec = {.name = r->name,
				  .argv = r->argv,
				  .env = env,
				  .privileges = PRIVILEGES_NETWORK,
				  .on_exit = on_exit_status,
				  .arg = r};

	for (const char *const *e = r->env; *e; e++)
		env[n++] = *e;
	for (char **e = environ; *e && n < ENV_MAX; e++)
		env[n++] = *e;
	env[n] = NULL;
	if (evtimer_add(r->deadline, &longest))
		return -ENOMEM;
	return child_start(&r->child, r->hooks->base, &spec);
}

static void on_next(evutil_socket_t fd, short what, void *arg)
{
	struct hooks *h = arg;
	struct run *r;

	(void)fd, (void)what;
	while (h->running_count < h->running_max && (r = TAILQ_FIRST(&h->waiting))) {
		TAILQ_REMOVE(&h->waiting, r, link);
		h->waiting_count--;
		int err = start(r);
		if (err) {
			failed(r, strerror(-err));
			run_free(r);
			continue;
		}
		h->counters.run++;
		TAILQ_INSERT_TAIL(&h->running, r, link);
		h->running_count++;
	}
}

int hooks_new(struct hooks **out, struct event_base *base, size_t running_max, size_t waiting_max)
{
	struct hooks *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	TAILQ_INIT(&h->running);
	TAILQ_INIT(&h->waiting);
	h->base = base;
	h->running_max = running_max;
	h->waiting_max = waiting_max;
	h->next = timer_new(base, on_next, h);
	if (!h->next) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

static void runs_free(struct runs *runs)
{
	struct run *r;

	while ((r = TAILQ_FIRST(runs))) {
		TAILQ_REMOVE(runs, r, link);
		run_free(r);
	}
}

void hooks_free(struct hooks *h)
{
	if (!h)
		return;
	runs_free(&h->running);
	runs_free(&h->waiting);
	event_free(h->next);
	free(h);
}

bool hooks_idle(const struct hooks *h)
{
	return h->running_count == 0 && h->waiting_count == 0;
}

const struct hook_counters *hooks_counters(const struct hooks *h)
{
	return &h->counters;
}

void hooks_run(struct hooks *h, const char *name, const char *line, const char *const *args,
	       const char *const *env)
{
	struct run *r;

	if (!*line)
		return;
	if (h->waiting_count >= h->waiting_max) {
		h->counters.dropped++;
		if (log_limit_due(&h->crowded, daemon_now_us()))
			log_warn("hook %s is not run: %zu wait already (%" PRIu64 " so far)", name,
				 h->waiting_count, h->counters.dropped);
		return;
	}
	r = run_new(h, name, line, args, env);
	if (!r) {
		h->counters.failed++;
		log_warn("hook %s cannot be run: '%s'", name, line);
		return;
	}
	TAILQ_INSERT_TAIL(&h->waiting, r, link);
	h->waiting_count++;
	event_active(h->next, EV_TIMEOUT, 0);
}
