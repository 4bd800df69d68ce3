/*
 * What a SOCKS5 client says and hears: RFC 1928, and RFC 1929 for user and password.  Pure.  First
 * the server's side, then the client's.
 *
 * The readers take what has arrived so far and return the bytes that their message is long, 0 while
 * it is not complete, or -errno.  -EPROTO: this is not SOCKS5, close without a word.
 */
#ifndef WIRE_SOCKS5_H
#define WIRE_SOCKS5_H

#include "wire/socksaddr.h"

#define SOCKS5_MESSAGE_MAX 515u /* the longest that a client says: a login */
#define SOCKS5_REPLY_BYTES_MAX (3 + 1 + 16 + 2)

enum socks5_method { SOCKS5_NO_LOGIN = 0, SOCKS5_PASSWORD = 2, SOCKS5_NO_METHOD = 0xff };
enum socks5_command { SOCKS5_CONNECT = 1, SOCKS5_BIND = 2, SOCKS5_ASSOCIATE = 3 };

/* Replies; also the codes of our own REFUSED and RESET. */
enum socks5_code {
	SOCKS5_OK,
	SOCKS5_FAILURE,
	SOCKS5_NOT_ALLOWED,
	SOCKS5_NETWORK_UNREACHABLE,
	SOCKS5_HOST_UNREACHABLE,
	SOCKS5_CONNECTION_REFUSED,
	SOCKS5_TTL_EXPIRED,
	SOCKS5_BAD_COMMAND,
	SOCKS5_BAD_ADDRESS
};
const char *socks5_code_text(uint8_t code);

/* `method` becomes the one to answer with: the wanted one if it was offered. */
int socks5_read_greeting(const uint8_t *data, size_t len, enum socks5_method wanted,
			 enum socks5_method *method);

struct socks5_login {
	/* Padded with zeroes to their full size, so that they can be compared in constant time. */
	char user[SOCKS_NAME_MAX + 1], password[SOCKS_NAME_MAX + 1];
};
int socks5_read_login(const uint8_t *data, size_t len, struct socks5_login *out);

struct socks5_request {
	uint8_t command;
	struct socks_addr to;
};
/* Also -EAFNOSUPPORT: an address of an unknown kind, or a name that cannot be one. */
int socks5_read_request(const uint8_t *data, size_t len, struct socks5_request *out);

/* Length of the reply; `bound` may be NULL. */
size_t socks5_write_reply(uint8_t out[SOCKS5_REPLY_BYTES_MAX], uint8_t code,
			  const struct net_addr *bound);

/* A UDP datagram with its header.  0 or -EPROTO; -EOPNOTSUPP for a fragment.  The payload is a
 * view of `data`. */
int socks5_read_datagram(const uint8_t *data, size_t len, struct socks_addr *to,
			 struct bytes *payload);
/* ---- the client ---- */
#define SOCKS5_GREETING_BYTES 3u
#define SOCKS5_ANSWER_BYTES 2u /* to the greeting, and to the login */
#define SOCKS5_REPLY_HEAD 5u   /* of a reply: how long it is can be told */
/* Offers only `method`. */
void socks5_write_greeting(struct wbuf *w, enum socks5_method method);
/* Both at most SOCKS_NAME_MAX long. */
void socks5_write_login(struct wbuf *w, const char *user, const char *password);
void socks5_write_request(struct wbuf *w, enum socks5_command command, const struct net_addr *to);
/* -EPROTO, or what was chosen. */
int socks5_read_choice(const uint8_t answer[SOCKS5_ANSWER_BYTES]);
/* 0, -EACCES, -EPROTO. */
int socks5_read_login_answer(const uint8_t answer[SOCKS5_ANSWER_BYTES]);
struct socks5_reply {
	uint8_t code;
	struct socks_addr bound;
};
int socks5_read_reply(const uint8_t *data, size_t len, struct socks5_reply *out);

/* ---- both: UDP ---- */
/* Only the header, at most 3 + SOCKS_ADDR_BYTES_MAX bytes. */
void socks5_write_datagram_header(struct wbuf *w, const struct socks_addr *from);
#endif
