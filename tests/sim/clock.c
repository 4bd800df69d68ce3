#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

uint64_t sim_random(struct sim *s)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi)
{
	return lo + sim_random(s) % (hi - lo + 1);
}

bool sim_chance(struct sim *s, uint32_t ppm)
{
	return ppm && sim_random(s) % 1000000 < ppm;
}

void sim_fill(struct sim *s, void *out, size_t len)
{
	uint8_t *p = out;

	while (len) {
		uint64_t v = sim_random(s);
		size_t n = len < sizeof v ? len : sizeof v;
		memcpy(p, &v, n);
		p += n;
		len -= n;
	}
}

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failure[0])
		return;
	int n = snprintf(s->failure, sizeof s->failure, "at %.6f s: ", (double)s->now / SEC);
	va_start(ap, fmt);
	vsnprintf(s->failure + n, sizeof s->failure - (size_t)n, fmt, ap);
	va_end(ap);
}

void sim_log(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->verbose)
		return;
	printf("%10.6f ", (double)s->now / SEC);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* --- events ---------------------------------------------------------------------------------- */

struct action {
	struct timer timer;
	struct sim *sim;
	void (*what)(struct sim *s, void *arg);
	void *arg;
};

static void run_action(struct timer *t, uint64_t now)
{
	struct action a = *(struct action *)t->owner;

	(void)now;
	free(t->owner);
	a.what(a.sim, a.arg);
}

void sim_at(struct sim *s, uint64_t at, void (*what)(struct sim *s, void *arg), void *arg)
{
	struct action *a = malloc(sizeof *a);

	*a = (struct action){.sim = s, .what = what, .arg = arg};
	timer_init(&a->timer, run_action, a);
	timerq_set(&s->events, &a->timer, at);
}

static void open_letter(struct timer *t, uint64_t now)
{
	struct sim_letter *l = t->owner;
	struct msg m;

	(void)now;
	if (msg_decode(&m, bytes_of(l->bytes, l->len)))
		sim_fail(l->sim, "a message does not decode");
	else
		l->land(l, &m);
	free(l);
}

void sim_post(struct sim *s, const struct msg *m, uint64_t at, struct sim_letter envelope)
{
	size_t len = msg_encoded_size(m);
	struct sim_letter *l = malloc(sizeof *l + len);
	struct wbuf w = wbuf_init(l->bytes, len);

	*l = envelope;
	l->sim = s;
	l->len = len;
	msg_encode(m, &w);
	if (w.bad)
		sim_fail(s, "%s does not encode", msg_type_name(m->type));
	timer_init(&l->timer, open_letter, l);
	timerq_set(&s->events, &l->timer, at);
}

void sim_clear_events(struct sim *s)
{
	while (s->events.count)
		timerq_run(&s->events, TIMER_NEVER - 1);
	timerq_free(&s->events);
}

static uint64_t next_time(const struct sim *s)
{
	uint64_t next = timerq_next(&s->events), t = s->nm ? nm_next_timeout(s->nm) : TIMER_NEVER;

	if (t < next)
		next = t;
	for (unsigned i = 0; i < s->host_count; i++) {
		t = host_next_timeout(&s->hosts[i]);
		if (t < next)
			next = t;
	}
	return next;
}

static void run_host(struct sim *s, struct sim_host *h)
{
	struct node_status st;

	if (!h->engine)
		return;
	if (node_engine_next_timeout(h->engine) <= host_now(h))
		node_engine_tick(h->engine, host_now(h));
	else
		node_engine_flush(h->engine, host_now(h));
	if (sim_random(s) % 64)
		return;
	node_engine_get_status(h->engine, &st);
	if (st.queued_bytes > h->most_queued)
		h->most_queued = st.queued_bytes;
	if (st.queued_bytes > h->may_queue)
		sim_fail(s, "host %u holds %zu bytes", h->index, st.queued_bytes);
}

bool sim_run(struct sim *s, uint64_t until, bool (*done)(struct sim *s))
{
	while (!s->failure[0]) {
		if (done && done(s))
			return true;
		uint64_t next = next_time(s);
		if (next > until) {
			s->now = until > s->now ? until : s->now;
			return false;
		}
		s->now = (next > s->now ? next : s->now) + BATCH_US;
		timerq_run(&s->events, s->now);
		for (unsigned i = 0; i < s->host_count; i++)
			run_host(s, &s->hosts[i]);
		if (s->nm && nm_next_timeout(s->nm) <= s->now)
			nm_tick(s->nm, s->now);
	}
	return false;
}
