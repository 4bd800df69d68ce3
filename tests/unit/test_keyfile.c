/* Keys on disk: made once, private, never overwritten; peers trusted on first use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/keyfile.h"

static char dir[64], file[128];
static char last_log[1024];

static void remember(enum log_level level, const char *line)
{
	(void)level;
	snprintf(last_log, sizeof last_log, "%s", line);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/meshnet-key-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/node.key", dir);
	last_log[0] = '\0';
	log_set_sink(remember);
	return 0;
}

static int teardown(void **state)
{
	char path[192];

	(void)state;
	log_set_sink(NULL);
	unlink(file);
	snprintf(path, sizeof path, "%s/node-manager.pin", dir);
	unlink(path);
	/* Fails, and so does the test, when a temporary file was left behind. */
	return rmdir(dir);
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (unsigned)st.st_mode & 07777;
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_made_once_and_private(void **state)
{
	struct keypair a, b;
	uint8_t public[32];

	(void)state;
	assert_int_equal(keyfile_load(dir, "node", &a), 0);
	assert_int_equal(mode_of(file), 0600);
	crypto_scalarmult_base(public, a.secret);
	assert_memory_equal(public, a.id.b, 32);
	assert_int_equal(keyfile_load(dir, "node", &b), 0);
	assert_memory_equal(&a, &b, sizeof a);
	assert_int_equal(keyfile_generate(&b), 0);
	assert_memory_not_equal(&a, &b, sizeof a);
}

static void test_known_key(void **state)
{
	/* RFC 7748, section 6.1: Alice. */
	struct keypair k;
	char text[MESH_ID_TEXT];

	(void)state;
	put(file, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a\r\n");
	chmod(file, 0600);
	assert_int_equal(keyfile_load(dir, "node", &k), 0);
	assert_string_equal(mesh_id_text(&k.id, text),
			    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
}

static void test_open_mode_is_corrected(void **state)
{
	struct keypair a, b;

	(void)state;
	assert_int_equal(keyfile_load(dir, "node", &a), 0);
	chmod(file, 0644);
	assert_int_equal(keyfile_load(dir, "node", &b), 0);
	assert_memory_equal(&a, &b, sizeof a);
	assert_int_equal(mode_of(file), 0600);
	assert_non_null(strstr(last_log, "mode 644"));
}

static void test_damaged_is_never_overwritten(void **state)
{
	static const char *const damaged[] = {
		"",
		"\n",
		"77076d0a",
		"77076d0a7318a57d3c16c17251b26645df4c2f92ebc099c6ae1b1b8ddf9b9a2",
		"77076d0a7318a57d3c16c17251b26645df4c2f92ebc099c6ae1b1b8ddf9b9a2ab",
		"77076d0a7318a57d3c16c17251b26645df4c2f92ebc099c6ae1b1b8ddf9b9a2z\n",
		"77076d0a7318a57d3c16c17251b26645df4c2f92ebc099c6ae1b1b8ddf9b9a2a\nmore\n",
	};
	struct keypair k, zero = {0};

	(void)state;
	for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
		char text[200] = "";
		FILE *f;

		put(file, damaged[i]);
		assert_int_equal(keyfile_load(dir, "node", &k), -EBADMSG);
		assert_memory_equal(&k, &zero, sizeof k);
		assert_non_null(strstr(last_log, file));
		f = fopen(file, "r");
		assert_int_equal(fread(text, 1, sizeof text, f), strlen(damaged[i]));
		fclose(f);
		assert_string_equal(text, damaged[i]);
	}
	/* Neither a directory nor a device is a key, and a fifo does not block. */
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_int_equal(keyfile_load(dir, "node", &k), -EBADMSG);
}

static void test_directories_are_made(void **state)
{
	char deep[128];
	struct keypair k;

	(void)state;
	snprintf(deep, sizeof deep, "%s/a//b", dir);
	assert_int_equal(keyfile_load(deep, "x", &k), 0);
	assert_int_equal(mode_of(deep), 0700);
	snprintf(deep, sizeof deep, "%s/a/b/x.key", dir);
	assert_int_equal(mode_of(deep), 0600);
	assert_int_equal(keyfile_make_dir(deep), -ENOTDIR);
	unlink(deep);
	snprintf(deep, sizeof deep, "%s/a/b", dir);
	rmdir(deep);
	snprintf(deep, sizeof deep, "%s/a", dir);
	rmdir(deep);
	assert_int_not_equal(keyfile_make_dir("/proc/meshnet/x"), 0);
}

static void test_pins(void **state)
{
	struct mesh_id a = {.b = {1, 2, 3}}, b = {.b = {9}}, got;
	char path[192];

	(void)state;
	assert_int_equal(keyfile_pin_load(dir, "node-manager", &got), -ENOENT);
	assert_int_equal(keyfile_pin_save(dir, "node-manager", &a), 0);
	assert_int_equal(keyfile_pin_load(dir, "node-manager", &got), 0);
	assert_true(mesh_id_equal(&a, &got));
	assert_int_equal(keyfile_pin_save(dir, "node-manager", &b), 0);
	assert_int_equal(keyfile_pin_load(dir, "node-manager", &got), 0);
	assert_true(mesh_id_equal(&b, &got));
	snprintf(path, sizeof path, "%s/node-manager.pin", dir);
	put(path, "half");
	assert_int_equal(keyfile_pin_load(dir, "node-manager", &got), -EBADMSG);
	/* A damaged pin is no licence to trust somebody new. */
	assert_int_equal(keyfile_trust(dir, "node-manager", "", &a), -EBADMSG);
}

static void test_trust_on_first_use(void **state)
{
	struct mesh_id a = {.b = {1, 2, 3}}, b = {.b = {9}};
	char text[MESH_ID_TEXT];

	(void)state;
	/* A configured key decides alone and pins nothing. */
	mesh_id_text(&a, text);
	assert_int_equal(keyfile_trust(dir, "node-manager", text, &b), -EACCES);
	assert_int_equal(keyfile_trust(dir, "node-manager", text, &a), 0);
	assert_int_equal(keyfile_pin_load(dir, "node-manager", &(struct mesh_id){0}), -ENOENT);
	last_log[0] = '\0';
	assert_int_equal(keyfile_trust(dir, "node-manager", "", &b), 0);
	assert_non_null(strstr(last_log, "trusting"));
	last_log[0] = '\0';
	assert_int_equal(keyfile_trust(dir, "node-manager", "", &b), 0);
	assert_string_equal(last_log, "");
	assert_int_equal(keyfile_trust(dir, "node-manager", "", &a), -EACCES);
	assert_int_equal(keyfile_trust(dir, "node-manager", "", &b), 0);
	assert_int_equal(keyfile_trust(dir, "node-manager", "junk", &b), -EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_made_once_and_private),	T(test_known_key),
		T(test_open_mode_is_corrected), T(test_damaged_is_never_overwritten),
		T(test_directories_are_made),	T(test_pins),
		T(test_trust_on_first_use),
	};

	return cmocka_run_group_tests_name("keyfile", tests, NULL, NULL);
}
