#include "io/nodeinfo.h"

#include "base/buf.h"

bool nodeinfo_is_gateway(struct json_object *answer)
{
	struct json_object *v = NULL;

	return json_object_is_type(answer, json_type_object) &&
	       json_object_object_get_ex(answer, "gateway", &v) &&
	       json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

void nodeinfo_text(struct json_object *o, const char *key, char *out, size_t size)
{
	struct json_object *v = NULL;

	out[0] = '\0';
	if (json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string))
		bytes_to_cstr(bytes_str(json_object_get_string(v)), out, size);
}

static bool address_read(struct json_object *item, struct net_addr *out)
{
	struct json_object *v = item;

	if (json_object_is_type(item, json_type_object) &&
	    !json_object_object_get_ex(item, "address", &v))
		return false;
	return json_object_is_type(v, json_type_string) &&
	       net_addr_parse(out, json_object_get_string(v), 0) == 0;
}

size_t nodeinfo_gateways(struct json_object *o, struct net_addr *out, size_t max)
{
	struct json_object *list = NULL;
	size_t n = 0;

	if (!json_object_object_get_ex(o, "gateways", &list) ||
	    !json_object_is_type(list, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(list) && n < max; i++)
		if (address_read(json_object_array_get_idx(list, i), &out[n]))
			n++;
	return n;
}
