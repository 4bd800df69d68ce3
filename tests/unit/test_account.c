#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "io/account.h"

static bool name_service_is_loaded(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	bool found = false;

	while (f && fgets(line, sizeof line, f))
		found |= strstr(line, "libnss_") != NULL;
	if (f)
		fclose(f);
	return found;
}

/* One that is nowhere is asked of every module that there is. */
static void test_unknown(void **state)
{
	struct account a;
	gid_t gid;
	bool before = name_service_is_loaded();

	(void)state;
	assert_int_equal(account_user("no-such-user-here", &a), -ENOENT);
	assert_int_equal(account_group("no-such-group-here", &gid), -ENOENT);
	assert_int_equal(name_service_is_loaded(), before);
}

static void test_same_as_the_library(void **state)
{
	static const char *const names[] = {"root", "nobody", "daemon"};
	struct account a;
	gid_t gid;

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct passwd *pw = getpwnam(names[i]);
		gid_t groups[ACCOUNT_GROUPS_MAX];
		int count = ACCOUNT_GROUPS_MAX;

		if (!pw)
			continue;
		assert_int_equal(account_user(names[i], &a), 0);
		assert_string_equal(a.name, names[i]);
		assert_int_equal(a.uid, pw->pw_uid);
		assert_int_equal(a.gid, pw->pw_gid);
		assert_true(getgrouplist(names[i], pw->pw_gid, groups, &count) >= 0);
		assert_int_equal(a.group_count, count);
		assert_memory_equal(a.groups, groups, a.group_count * sizeof *groups);
	}
	const struct group *g = getgrnam("tty");
	if (g) {
		assert_int_equal(account_group("tty", &gid), 0);
		assert_int_equal(gid, g->gr_gid);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_same_as_the_library),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
