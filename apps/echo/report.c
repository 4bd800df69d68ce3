#include "echo/echo.h"

#include <inttypes.h>
#include <stdlib.h>

/* splitmix64: every message looks random, and any part of it can be made again. */
static uint64_t scramble(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint8_t byte_at(uint64_t seq, size_t i)
{
	if (i < ECHO_SEQ_BYTES)
		return (uint8_t)(seq >> (8 * (ECHO_SEQ_BYTES - 1 - i)));
	return (uint8_t)(scramble(seq * 0x100000000u + i / 8) >> (8 * (i % 8)));
}

static uint64_t word_at(uint64_t seq, size_t i)
{
	return scramble(seq * 0x100000000u + i / 8);
}

void echo_fill(uint8_t *out, size_t len, uint64_t seq)
{
	size_t i = 0;
	for (; i < len && i < ECHO_SEQ_BYTES; i++)
		out[i] = byte_at(seq, i);
	for (; i + 8 <= len; i += 8) {
		uint64_t w = word_at(seq, i);
		for (unsigned k = 0; k < 8; k++)
			out[i + k] = (uint8_t)(w >> (8 * k));
	}
	for (; i < len; i++)
		out[i] = byte_at(seq, i);
}

bool echo_check(const uint8_t *data, size_t len, uint64_t seq)
{
	size_t i = 0;
	for (; i < len && i < ECHO_SEQ_BYTES; i++)
		if (data[i] != byte_at(seq, i))
			return false;
	for (; i + 8 <= len; i += 8) {
		uint64_t w = 0;
		for (unsigned k = 0; k < 8; k++)
			w |= (uint64_t)data[i + k] << (8 * k);
		if (w != word_at(seq, i))
			return false;
	}
	for (; i < len; i++)
		if (data[i] != byte_at(seq, i))
			return false;
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

uint64_t echo_percentile(const uint64_t *values, size_t count, unsigned percent)
{
	size_t rank = (count * percent + 99) / 100;
	return count ? values[rank ? rank - 1 : 0] : 0;
}

void echo_report_print(struct echo_report *r, bool json, FILE *out)
{
	const uint64_t *v = r->latency_us;
	size_t n = r->received;
	double seconds = (double)r->elapsed_us / 1e6;
	double rate = r->elapsed_us ? (double)r->bytes * 8.0 / (double)r->elapsed_us : 0.0;

	if (n)
		qsort(r->latency_us, n, sizeof *v, compare);
	uint64_t min = echo_percentile(v, n, 0), median = echo_percentile(v, n, 50);
	uint64_t p90 = echo_percentile(v, n, 90), max = echo_percentile(v, n, 100);
	if (json)
		fprintf(out,
			"{\"size\":%zu,\"sent\":%" PRIu64 ",\"received\":%zu,\"lost\":%" PRIu64
			",\"min_us\":%" PRIu64 ",\"median_us\":%" PRIu64 ",\"p90_us\":%" PRIu64
			",\"max_us\":%" PRIu64 ",\"seconds\":%.6f,\"mbit_per_second\":%.3f}\n",
			r->size_bytes, r->sent, n, r->lost, min, median, p90, max, seconds, rate);
	else
		fprintf(out,
			"%zu of %" PRIu64 " messages of %zu bytes came back in %.3f s\n"
			"round trip  min %.3f  median %.3f  p90 %.3f  max %.3f ms\n"
			"throughput  %.3f Mbit/s each way\n",
			n, r->sent, r->size_bytes, seconds, (double)min / 1e3, (double)median / 1e3,
			(double)p90 / 1e3, (double)max / 1e3, rate);
}
