/* /etc/resolv.conf set and put back, in a mount namespace with an /etc of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/resolv.h"

#define PATH "/etc/resolv.conf"
#define STATE "/etc/state"
#define OWNER "tester"
#define SAVED STATE "/" OWNER ".resolv"
#define BEFORE "# mine\nnameserver 192.0.2.1\n"

static struct resolv *resolv;

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void expect(const char *text)
{
	char got[4096] = "";
	FILE *f = fopen(PATH, "re");

	assert_non_null(f);
	got[fread(got, 1, sizeof got - 1, f)] = '\0';
	fclose(f);
	assert_string_equal(got, text);
}

static bool private_etc(void)
{
	return geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	       mount("", "/", "", MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/etc", "tmpfs", 0, NULL) == 0 && mkdir(STATE, 0700) == 0;
}

static int setup(void **state)
{
	static int entered;

	(void)state;
	if (!entered)
		entered = private_etc() ? 1 : -1;
	if (entered < 0) {
		fprintf(stderr, "SKIP: no mount namespace\n");
		return 0; /* the files here are the host's own */
	}
	unlink(PATH);
	unlink(SAVED);
	return resolv_open(&resolv, NULL, STATE, OWNER);
}

static int teardown(void **state)
{
	(void)state;
	resolv_close(resolv);
	resolv = NULL;
	return 0;
}

static void need(void)
{
	if (access(STATE, F_OK))
		skip();
}

static int set(const char *server)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, server, 0), 0);
	return resolv_set(resolv, "lo", &a, 1);
}

static void expect_ours(const char *server)
{
	char got[4096] = "", want[64];
	FILE *f = fopen(PATH, "re");

	assert_non_null(f);
	got[fread(got, 1, sizeof got - 1, f)] = '\0';
	fclose(f);
	snprintf(want, sizeof want, "\nnameserver %s\n", server);
	assert_non_null(strstr(got, want));
}

static void test_file(void **state)
{
	struct stat st;

	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(chmod(PATH, 0640), 0);
	assert_int_equal(set("10.0.0.1"), 0);
	expect_ours("10.0.0.1");
	/* Another server later, or after a crash: what comes back is still the first. */
	assert_int_equal(set("fd00::1"), 0);
	expect_ours("fd00::1");
	assert_int_equal(resolv_restore(resolv), 0);
	expect(BEFORE);
	assert_int_equal(stat(PATH, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(resolv_restore(resolv), 0);
	expect(BEFORE);
}

/* Killed while it was set: the next one, or --cleanup, puts it back; once. */
static void test_killed(void **state)
{
	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(set("10.0.0.1"), 0);
	assert_int_equal(resolv_cleanup(STATE, "another"), 0);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_cleanup(STATE, OWNER), 0);
	expect(BEFORE);
	assert_int_equal(access(SAVED, F_OK), -1);
	assert_int_equal(set("10.0.0.1"), 0);
	struct resolv *next;
	assert_int_equal(resolv_open(&next, NULL, STATE, OWNER), 0);
	expect(BEFORE);
	resolv_close(next);
	expect(BEFORE);
}

/* Each of two owners gives back what it found. */
static void test_two_owners(void **state)
{
	struct resolv *other;
	struct net_addr a;

	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(set("10.0.0.1"), 0);
	assert_int_equal(resolv_open(&other, NULL, STATE, "another"), 0);
	assert_int_equal(net_addr_parse(&a, "10.0.0.2", 0), 0);
	assert_int_equal(resolv_set(other, "lo", &a, 1), 0);
	expect_ours("10.0.0.2");
	resolv_close(other);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_restore(resolv), 0);
	expect(BEFORE);
}

static void test_link(void **state)
{
	char target[64] = "";

	(void)state;
	need();
	put("/etc/elsewhere", BEFORE);
	assert_int_equal(symlink("elsewhere", PATH), 0);
	assert_int_equal(set("10.0.0.1"), 0);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_restore(resolv), 0);
	assert_int_equal(readlink(PATH, target, sizeof target - 1), 9);
	assert_string_equal(target, "elsewhere");
	expect(BEFORE);
}

static void test_none(void **state)
{
	(void)state;
	need();
	assert_int_equal(set("10.0.0.1"), 0);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_restore(resolv), 0);
	assert_int_equal(access(PATH, F_OK), -1);
}

static void test_changed_by_others(void **state)
{
	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(set("10.0.0.1"), 0);
	put(PATH, "nameserver 192.0.2.99\n");
	assert_int_equal(resolv_restore(resolv), 0);
	expect("nameserver 192.0.2.99\n");
}

static void test_mounted(void **state)
{
	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(mount(PATH, PATH, "", MS_BIND, NULL), 0);
	assert_int_equal(set("10.0.0.1"), 0);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_restore(resolv), 0);
	expect(BEFORE);
	assert_int_equal(umount(PATH), 0);
}

static void test_damaged(void **state)
{
	(void)state;
	need();
	put(PATH, BEFORE);
	assert_int_equal(set("10.0.0.1"), 0);
	put(SAVED, "x");
	assert_int_equal(resolv_restore(resolv), -EBADMSG);
	expect_ours("10.0.0.1");
	assert_int_equal(resolv_set(resolv, "lo", NULL, 0), -EINVAL);
	unlink(SAVED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(test_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_by_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mounted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
	};
	return cmocka_run_group_tests_name("resolv", tests, NULL, NULL);
}
