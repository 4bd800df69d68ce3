/* Any bytes as what a SOCKS5 client says, and as what the other end of the streams says: the table
 * of streams stays whole, and what it tells its owner is within its window. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "socks/mux.h"
#include "wire/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
	struct mux_stream *s;
	size_t held;
};

/* Streams come and go; a slot is used again. */
static struct owner owners[64];
static uint8_t choice;

static void require(int ok)
{
	if (!ok)
		abort();
}

/* --- SOCKS5 ----------------------------------------------------------------------------------- */

static void try_socks5(const uint8_t *data, size_t size)
{
	struct socks5_request request;
	struct socks5_login login;
	enum socks5_method method;
	struct socks_addr to;
	struct bytes payload;
	struct mux_record record;
	char text[SOCKS_ADDR_TEXT];
	int rc = socks5_read_greeting(data, size, SOCKS5_PASSWORD, &method);

	require(rc <= (int)size);
	rc = socks5_read_login(data, size, &login);
	require(rc <= (int)size);
	rc = socks5_read_request(data, size, &request);
	require(rc <= (int)size);
	if (rc > 0) {
		uint8_t again[SOCKS_ADDR_BYTES_MAX];
		struct wbuf w = wbuf_init(again, sizeof again);
		socks_addr_write(&w, &request.to);
		require(!w.bad && wbuf_len(&w) == (size_t)rc - 3 &&
			memcmp(again, data + 3, wbuf_len(&w)) == 0);
		require(strlen(socks_addr_text(&request.to, text)) < SOCKS_ADDR_TEXT);
	}
	if (socks5_read_datagram(data, size, &to, &payload) == 0)
		require(payload.len <= size);
	if (mux_record_read(bytes_of(data, size), &record))
		require(record.payload.len <= size);
}

/* --- the streams ------------------------------------------------------------------------------ */

static struct owner *own(struct mux_stream *s)
{
	for (unsigned i = 0; i < sizeof owners / sizeof *owners; i++)
		if (!owners[i].s) {
			owners[i] = (struct owner){.s = s};
			return &owners[i];
		}
	abort();
}

static void on_ready(void *ctx)
{
	(void)ctx;
}

static void on_open(void *ctx, struct mux_stream *s, const struct socks_addr *to)
{
	(void)ctx;
	(void)to;
	choice = (uint8_t)(choice * 5 + 1);
	if (choice % 4 == 0) {
		mux_refuse(s, choice);
		return;
	}
	mux_stream_set_user(s, own(s));
	if (choice % 4 != 1)
		mux_accept(s, &(struct net_addr){0});
	if (choice % 8 == 7) {
		((struct owner *)mux_stream_user(s))->s = NULL;
		mux_reset(s, 1);
	}
}

static void on_opened(void *ctx, struct mux_stream *s, const struct net_addr *bound)
{
	(void)ctx;
	(void)bound;
	mux_readable(s);
}

static size_t on_pull(void *ctx, struct mux_stream *s, uint8_t *out, size_t max)
{
	(void)ctx;
	(void)s;
	memset(out, choice, max);
	return choice % 2 ? max : max / 2;
}

static void on_data(void *ctx, struct mux_stream *s, struct bytes data)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	require(data.len > 0);
	o->held += data.len;
	require(o->held <= MUX_WINDOW_MAX);
	choice = (uint8_t)(choice + data.data[0]);
	size_t part = choice % 3 ? o->held : o->held / 2;
	o->held -= part;
	mux_consumed(s, part);
}

static void on_fin(void *ctx, struct mux_stream *s)
{
	(void)ctx;
	if (choice % 2)
		mux_finish(s);
}

static void on_closed(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	(void)how;
	(void)code;
	require(o->s == s);
	o->s = NULL;
}

static void try_mux(const uint8_t *data, size_t size, bool client)
{
	static const struct mux_ops ops = {.ready = on_ready,
					   .up = on_ready,
					   .open = on_open,
					   .opened = on_opened,
					   .pull = on_pull,
					   .data = on_data,
					   .fin = on_fin,
					   .closed = on_closed};
	static const uint8_t hello[] = {1, 2, 0, 1, 0, 0, 0, 0, 0, 16};
	static uint8_t out[MUX_MESSAGE_BYTES];
	const struct mux_config config = {.client = client,
					  .streams_max = 32,
					  .window_max = 1u << 20,
					  .growth_max = 1u << 20,
					  .patience_us = 3000000u};
	struct mux *m = mux_new(&config, &ops, NULL);
	struct socks_addr to = {.name = "x"};
	uint64_t now_us = 1000000u;

	require(m != NULL);
	memset(owners, 0, sizeof owners);
	/* The first byte: how long the messages are, so that output comes in between. */
	size_t step = size ? data[0] % 64 + 1u : 1, used = 1;
	if (size && data[0] & 0x80)
		require(mux_input(m, hello, sizeof hello) == 0);
	for (unsigned i = 0; client && mux_is_up(m) && i < 4; i++) {
		struct mux_stream *s = mux_open(m, i % 2 ? &to : NULL, NULL);
		require(s != NULL);
		mux_stream_set_user(s, own(s));
	}
	while (used < size) {
		size_t len = size - used < step ? size - used : step;
		if (mux_input(m, data + used, len)) {
			require(mux_fault(m)[0] != '\0');
			break;
		}
		used += len;
		/* A long step now and then: the silence counts, too. */
		now_us += choice % 16 ? 300000u : 900000u;
		if (mux_tick(m, now_us))
			require(mux_fault(m)[0] != '\0' && mux_is_up(m));
		for (unsigned i = 0; i < 8 && mux_output(m, out); i++)
			;
		require(mux_stream_count(m) <= config.streams_max);
	}
	mux_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	choice = size ? data[size / 2] : 0;
	try_socks5(data, size);
	try_mux(data, size, false);
	try_mux(data, size, true);
	return 0;
}
