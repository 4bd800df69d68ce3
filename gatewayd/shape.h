/*
 * Rates and fair sharing: every lease is a class of an htb on two links of our own (ifb), one for
 * each direction, through which the tunnels' packets are led.  So all methods share one uplink,
 * and nothing of the host's is touched: the links and the hooks on tunnels are journalled.
 *
 * Leases of the pools are told apart by arithmetic on their addresses, in one program for all;
 * those that keep addresses of their own by a list of these, in a program that is made anew when
 * one comes or goes.
 */
#ifndef GATEWAYD_SHAPE_H
#define GATEWAYD_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "gatewayd/lease.h"
#include "gatewayd/pool.h"

#define SHAPE_UP_LINK "mgw-up"
#define SHAPE_DOWN_LINK "mgw-down"
#define SHAPE_WHY_MAX 120

struct gw_shape;
struct hostjournal;

struct gw_shape_config {
	uint64_t up_kbps, down_kbps; /* of the uplink, for all leases together; 0: no limit */
	uint64_t leases;	     /* at most, for what each is sure of */
	bool wanted;		     /* there are rates to keep to */
	const char *queue;	     /* UplinkQueue; stable during the call */
};

/* Does nothing before it is wanted. */
int gw_shape_new(struct gw_shape **out, struct hostjournal *journal, const struct pool *pool4,
		 const struct pool *pool6);
/* Links stay, for the journal to take back. */
void gw_shape_free(struct gw_shape *s); /* NULL is fine */
/* True: it has just begun, and leases of before must be added. */
bool gw_shape_set(struct gw_shape *s, const struct gw_shape_config *config);
void gw_shape_lease_add(struct gw_shape *s, const struct lease *l);
void gw_shape_lease_rate(struct gw_shape *s, const struct lease *l);
void gw_shape_lease_del(struct gw_shape *s, const struct lease *l);
/* Makes what has changed about leases with addresses of their own (method direct) hold. */
void gw_shape_flush(struct gw_shape *s);
/* Are this lease's rates kept to? */
bool gw_shape_covers(const struct gw_shape *s, const struct lease *l);
/* "" while rates are kept to, or nobody wants any; else why not. */
const char *gw_shape_why(const struct gw_shape *s);
/* What a class's queue is: "fq_codel", "cake", "bfifo"; "" while there is nothing to shape. */
const char *gw_shape_queue(const struct gw_shape *s);
/* "" or why it is not a better one. */
const char *gw_shape_queue_why(const struct gw_shape *s);
#endif
