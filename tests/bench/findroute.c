/*
 * Shortest paths of nodemanager's graph and of igraph's Dijkstra, on the same graphs of 100,000
 * nodes and 500,000 links, the same queries in turns, with the caches emptied before each; the
 * costs must be equal.  Then single links change, and the paths over them are asked for again.
 *
 * On the "plane" nodes see those that are near, and nothing is far-reaching: the hardest.  In the
 * "community" one link in ten goes anywhere, in "random" all do.  Nodes are numbered in no order
 * of place, as they would register.
 */
#include <errno.h>
#include <igraph.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "nodemanager/disjoint.h"

#define NODES 100000u
#define LINKS 500000u
#define LINKS_MAX (LINKS + LINKS / 10)
#define QUERIES 40
#define CHANGES 100
#define SETS 20			 /* of disjoint paths */
#define SETS_WORK 30000		 /* NM_ROUTES_WORK_MAX */
#define TEND_STEPS 2000		 /* NM_TEND_STEPS */
#define FLUSH_BYTES (192u << 20) /* several times any last-level cache */
#define CELLS 160u		 /* a side */
#define CELL_MAX 64u

struct link {
	uint32_t a, b, cost;
};

struct place {
	double x, y;
};

struct world {
	struct link *links;
	size_t count, near; /* links; how many of them are short */
	struct graph *ours;
	igraph_t theirs;
	igraph_vector_t weights;
	struct graph_path path;
};

static uint64_t rng_state = 1;

static uint64_t rng(void)
{
	uint64_t z = rng_state += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)(rng() % n);
}

static double wall_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Reads and writes more than the caches hold. */
static void flush_caches(void)
{
	static uint8_t *buffer;
	if (!buffer)
		buffer = calloc(1, FLUSH_BYTES);
	for (size_t i = 0; buffer && i < FLUSH_BYTES; i += 64)
		buffer[i]++;
}

/* --- the graphs ------------------------------------------------------------------------------- */

static void add_link(struct world *w, uint32_t a, uint32_t b, double distance)
{
	uint32_t cost = 100 + (uint32_t)(distance * 1e5) + below(400);
	w->links[w->count++] = (struct link){a, b, cost};
}

static void fill_random(struct world *w)
{
	while (w->count < LINKS) {
		uint32_t a = below(NODES), b = below(NODES);
		if (a != b)
			add_link(w, a, b, below(1000) / 1e5);
	}
}

struct cell {
	uint32_t count, node[CELL_MAX];
};

static uint32_t cell_of(double v)
{
	uint32_t i = (uint32_t)(v * CELLS);
	return i < CELLS ? i : CELLS - 1;
}

/* Links of `a` to those within reach in one cell; each pair once. */
static void link_cell(struct world *w, const struct place *at, uint32_t a, const struct cell *c)
{
	/* So that there are a few more than wanted, edges of the plane included. */
	const double reach = sqrt(2.08 * (double)w->near / NODES / (M_PI * NODES));
	for (uint32_t i = 0; i < c->count; i++) {
		uint32_t b = c->node[i];
		double d = hypot(at[a].x - at[b].x, at[a].y - at[b].y);
		if (b > a && d < reach && w->count < LINKS_MAX)
			add_link(w, a, b, d);
	}
}

static bool fill_near(struct world *w)
{
	struct place *at = calloc(NODES, sizeof *at);
	struct cell *cells = calloc((size_t)CELLS * CELLS, sizeof *cells);
	bool ok = at && cells;
	for (uint32_t n = 0; ok && n < NODES; n++) {
		at[n] = (struct place){(double)(rng() >> 11) * 0x1p-53,
				       (double)(rng() >> 11) * 0x1p-53};
		struct cell *c = &cells[cell_of(at[n].y) * CELLS + cell_of(at[n].x)];
		if (c->count < CELL_MAX)
			c->node[c->count++] = n;
	}
	for (uint32_t n = 0; ok && n < NODES; n++) {
		uint32_t x = cell_of(at[n].x), y = cell_of(at[n].y);
		for (uint32_t cy = y ? y - 1 : 0; cy <= y + 1 && cy < CELLS; cy++)
			for (uint32_t cx = x ? x - 1 : 0; cx <= x + 1 && cx < CELLS; cx++)
				link_cell(w, at, n, &cells[cy * CELLS + cx]);
	}
	free(at);
	free(cells);
	return ok;
}

/* Transports come up in no order of place either. */
static void shuffle(struct world *w)
{
	for (size_t i = w->count; i > 1; i--) {
		size_t j = below((uint32_t)i);
		struct link swap = w->links[i - 1];
		w->links[i - 1] = w->links[j];
		w->links[j] = swap;
	}
}

static bool build_ours(struct world *w)
{
	w->ours = graph_new();
	for (uint32_t i = 0; w->ours && i < NODES; i++)
		if (graph_node_add(w->ours) != i)
			return false;
	for (size_t i = 0; w->ours && i < w->count; i++) {
		const struct link *l = &w->links[i];
		if (graph_edge_add(w->ours, l->a, l->b, l->cost, (uint32_t)i) == GRAPH_NONE)
			return false;
	}
	return w->ours != NULL;
}

