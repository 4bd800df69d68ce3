/*
 * GET /metrics for daemons that have no RPC: a node must stay small, and evhttp and json-c alone
 * would cost more memory than all of this.  One request a connection, no body, few connections at
 * once: a new one takes the place of the oldest.
 */
#ifndef IO_STATUSHTTP_H
#define IO_STATUSHTTP_H

#include <stdint.h>

struct event_base;
struct metrics;
struct status_http;

/* Writes the figures as they are now. */
typedef void status_http_write(struct metrics *m, void *arg);

/* Listens on 127.0.0.1 and, where the host has it, [::1].  0 or -errno (logged). */
int status_http_new(struct status_http **out, struct event_base *base, uint16_t port,
		    status_http_write *write, void *arg);
/* NULL is fine. */
void status_http_free(struct status_http *s);
#endif
