#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "sim/sim.h"

#define DEFAULT_SEEDS 40u

struct options {
	uint64_t seed, count;
	bool verbose;
};

static int usage(void)
{
	fprintf(stderr,
		"usage: sim [--seed N] [--seeds COUNT] [--verbose]\n"
		"  one seed, or COUNT seeds from 1 (or N) on (default %u); 0 is the bulk "
		"transfer\n",
		DEFAULT_SEEDS);
	return 2;
}

static bool number(const char *text, uint64_t *out)
{
	char *end;

	*out = text ? strtoull(text, &end, 10) : 0;
	return text && *text && !*end;
}

static bool parse(int argc, char **argv, struct options *o)
{
	*o = (struct options){.seed = 0, .count = DEFAULT_SEEDS + 1};
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0) {
			o->verbose = true;
		} else if (strcmp(argv[i], "--seed") == 0 && number(argv[i + 1], &o->seed)) {
			o->count = 1;
			i++;
		} else if (strcmp(argv[i], "--seeds") == 0 && number(argv[i + 1], &o->count)) {
			o->count++; /* and the bulk transfer */
			i++;
		} else {
			return false;
		}
	}
	return true;
}

static void to_stdout(enum log_level level, const char *line)
{
	(void)level;
	printf("           %s\n", line);
}

static void to_nowhere(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static bool run(uint64_t seed, bool verbose)
{
	struct sim *s = calloc(1, sizeof *s);

	s->seed = seed;
	s->random = seed * 0x2545f4914f6cdd1du + 1;
	s->verbose = verbose;
	bool ok = seed ? scenario_run(s) : bulk_run(s);
	if (!ok)
		printf("seed %llu: %s\nreplay: %s --seed %llu --verbose\n",
		       (unsigned long long)seed, s->failure, program_invocation_name,
		       (unsigned long long)seed);
	else if (verbose)
		printf("seed %llu: ok, %u hosts, %u connections, %llu packets, %.1f s\n",
		       (unsigned long long)seed, s->host_count, s->conn_count,
		       (unsigned long long)s->packets, (double)s->now / SEC);
	fflush(stdout);
	free(s);
	return ok;
}

int main(int argc, char **argv)
{
	struct options o;
	unsigned passed = 0, failed = 0;

	if (!parse(argc, argv, &o))
		return usage();
	if (sodium_init() < 0)
		return 1;
	log_set_sink(o.verbose ? to_stdout : to_nowhere);
	if (o.verbose && o.count == 1)
		log_set_level(LOG_LEVEL_DEBUG);
	for (uint64_t i = 0; i < o.count; i++)
		*(run(o.seed + i, o.verbose) ? &passed : &failed) += 1;
	printf("%u passed, %u failed\n", passed, failed);
	return failed != 0;
}