static bool build_theirs(struct world *w)
{
	igraph_vector_int_t pairs;
	bool ok = !igraph_vector_int_init(&pairs, (igraph_integer_t)(2 * w->count)) &&
		  !igraph_vector_init(&w->weights, (igraph_integer_t)w->count);
	for (size_t i = 0; ok && i < w->count; i++) {
		VECTOR(pairs)[2 * i] = w->links[i].a;
		VECTOR(pairs)[2 * i + 1] = w->links[i].b;
		VECTOR(w->weights)[i] = w->links[i].cost;
	}
	ok = ok && !igraph_create(&w->theirs, &pairs, NODES, IGRAPH_UNDIRECTED);
	igraph_vector_int_destroy(&pairs);
	return ok;
}

static bool world_make(struct world *w, size_t near)
{
	*w = (struct world){.links = calloc(LINKS_MAX, sizeof *w->links), .near = near};
	if (!w->links || (near && !fill_near(w)) || w->count < near)
		return false;
	shuffle(w);
	w->count = near;
	fill_random(w);
	shuffle(w);
	return build_ours(w) && build_theirs(w);
}

static void world_free(struct world *w)
{
	igraph_destroy(&w->theirs);
	igraph_vector_destroy(&w->weights);
	graph_path_free(&w->path);
	graph_free(w->ours);
	free(w->links);
}

/* --- queries ---------------------------------------------------------------------------------- */

/* Seconds, or < 0: failed.  *cost 0: no way. */
static double ask_ours(struct world *w, uint32_t a, uint32_t b, uint64_t *cost)
{
	double begin = wall_seconds();
	int err = graph_find(w->ours, a, b, &w->path);
	double took = wall_seconds() - begin;
	*cost = err ? 0 : w->path.cost;
	return err && err != -ENETUNREACH ? -1 : took;
}

