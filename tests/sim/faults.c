#include <stdlib.h>

#include "sim/sim.h"

#define FAULTS_MAX 5
#define PAUSE_MIN_US (1 * SEC)
#define PAUSE_MAX_US (6 * SEC)

struct fault;
struct fault_kind {
	const char *name;
	uint64_t least_us, most_us; /* how long it lasts */
	void (*begin)(struct fault *f);
	void (*end)(struct fault *f);
};

struct fault {
	struct sim *sim;
	const struct fault_kind *kind;
	unsigned a, b; /* a link, or a host and another */
	uint32_t side; /* partition: hosts of one side, by bit */
	bool control;  /* partition: the manager is on the other side */
	uint32_t loss_ppm;
	size_t mtu_bytes;
};

/* --- a link ---------------------------------------------------------------------------------- */

static void cut(struct fault *f)
{
	network_cut(f->sim, f->a, f->b, 1);
}

static void heal(struct fault *f)
{
	network_cut(f->sim, f->a, f->b, -1);
}

/* It begins to lose a lot, and after a while stops. */
static void fade(struct fault *f)
{
	struct sim *s = f->sim;

	f->loss_ppm = s->paths[f->a][f->b].loss_ppm;
	s->paths[f->a][f->b].loss_ppm = s->paths[f->b][f->a].loss_ppm = 300000;
}

static void clear(struct fault *f)
{
	struct sim *s = f->sim;

	s->paths[f->a][f->b].loss_ppm = s->paths[f->b][f->a].loss_ppm = f->loss_ppm;
}

/* Large packets vanish from here on, without a word. */
static void shrink(struct fault *f)
{
	struct sim *s = f->sim;

	f->mtu_bytes = sim_between(s, 1124, 1400);
	s->paths[f->a][f->b].mtu_bytes = s->paths[f->b][f->a].mtu_bytes = f->mtu_bytes;
}

static void unlink_pair(struct fault *f)
{
	manager_unlink(f->sim, f->a, f->b);
}

static void link_pair(struct fault *f)
{
	manager_link(f->sim, f->a, f->b);
}

/* --- a host ---------------------------------------------------------------------------------- */

static void lose_channel(struct fault *f)
{
	manager_disconnect(&f->sim->hosts[f->a]);
}

static void rejoin(struct fault *f)
{
	manager_connect(&f->sim->hosts[f->a]);
}

static void crash(struct fault *f)
{
	struct sim *s = f->sim;
	struct sim_host *h = &s->hosts[f->a];

	for (unsigned i = 0; i < s->conn_count; i++)
		if (s->conns[i].app[0]->host == h || s->conns[i].app[1]->host == h)
			s->conns[i].may_die = true; /* with the host */
	host_crash(h);
	traffic_crashed(s, h);
	manager_disconnect(h);
}

static void reborn(struct fault *f)
{
	struct sim_host *h = &f->sim->hosts[f->a];

	host_open(f->sim, h->index);
	manager_connect(h);
	host_register_apps(h);
}

/* Its channel to the manager cannot move with it and is made anew. */
static void move(struct fault *f)
{
	host_move(&f->sim->hosts[f->a]);
	manager_disconnect(&f->sim->hosts[f->a]);
}

static void kill_manager(struct fault *f)
{
	manager_crash(f->sim);
}

static void restart_manager(struct fault *f)
{
	manager_reopen(f->sim);
}

/* A link dies while nobody can give a new path; it heals when the manager is back. */
static void kill_manager_and_cut(struct fault *f)
{
	manager_crash(f->sim);
	cut(f);
}

static void restart_manager_and_heal(struct fault *f)
{
	manager_reopen(f->sim);
	heal(f);
}

static void nothing(struct fault *f)
{
	(void)f;
}

/* --- the mesh in two halves ------------------------------------------------------------------ */

static void partition(struct fault *f, int change)
{
	struct sim *s = f->sim;

	for (unsigned a = 0; a < s->host_count; a++)
		for (unsigned b = a + 1; b < s->host_count; b++)
			if ((f->side >> a & 1) != (f->side >> b & 1))
				network_cut(s, a, b, change);
}

static void part(struct fault *f)
{
	struct sim *s = f->sim;

	f->side = (uint32_t)sim_random(s);
	f->control = sim_chance(s, 500000);
	partition(f, 1);
	for (unsigned i = 0; i < s->host_count; i++)
		if (f->control && (f->side >> i & 1))
			manager_disconnect(&s->hosts[i]);
}

static void join(struct fault *f)
{
	struct sim *s = f->sim;

	partition(f, -1);
	for (unsigned i = 0; i < s->host_count; i++)
		if (f->control && (f->side >> i & 1))
			manager_connect(&s->hosts[i]);
}

/* --- one after the other --------------------------------------------------------------------- */

static const struct fault_kind kinds[] = {
	{"a link blinks", 50 * MS, 1 * SEC, cut, heal},
	{"a link is cut", 4 * SEC, 10 * SEC, cut, heal},
	{"a link fades", 1 * SEC, 8 * SEC, fade, clear},
	{"a link takes smaller packets only", 1, 1, shrink, nothing},
	{"a link is not wanted for a while", 1 * MS, 3 * SEC, unlink_pair, link_pair},
	{"a host loses its control channel", 100 * MS, 9 * SEC, lose_channel, rejoin},
	{"a host crashes", 200 * MS, 3 * SEC, crash, reborn},
	{"a host moves", 100 * MS, 3 * SEC, move, rejoin},
	{"the manager is killed", 1 * MS, 6 * SEC, kill_manager, restart_manager},
	{"the manager is killed and a link is cut", 1 * MS, 6 * SEC, kill_manager_and_cut,
	 restart_manager_and_heal},
	{"the mesh is in two parts", 100 * MS, 8 * SEC, part, join},
};

static void over(struct sim *s, void *arg)
{
	struct fault *f = arg;

	if (!s->closing) { /* or a test that failed is cleared away */
		sim_log(s, "over: %s (%u, %u)", f->kind->name, f->a, f->b);
		f->kind->end(f);
	}
	s->faults--;
	free(f);
}

static void begin(struct sim *s, void *arg)
{
	struct fault *f = arg;

	if (!s->closing) {
		sim_log(s, "fault: %s (%u, %u)", f->kind->name, f->a, f->b);
		f->kind->begin(f);
	}
	sim_at(s, s->now + sim_between(s, f->kind->least_us, f->kind->most_us), over, f);
}

void faults_plan(struct sim *s)
{
	uint64_t at = s->now + sim_between(s, 10 * MS, PAUSE_MAX_US);

	for (uint64_t n = sim_between(s, 0, FAULTS_MAX); n; n--) {
		unsigned link = (unsigned)sim_between(s, 0, s->topology.count - 1);
		struct fault *f = malloc(sizeof *f);
		*f = (struct fault){
			.sim = s,
			.kind = &kinds[sim_between(s, 0, sizeof kinds / sizeof *kinds - 1)],
			.a = s->topology.links[link][0],
			.b = s->topology.links[link][1]};
		s->faults++;
		sim_at(s, at, begin, f);
		/* The next one never meets more than the aftermath of this one. */
		at += f->kind->most_us + sim_between(s, PAUSE_MIN_US, PAUSE_MAX_US);
	}
}
