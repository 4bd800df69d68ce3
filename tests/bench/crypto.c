/*
 * Sealing and opening one record with either cipher by libcrypto and by libsodium, at the size of a
 * packet and at that of a super-packet; and the keyed hash that a relay checks.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core/hopkey.h"
#include "core/seal.h"

#define RECORD_MAX 65536
#define RUN_SECONDS 0.3

struct sealer {
	uint8_t key[SEAL_KEY_BYTES];
	uint8_t plain[RECORD_MAX], sealed[RECORD_MAX + SEAL_TAG_BYTES];
};

/* One direction of one suite at one size. */
static int measure(struct sealer *s, const struct seal_suite *suite, enum seal_cipher cipher,
		   enum seal_direction direction, size_t len, const char *label)
{
	struct seal *seal = suite->make(direction, cipher, s->key);
	uint64_t calls = 0;
	double begin = cpu_seconds(), now = begin;
	char name[80];
	int err = seal ? 0 : -1;

	while (!err && now - begin < RUN_SECONDS) {
		for (int i = 0; i < 64 && !err; i++)
			err = direction == SEAL_OUT
				      ? suite->seal(seal, 1, bytes_of(s->plain, len),
						    bytes_of(NULL, 0), s->sealed)
				      : suite->open(seal, 1,
						    bytes_of(s->sealed, len + SEAL_TAG_BYTES),
						    s->plain);
		calls += 64;
		now = cpu_seconds();
	}
	suite->drop(seal);
	if (err)
		return err;
	snprintf(name, sizeof name, "%s %s, %s, %s", direction == SEAL_OUT ? "seal" : "open", label,
		 seal_cipher_name(cipher), suite->name);
	print_result(name, (double)calls * (double)len / 1e9 / (now - begin), "GB/s");
	return 0;
}

static int measure_size(struct sealer *s, enum seal_cipher cipher, size_t len, const char *label)
{
	const struct seal_suite *const suites[] = {&seal_sodium, seal_libcrypto(NULL)};

	/* The order matters: what one opens, the other has sealed: the same bytes. */
	for (size_t i = 0; i < 2; i++)
		if ((suites[i] && suites[i]->can(cipher) &&
		     measure(s, suites[i], cipher, SEAL_OUT, len, label)) ||
		    (suites[1 - i] && suites[1 - i]->can(cipher) &&
		     measure(s, suites[1 - i], cipher, SEAL_IN, len, label)))
			return -1;
	return 0;
}

static void measure_hopkey(const struct sealer *s)
{
	struct hop_header h = {.type = PACKET_DATA, .label = 7, .seq = 1};
	struct hopkey key;
	uint8_t packet[1452] = {0};
	uint64_t calls = 0, good = 0;

	hopkey_derive(&key, s->key, "bench");
	hopkey_seal(&key, packet, sizeof packet, &h);
	double begin = cpu_seconds(), now = begin;
	while (now - begin < RUN_SECONDS) {
		for (int i = 0; i < 1024; i++)
			good += hopkey_verify(&key, packet, sizeof packet, &h);
		calls += 1024;
		now = cpu_seconds();
	}
	if (good == calls)
		print_result("check the header of a packet", (now - begin) * 1e9 / (double)calls,
			     "ns");
}

int main(void)
{
	static const enum seal_cipher ciphers[] = {SEAL_CHACHA20_POLY1305, SEAL_AES256_GCM};
	struct sealer *s = calloc(1, sizeof *s);

	if (!s || sodium_init() < 0)
		return 1;
	randombytes_buf(s->key, sizeof s->key);
	bool ok = true;
	for (unsigned i = 0; i < 2 && ok; i++)
		ok = measure_size(s, ciphers[i], 1400, "1400 B") == 0 &&
		     measure_size(s, ciphers[i], RECORD_MAX - 64, "64 KB") == 0;
	if (ok)
		measure_hopkey(s);
	free(s);
	return ok ? 0 : 1;
}