static double ask_theirs(struct world *w, uint32_t a, uint32_t b, uint64_t *cost)
{
	igraph_vector_int_t edges;
	double sum = 0;
	if (igraph_vector_int_init(&edges, 0))
		return -1;
	double begin = wall_seconds();
	igraph_error_t err = igraph_get_shortest_path_dijkstra(&w->theirs, NULL, &edges, a, b,
							       &w->weights, IGRAPH_ALL);
	double took = wall_seconds() - begin;
	for (igraph_integer_t i = 0; i < igraph_vector_int_size(&edges); i++)
		sum += VECTOR(w->weights)[VECTOR(edges)[i]];
	igraph_vector_int_destroy(&edges);
	*cost = (uint64_t)sum;
	return err ? -1 : took;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print_times(const char *graph, const char *who, double *seconds, size_t count)
{
	char name[120];
	qsort(seconds, count, sizeof *seconds, by_value);
	snprintf(name, sizeof name, "%s graph, cold, %s: median", graph, who);
	print_result(name, seconds[count / 2] * 1e3, "ms");
	snprintf(name, sizeof name, "%s graph, cold, %s: slowest of %zu", graph, who, count);
	print_result(name, seconds[count - 1] * 1e3, "ms");
}

static bool compare(struct world *w, const char *graph)
{
	double ours[QUERIES], theirs[QUERIES];
	for (size_t i = 0; i < QUERIES; i++) {
		uint32_t a = below(NODES), b = below(NODES);
		uint64_t cost[2];
		flush_caches();
		ours[i] = ask_ours(w, a, b, &cost[0]);
		flush_caches();
		theirs[i] = ask_theirs(w, a, b, &cost[1]);
		if (ours[i] < 0 || theirs[i] < 0 || cost[0] != cost[1]) {
			fprintf(stderr, "findroute: %u to %u costs %llu, igraph says %llu\n", a, b,
				(unsigned long long)cost[0], (unsigned long long)cost[1]);
			return false;
		}
	}
	print_times(graph, "meshnet", ours, QUERIES);
	print_times(graph, "igraph", theirs, QUERIES);
	return true;
}

/* --- changes ---------------------------------------------------------------------------------- */

struct change_times {
	double change[CHANGES], ask[CHANGES];
	size_t worked; /* nodes looked at by all queries */
};

/* A link in the middle of the path becomes dear: the answer must be what igraph finds anew. */
static bool change_one(struct world *w, struct change_times *t, size_t i)
{
	uint64_t cost[2];
	uint32_t a = below(NODES), b = below(NODES);
	ask_ours(w, a, b, &cost[0]);
	if (!w->path.count)
		return false;
	struct graph_hop hop = w->path.hops[w->path.count / 2];
	uint32_t dear = w->links[hop.tag].cost + 5000;
	flush_caches();
	double begin = wall_seconds();
	graph_edge_set_cost(w->ours, hop.edge, dear);
	t->change[i] = wall_seconds() - begin;
	flush_caches();
	t->ask[i] = ask_ours(w, a, b, &cost[0]);
	t->worked += graph_find_work(w->ours);
	VECTOR(w->weights)[hop.tag] = dear;
	w->links[hop.tag].cost = dear;
	return t->ask[i] >= 0 &&
	       (i % 10 || (ask_theirs(w, a, b, &cost[1]) >= 0 && cost[0] == cost[1]));
}

/* Links come and go: the same question between two nodes before and after must agree with a graph
 * that is built anew; what it costs igraph to have one link less is that. */
static bool rebuild_theirs(struct world *w)
{
	double begin = wall_seconds();
	igraph_destroy(&w->theirs);
	igraph_vector_destroy(&w->weights);
	if (!build_theirs(w))
		return false;
	print_result("igraph: the graph built anew", (wall_seconds() - begin) * 1e3, "ms");
	return true;
}

static bool changes(struct world *w)
{
	struct change_times *t = calloc(1, sizeof *t);
	bool ok = t;
	for (size_t i = 0; ok && i < CHANGES; i++)
		ok = change_one(w, t, i);
	if (ok) {
		qsort(t->change, CHANGES, sizeof *t->change, by_value);
		qsort(t->ask, CHANGES, sizeof *t->ask, by_value);
		print_result("a link's cost changes, cold: median", t->change[CHANGES / 2] * 1e6,
			     "us");
		print_result("the path over it asked for again, cold: median",
			     t->ask[CHANGES / 2] * 1e3, "ms");
		print_result("nodes that such a question looks at, mean",
			     (double)t->worked / CHANGES, "nodes");
	}
	free(t);
	return ok && rebuild_theirs(w);
}

/* What a manager does in the background: in slices, the longest of which is what others wait for.
 */
static void make_marks(struct world *w, const char *graph)
{
	char name[120];
	double all = 0, longest = 0;
	for (bool more = true; more;) {
		double begin = wall_seconds();
		more = graph_tend(w->ours, TEND_STEPS);
		double took = wall_seconds() - begin;
		all += took;
		longest = took > longest ? took : longest;
	}
	snprintf(name, sizeof name, "%s graph: marks made, in all", graph);
	print_result(name, all * 1e3, "ms");
	snprintf(name, sizeof name, "%s graph: marks made, the longest slice", graph);
	print_result(name, longest * 1e3, "ms");
}

/* Several paths that share nothing, cold. */
static bool disjoint(struct world *w, const char *graph)
{
	static const char *const names[] = {"nodes", "links"};
	struct graph_path paths[DISJOINT_MAX] = {0};
	char name[120];
	bool ok = true;
	for (unsigned what = 0; what < 2; what++) {
		double took[SETS];
		size_t found, all = 0, complete = 0;
		for (size_t i = 0; ok && i < SETS; i++) {
			uint32_t a = below(NODES), b = below(NODES);
			flush_caches();
			size_t work = SETS_WORK;
			double begin = wall_seconds();
			int err = graph_find_disjoint(w->ours, a, b,
						      what ? DISJOINT_EDGES : DISJOINT_NODES,
						      DISJOINT_MAX, &work, paths, &found);
			took[i] = wall_seconds() - begin;
			ok = !err || err == -ENETUNREACH;
			all += found;
			complete += work > 0;
		}
		snprintf(name, sizeof name, "%s graph, 8 paths without common %s: found, mean",
			 graph, names[what]);
		print_result(name, (double)all / SETS, "paths");
		snprintf(name, sizeof name, "%s graph, 8 paths without common %s: all there are",
			 graph, names[what]);
		print_result(name, (double)complete / SETS, "of the answers");
		snprintf(name, sizeof name, "%s, 8 paths without common %s,", graph, names[what]);
		print_times(name, "ours", took, SETS);
	}
	for (size_t i = 0; i < DISJOINT_MAX; i++)
		graph_path_free(&paths[i]);
	return ok;
}

static void ignore_warning(const char *reason, const char *file, int line)
{
	(void)reason, (void)file, (void)line; /* "couldn't reach some vertices" */
}

int main(void)
{
	static const struct {
		const char *name;
		size_t near;
	} graphs[] = {{"plane", LINKS}, {"community", LINKS - LINKS / 10}, {"random", 0}};
	bool ok = true;
	char name[60];
	igraph_set_error_handler(igraph_error_handler_ignore);
	igraph_set_warning_handler(ignore_warning);
	for (size_t i = 0; ok && i < sizeof graphs / sizeof *graphs; i++) {
		struct world w;
		snprintf(name, sizeof name, "%s, without marks,", graphs[i].name);
		ok = world_make(&w, graphs[i].near) && compare(&w, name);
		if (ok)
			make_marks(&w, graphs[i].name);
		ok = ok && compare(&w, graphs[i].name) && disjoint(&w, graphs[i].name) &&
		     (i || changes(&w));
		if (ok)
			world_free(&w);
	}
	if (!ok)
		fprintf(stderr, "findroute: an answer was not the expected one\n");
	return ok ? 0 : 1;
}
