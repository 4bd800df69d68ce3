/* Other gateways of the mesh, as the tracker lists them. */
#ifndef GATEWAYD_API_KNOWN_H
#define GATEWAYD_API_KNOWN_H

#include <json-c/json.h>
#include <stdint.h>

#define KNOWN_MAX 256u
#define KNOWN_INTERVAL_S 30u
#define KNOWN_APP_TYPE "internet_gateway"

struct gw_known;
struct meshapp;

/* `app` NULL: there is no mesh, and nobody is known.  NULL when out of memory. */
struct gw_known *gw_known_new(struct meshapp *app, const char *own_app);
void gw_known_free(struct gw_known *k); /* after the app is closed; NULL is fine */
/* Asks the tracker, when that is due. */
void gw_known_tick(struct gw_known *k, uint64_t now_s);
/* Appends {name, node, info, seenAt} of each to an array: what it says of itself, and since when.
 */
void gw_known_add(const struct gw_known *k, struct json_object *list);
#endif
