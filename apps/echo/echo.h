/*
 * echo: sends messages through the mesh and back, checks every byte, and measures.
 *   main.c     the command line
 *   server.c   gives every message back
 *   client.c   sends, checks, times
 *   report.c   the figures at the end
 */
#ifndef ECHO_ECHO_H
#define ECHO_ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "io/appline.h"

struct event_base;

#define ECHO_APP_TYPE "echo"
#define ECHO_SEQ_BYTES 8 /* each message begins with its number, as far as its size allows */

struct echo_options {
	const char *node_addr;
	const char *app_id;	/* NULL: "echo" for a server, a random one for a client */
	struct appline_peer to; /* client: the server */
	size_t size_bytes;
	uint64_t count;
	unsigned window; /* messages under way at once */
	bool datagram, json, wait;
	uint64_t timeout_us; /* without anything coming back */
};

/* Both run until done and return the exit code. */
int echo_server_run(struct event_base *base, const struct echo_options *opt);
int echo_client_run(struct event_base *base, const struct echo_options *opt);

/* The bytes of message number `seq`: the same at every call, different between messages. */
void echo_fill(uint8_t *out, size_t len, uint64_t seq);
bool echo_check(const uint8_t *data, size_t len, uint64_t seq);

#define ECHO_BUCKETS 72u /* the last begins after half a day */
#define ECHO_BAR_WIDTH 50u

struct echo_report {
	uint64_t *latency_us; /* one a message that came back; echo_report_print sorts it */
	size_t received;
	uint64_t sent, lost, bytes, elapsed_us;
	size_t size_bytes;
};
/* `values` ascend; the value that `percent` of them do not exceed.  0 when there is none. */
uint64_t echo_percentile(const uint64_t *values, size_t count, unsigned percent);
/* The bucket of the histogram that a latency belongs to, and the first latency beyond a bucket. */
unsigned echo_bucket(uint64_t us);
uint64_t echo_bucket_end_us(unsigned bucket);
/* Sorts the latencies. */
void echo_report_print(struct echo_report *r, bool json, FILE *out);
#endif
