#include "echo/echo.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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

/* --- histogram ------------------------------------------------------------------------------ */

unsigned echo_bucket(uint64_t us)
{
	unsigned b = 0;

	while (b < ECHO_BUCKETS - 1 && us >= echo_bucket_end_us(b))
		b++;
	return b;
}

/* Two a doubling, at round numbers: 2, 3, 4, 6, 8, 12 us ... */
uint64_t echo_bucket_end_us(unsigned bucket)
{
	uint64_t whole = UINT64_C(1) << (bucket / 2 + 1);
	return bucket % 2 ? whole + whole / 2 : whole;
}

static void count_buckets(const struct echo_report *r, uint64_t counts[ECHO_BUCKETS])
{
	memset(counts, 0, ECHO_BUCKETS * sizeof *counts);
	for (size_t i = 0; i < r->received; i++)
		counts[echo_bucket(r->latency_us[i])]++;
}

static void print_duration(FILE *out, uint64_t us)
{
	if (us < 1000)
		fprintf(out, "%7" PRIu64 " us", us);
	else if (us < 1000000)
		fprintf(out, "%7.4g ms", (double)us / 1e3);
	else
		fprintf(out, "%7.4g s ", (double)us / 1e6);
}

/* From the first bucket with something in it to the last, the longest bar 50 wide. */
static void print_histogram(const struct echo_report *r, FILE *out)
{
	uint64_t counts[ECHO_BUCKETS], most = 1;
	unsigned first = echo_bucket(r->latency_us[0]);
	unsigned last = echo_bucket(r->latency_us[r->received - 1]);

	count_buckets(r, counts);
	for (unsigned b = first; b <= last; b++)
		most = counts[b] > most ? counts[b] : most;
	for (unsigned b = first; b <= last; b++) {
		uint64_t width = (counts[b] * ECHO_BAR_WIDTH + most - 1) / most;
		fputs("  under ", out);
		print_duration(out, echo_bucket_end_us(b));
		fprintf(out, " %9" PRIu64 " %.*s\n", counts[b], (int)width,
			"##################################################");
	}
}

static void print_json_histogram(const struct echo_report *r, FILE *out)
{
	uint64_t counts[ECHO_BUCKETS];
	const char *comma = "";

	count_buckets(r, counts);
	fputs(",\"histogram\":[", out);
	for (unsigned b = 0; b < ECHO_BUCKETS; b++) {
		if (!counts[b])
			continue;
		fprintf(out, "%s{\"under_us\":%" PRIu64 ",\"count\":%" PRIu64 "}", comma,
			echo_bucket_end_us(b), counts[b]);
		comma = ",";
	}
	fputc(']', out);
}

/* --- the report ----------------------------------------------------------------------------- */

void echo_report_print(struct echo_report *r, bool json, FILE *out)
{
	const uint64_t *v = r->latency_us;
	size_t n = r->received;
	double seconds = (double)r->elapsed_us / 1e6;
	double rate = r->elapsed_us ? (double)r->bytes * 8.0 / (double)r->elapsed_us : 0.0;

	if (n)
		qsort(r->latency_us, n, sizeof *v, compare);
	uint64_t min = echo_percentile(v, n, 0), median = echo_percentile(v, n, 50);
	uint64_t p90 = echo_percentile(v, n, 90), p99 = echo_percentile(v, n, 99);
	uint64_t max = echo_percentile(v, n, 100);
	if (json) {
		fprintf(out,
			"{\"size\":%zu,\"sent\":%" PRIu64 ",\"received\":%zu,\"lost\":%" PRIu64
			",\"min_us\":%" PRIu64 ",\"median_us\":%" PRIu64 ",\"p50_us\":%" PRIu64
			",\"p90_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"max_us\":%" PRIu64
			",\"seconds\":%.6f,\"mbit_per_second\":%.3f",
			r->size_bytes, r->sent, n, r->lost, min, median, median, p90, p99, max,
			seconds, rate);
		print_json_histogram(r, out);
		fputs("}\n", out);
		return;
	}
	fprintf(out,
		"%zu of %" PRIu64 " messages of %zu bytes came back in %.3f s\n"
		"round trip  min %.3f  p50 %.3f  p90 %.3f  p99 %.3f  max %.3f ms\n"
		"throughput  %.3f Mbit/s each way\n",
		n, r->sent, r->size_bytes, seconds, (double)min / 1e3, (double)median / 1e3,
		(double)p90 / 1e3, (double)p99 / 1e3, (double)max / 1e3, rate);
	if (n > 1)
		print_histogram(r, out);
}
