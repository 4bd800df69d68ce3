#include "gatewayd/hooks.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "io/child.h"
#include "io/clock.h"

#define ARGUMENTS 9
#define ARGUMENT_MAX 128

struct job {
	TAILQ_ENTRY(job) link;
	struct gw_hooks *hooks;
	struct child *child; /* NULL: it waits */
	struct event *timer;
	bool late;
	char command[HOOKS_COMMAND_MAX]; /* cut into words when it is run */
	char arguments[ARGUMENTS][ARGUMENT_MAX];
};
TAILQ_HEAD(job_list, job);

struct gw_hooks {
	struct event_base *base;
	struct job_list running, waiting;
	size_t running_count, waiting_count;
	struct event *next; /* starts what waits, outside of a child's callback */
	struct gw_hook_counters counters;
	struct log_limit crowded;
};

static void job_free(struct job *j)
{
	if (j->timer)
		event_free(j->timer);
	child_free(j->child);
	free(j);
}

static void job_failed(struct job *j, const char *why)
{
	j->hooks->counters.failed++;
	log_warn("hook %s (%s of %.8s...): %s", j->command, j->arguments[0], j->arguments[1], why);
}

static void on_ended(struct child *c, int status, void *arg)
{
	struct job *j = arg;
	struct gw_hooks *h = j->hooks;
	char text[48];

	(void)c;
	if (j->late)
		job_failed(j, "took too long");
	else if (status)
		job_failed(j, child_status_text(status, text));
	TAILQ_REMOVE(&h->running, j, link);
	h->running_count--;
	job_free(j);
	event_active(h->next, EV_TIMEOUT, 0);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct job *j = arg;

	(void)fd, (void)what;
	j->late = true;
	child_stop(j->child, HOOKS_KILL_US);
}

/* Words between blanks; NULL ends them, the arguments follow.  False: there is none. */
static bool words(struct job *j, const char *argv[HOOKS_WORDS_MAX + ARGUMENTS + 1])
{
	size_t n = 0;
	char *rest = NULL;

	for (char *w = strtok_r(j->command, " \t", &rest); w && n < HOOKS_WORDS_MAX;
	     w = strtok_r(NULL, " \t", &rest))
		argv[n++] = w;
	if (!n)
		return false;
	for (size_t i = 0; i < ARGUMENTS; i++)
		argv[n++] = j->arguments[i];
	argv[n] = NULL;
	return true;
}

static int job_start(struct job *j)
{
	static const struct timeval limit = {.tv_sec = HOOKS_TIMEOUT_US / 1000000,
					     .tv_usec = HOOKS_TIMEOUT_US % 1000000};
	const char *argv[HOOKS_WORDS_MAX + ARGUMENTS + 1];
	struct child_spec spec = {.name = "hook", .argv = argv, .on_exit = on_ended, .arg = j};

	if (!words(j, argv))
		return -EINVAL;
	j->timer = event_new(j->hooks->base, -1, 0, on_late, j);
	if (!j->timer || event_add(j->timer, &limit))
		return -ENOMEM;
	return child_start(&j->child, j->hooks->base, &spec);
}

static void on_next(evutil_socket_t fd, short what, void *arg)
{
	struct gw_hooks *h = arg;
	struct job *j;
	int rc;

	(void)fd, (void)what;
	while (h->running_count < HOOKS_RUNNING_MAX && (j = TAILQ_FIRST(&h->waiting))) {
		TAILQ_REMOVE(&h->waiting, j, link);
		h->waiting_count--;
		rc = job_start(j);
		if (rc) {
			job_failed(j, strerror(-rc));
			job_free(j);
			continue;
		}
		h->counters.run++;
		TAILQ_INSERT_TAIL(&h->running, j, link);
		h->running_count++;
	}
}

int gw_hooks_new(struct gw_hooks **out, struct event_base *base)
{
	struct gw_hooks *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->base = base;
	TAILQ_INIT(&h->running);
	TAILQ_INIT(&h->waiting);
	h->next = event_new(base, -1, 0, on_next, h);
	if (!h->next) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

void gw_hooks_free(struct gw_hooks *h)
{
	struct job *j;

	if (!h)
		return;
	while ((j = TAILQ_FIRST(&h->running))) {
		TAILQ_REMOVE(&h->running, j, link);
		job_free(j);
	}
	while ((j = TAILQ_FIRST(&h->waiting))) {
		TAILQ_REMOVE(&h->waiting, j, link);
		job_free(j);
	}
	event_free(h->next);
	free(h);
}

/* What a peer chose stands as one argument, but nothing that a careless script could take for an
 * option or a path. */
static void argument(char out[ARGUMENT_MAX], const char *text)
{
	size_t n = 0;

	for (; *text && n < ARGUMENT_MAX - 1; text++)
		if ((unsigned char)*text >= ' ' && *text != 0x7f && !(n == 0 && *text == '-'))
			out[n++] = *text;
	if (!n)
		out[n++] = '-';
	out[n] = '\0';
}

static void arguments(struct job *j, const char *event, const struct lease *l, uint64_t timeout_s)
{
	char text[MESH_ID_TEXT], (*a)[ARGUMENT_MAX] = j->arguments;

	argument(a[0], event);
	snprintf(a[1], ARGUMENT_MAX, "%s", l->sid);
	argument(a[2], l->method);
	argument(a[3], l->name);
	if (l->who.host.family)
		argument(a[4], net_addr_ip_text(&l->who.host, text));
	else
		argument(a[4], mesh_id_text(&l->who.node, text));
	argument(a[5], l->ip4.family ? net_addr_ip_text(&l->ip4, text) : "");
	argument(a[6], l->ip6.family ? net_addr_ip_text(&l->ip6, text) : "");
	argument(a[7], l->interface);
	snprintf(a[8], ARGUMENT_MAX, "%" PRIu64, timeout_s);
}

void gw_hooks_run(struct gw_hooks *h, const char *command, const char *event, const struct lease *l,
		  uint64_t timeout_wall_s)
{
	struct job *j;

	if (!*command)
		return;
	j = h->waiting_count < HOOKS_WAITING_MAX ? calloc(1, sizeof(*j)) : NULL;
	if (!j) {
		h->counters.dropped++;
		if (log_limit_due(&h->crowded, daemon_now_us()))
			log_warn("hooks: too many wait; %s of %.8s... is not told (%" PRIu64
				 " so far)",
				 event, l->sid, h->counters.dropped);
		return;
	}
	j->hooks = h;
	snprintf(j->command, sizeof(j->command), "%s", command);
	arguments(j, event, l, timeout_wall_s);
	TAILQ_INSERT_TAIL(&h->waiting, j, link);
	h->waiting_count++;
	event_active(h->next, EV_TIMEOUT, 0);
}

const struct gw_hook_counters *gw_hooks_counters(const struct gw_hooks *h)
{
	return &h->counters;
}
