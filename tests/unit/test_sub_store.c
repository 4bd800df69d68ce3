/* What the subscriber remembers of gateways over a restart, and what it does not: an address that
 * was ordered and where nobody has ever answered. */
#include "sub_world.h"

#include <unistd.h>

#include "subscriberd/store.h"

#define MINUTE UINT64_C(60000000)

static char path[] = "/tmp/meshnet-sub-store-XXXXXX";
static struct sub_store *store;
static struct sub_ops with_store;
static struct world w;
static uint64_t wall_s;

static void store_save(void *ctx, const struct sub_gateway *g)
{
	op_save(ctx, g);
	assert_int_equal(sub_store_save(store, g), 0);
}

static void store_forget(void *ctx, const struct sub_gateway *g)
{
	op_forget(ctx, g);
	assert_int_equal(sub_store_forget(store, g), 0);
}

static void count_one(const struct sub_gateway *g, void *ctx)
{
	(void)g;
	++*(unsigned *)ctx;
}

static unsigned kept(void)
{
	unsigned n = 0;
	assert_int_equal(sub_store_load(store, 64, count_one, &n), 0);
	return n;
}

static void on_known(const struct sub_gateway *g, void *ctx)
{
	(void)ctx;
	assert_int_equal(sub_engine_found(w.e, &g->contact, g, wall_s, w.now), 0);
}

static void start(const char *pinned)
{
	struct sub_policy p = policy;

	memset(&w, 0, sizeof w);
	w.now = 1000000;
	w.online_slot = -1;
	w.mute_app = 'x';
	p.auto_connect = false;
	p.terms.pinned.count = pinned != NULL;
	if (pinned)
		strcpy(p.terms.pinned.text[0], pinned);
	with_store = ops;
	with_store.save = store_save;
	with_store.forget = store_forget;
	assert_int_equal(sub_store_open(&store, path, NULL), 0);
	w.e = sub_engine_new(&p, &with_store, &w, w.now);
	assert_non_null(w.e);
	assert_int_equal(sub_store_load(store, 64, on_known, NULL), 0);
}

static void end(void)
{
	sub_engine_free(w.e);
	sub_store_close(store);
}

/* Gateways of the mesh answer, but "x"; nobody does at an address. */
static void pass(uint64_t us)
{
	for (uint64_t until = w.now + us; w.now < until;) {
		run(&w, 1000000);
		wall_s++;
		for (size_t n = w.infos, i = 0; i < n; i++)
			if (w.info_to[i].via == SUB_VIA_HTTP)
				sub_engine_on_info(w.e, w.info_serial[i], NULL, 0, "no answer",
						   wall_s, w.now);
		answer_infos(&w, true, 10, 20);
	}
}

static struct sub_contact address(uint8_t last)
{
	return (struct sub_contact){
		.via = SUB_VIA_HTTP,
		.addr = {.family = 4, .port = 65533, .ip = {192, 0, 2, last}},
	};
}

static int64_t order(const struct sub_contact *c)
{
	char key[SUB_KEY_MAX];

	assert_int_equal(sub_engine_found(w.e, c, NULL, wall_s, w.now), 0);
	return sub_engine_connect(w.e, sub_contact_key(c, key), NULL, w.now);
}

static bool knows(const struct sub_contact *c)
{
	char key[SUB_KEY_MAX];
	return sub_engine_find(w.e, sub_contact_key(c, key)) != NULL;
}

static void test_an_ordered_address_is_forgotten(void **state)
{
	struct sub_contact silent = address(1), a = contact("a");
	const char *why;

	(void)state;
	wall_s = 1700000000;
	start(NULL);
	assert_int_equal(sub_engine_found(w.e, &a, NULL, wall_s, w.now), 0);
	int64_t number = order(&silent);
	pass(9 * MINUTE);
	assert_int_equal(sub_engine_order(w.e, number, &why), SUB_ORDER_FAILED);
	assert_true(knows(&silent));
	assert_int_equal(kept(), 2);
	pass(2 * MINUTE);
	assert_false(knows(&silent));
	assert_int_equal(w.forgotten, 1);
	assert_int_equal(kept(), 1); /* and what has answered stays */
	pass(60 * MINUTE);
	assert_true(knows(&a) && w.forgotten == 1);
	end();
	start(NULL);
	assert_false(knows(&silent));
	assert_true(knows(&a));
	end();
}

/* Neither a restart nor one after the other makes it last. */
static void test_also_over_restarts(void **state)
{
	struct sub_contact silent = address(2);

	(void)state;
	start(NULL);
	order(&silent);
	for (unsigned i = 0; i < 3; i++) {
		pass(3 * MINUTE);
		end();
		start(NULL);
		assert_true(knows(&silent));
	}
	pass(2 * MINUTE);
	assert_false(knows(&silent));
	end();
}

static void test_who_names_it_keeps_it(void **state)
{
	struct sub_contact pinned = address(3), again = address(4), announced = contact("x");

	(void)state;
	start("192.0.2.3");
	order(&pinned);
	for (unsigned i = 0; i < 5; i++) {
		order(&again); /* somebody still tries */
		assert_int_equal(sub_engine_found(w.e, &announced, NULL, wall_s, w.now), 0);
		pass(5 * MINUTE);
	}
	assert_true(knows(&pinned) && knows(&again) && knows(&announced));
	pass(11 * MINUTE);
	assert_true(knows(&pinned));
	assert_false(knows(&again) || knows(&announced));
	end();
}

static int setup(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	log_set_level(LOG_LEVEL_ERROR);
	return 0;
}

static int teardown(void **state)
{
	char more[sizeof path + 8];

	(void)state;
	unlink(path);
	snprintf(more, sizeof more, "%s-wal", path);
	unlink(more);
	snprintf(more, sizeof more, "%s-shm", path);
	unlink(more);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_ordered_address_is_forgotten),
		cmocka_unit_test(test_also_over_restarts),
		cmocka_unit_test(test_who_names_it_keeps_it),
	};
	return cmocka_run_group_tests_name("sub_store", tests, setup, teardown);
}
