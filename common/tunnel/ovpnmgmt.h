/*
 * The management channel of an OpenVPN process (doc/management-notes.txt of OpenVPN 2.6), for both
 * ends of the method.  The process is told `management PATH unix` and `management-client`: it
 * connects to us, and ends by itself when this end goes, so that nothing is left behind by a kill.
 */
#ifndef TUNNEL_OVPNMGMT_H
#define TUNNEL_OVPNMGMT_H

#include <stdbool.h>
#include <stdint.h>

#define OVPNMGMT_LINE_MAX 4096u
#define OVPNMGMT_BACKLOG_MAX                                                                       \
	(1u << 20) /* bytes that the process has not read; then it is cut off */

struct event_base;
struct ovpnmgmt;

struct ovpnmgmt_callbacks {
	void (*up)(void *arg); /* the process is there */
	void (*line)(char *line, void *arg);
	void (*down)(void *arg); /* it has gone; the next one may come */
};

/* One process at a time; a second one is turned away.  `path` is replaced; its mode is
 * 0600.  0, -ENAMETOOLONG (AF_UNIX), -errno. */
int ovpnmgmt_listen(struct ovpnmgmt **out, struct event_base *base, const char *path,
		    const struct ovpnmgmt_callbacks *cb, void *arg);
/* The process sees its channel close, and ends.  Not from inside a callback.  NULL is fine. */
void ovpnmgmt_free(struct ovpnmgmt *m);
/* Lines of text, each with its newline.  Nothing happens while no process is there. */
void ovpnmgmt_send(struct ovpnmgmt *m, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

enum ovpn_kind {
	OVPN_OTHER,
	OVPN_CONNECT,	  /* cid, kid; then the environment, up to OVPN_ENV_END */
	OVPN_REAUTH,	  /* the same */
	OVPN_ESTABLISHED, /* cid */
	OVPN_DISCONNECT,  /* cid */
	OVPN_ENV,	  /* key, value */
	OVPN_ENV_END,
	OVPN_CLIENT_BYTES, /* cid, in, out: as the server counts */
	OVPN_BYTES,	   /* in, out: as the client counts */
	OVPN_STATE,	   /* key: CONNECTED, RECONNECTING, ...; value: why */
	OVPN_FATAL,	   /* value */
	OVPN_PASSWORD,	   /* value: "Verification Failed: 'Auth'" */
};

struct ovpn_event {
	enum ovpn_kind kind;
	uint64_t cid, kid, in, out;
	const char *key, *value; /* into the line; never NULL */
};

/* Pure.  Cuts `line` into pieces; what is not understood is OVPN_OTHER. */
void ovpn_event_parse(char *line, struct ovpn_event *e);
#endif
