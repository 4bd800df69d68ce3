#include "socks/muxframe.h"

const char *mux_type_name(uint8_t type)
{
	static const char *const names[] = {"?",      "HELLO",	 "OPEN", "ASSOCIATE",
					    "OPENED", "REFUSED", "DATA", "WINDOW",
					    "FIN",    "RESET",	 "PING", "PONG"};

	return type < sizeof names / sizeof *names ? names[type] : names[0];
}

static bool has_stream(uint8_t type)
{
	return type != MUX_HELLO && type != MUX_PING && type != MUX_PONG;
}

/* lint: flat */
bool mux_frame_read(struct rbuf *r, struct mux_frame *f)
{
	f->type = rbuf_u8(r);
	f->stream = has_stream(f->type) ? rbuf_u32(r) : 0;
	switch (f->type) {
	case MUX_HELLO:
		f->version = rbuf_u8(r);
		f->window = rbuf_u32(r);
		f->streams = rbuf_u32(r);
		break;
	case MUX_OPEN:
	case MUX_OPENED:
		socks_addr_read(r, &f->addr);
		break;
	case MUX_REFUSED:
	case MUX_RESET:
		f->code = rbuf_u8(r);
		break;
	case MUX_DATA:
		f->data = rbuf_run16(r, MUX_DATA_MAX);
		break;
	case MUX_WINDOW:
		f->window = rbuf_u32(r);
		break;
	case MUX_PING:
	case MUX_PONG:
		f->token = rbuf_u32(r);
		break;
	case MUX_ASSOCIATE:
	case MUX_FIN:
		break;
	default:
		r->bad = true;
	}
	return !r->bad;
}

/* lint: flat */
void mux_frame_write(struct wbuf *w, const struct mux_frame *f)
{
	wbuf_u8(w, f->type);
	if (has_stream(f->type))
		wbuf_u32(w, f->stream);
	switch (f->type) {
	case MUX_HELLO:
		wbuf_u8(w, f->version);
		wbuf_u32(w, f->window);
		wbuf_u32(w, f->streams);
		break;
	case MUX_OPEN:
	case MUX_OPENED:
		socks_addr_write(w, &f->addr);
		break;
	case MUX_REFUSED:
	case MUX_RESET:
		wbuf_u8(w, f->code);
		break;
	case MUX_DATA:
		wbuf_run16(w, f->data);
		break;
	case MUX_WINDOW:
		wbuf_u32(w, f->window);
		break;
	case MUX_PING:
	case MUX_PONG:
		wbuf_u32(w, f->token);
		break;
	default:
		break;
	}
}

bool mux_record_read(struct bytes record, struct mux_record *out)
{
	struct rbuf r = rbuf_init(record.data, record.len);

	out->stream = rbuf_u32(&r);
	socks_addr_read(&r, &out->addr);
	out->payload = rbuf_view(&r, rbuf_left(&r));
	return !r.bad;
}

void mux_record_write_header(struct wbuf *w, uint32_t stream, const struct socks_addr *addr)
{
	wbuf_u32(w, stream);
	socks_addr_write(w, addr);
}
