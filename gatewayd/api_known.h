/* Other gateways of the mesh, as the tracker lists them: who asks us hears of them too. */
#ifndef GATEWAYD_API_KNOWN_H
#define GATEWAYD_API_KNOWN_H

#include <json-c/json.h>
#include <stdint.h>

#define KNOWN_MAX 256u
#define KNOWN_PUBLIC_MAX 16u /* of one nodeInfo */
#define KNOWN_INTERVAL_S 30u
#define KNOWN_APP_TYPE "internet_gateway"

struct gw_known;
struct meshapp;

/* `app` NULL: there is no mesh, and nobody is known.  NULL when out of memory. */
struct gw_known *gw_known_new(struct meshapp *app, const char *own_app);
void gw_known_free(struct gw_known *k); /* after the app is closed; NULL is fine */
/* Asks the tracker, when that is due. */
void gw_known_tick(struct gw_known *k, uint64_t now_s);
/* New arrays: [{name, node}], and all of them with what they say of themselves and since when. */
struct json_object *gw_known_names(const struct gw_known *k);
struct json_object *gw_known_all(const struct gw_known *k);
#endif
