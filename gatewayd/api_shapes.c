/* The objects in the answers of the gateway, for rpc.discover; api.c and api_admin.c make them. */
#include "gatewayd/api.h"

#define CODE "text(" RPC_NUM(GW_API_CODE_MAX) ") "
#define ID "text(" RPC_NUM(MESH_ID_TEXT) ") "
#define NAME "text(" RPC_NUM(NAME_MAX_BYTES) ") "
#define UNIX_TIME "seconds since 1970"

const struct rpc_shape gw_api_shapes[] = {
	{"refusal", "The answer is no.",
	 "success bool always false\n"
	 "errorMsg text why\n"
	 "temporary bool whether it may be yes later\n"},
	{"done", "The answer is yes.", "success bool always true\n"},
	{"options", "What a method wants to know of the subscriber; more than this is up to it.",
	 "code? " CODE "the access code, where one is needed\n"
	 "node? " ID "of the app that will use the tunnel (mesh)\n"
	 "app? " NAME "its name; over the mesh both are known anyway\n"
	 "owner? @owner\n"
	 "* any a method's own, as publicKey of wireguard\n"},
	{"owner", "Proof that the lease is the caller's, from whatever address: docs/gateway.md.",
	 "key id of the subscriber, for this gateway\n"
	 "stamp uint(1..9223372036854775807) greater than that of the call before\n"
	 "proof id a keyed hash of the call\n"},
	{"method", "A way to reach this gateway.",
	 "name text\n"
	 "ready bool whether it can be had now\n"
	 "* any what the method says of itself\n"},
	{"unavailable", "A method that the configuration names and the machine cannot do.",
	 "name text\n"
	 "reason text\n"},
	{"terms", "What a lease means here.",
	 "maxSubscribers uint\n"
	 "freeSlots uint\n"
	 "leaseSeconds uint\n"
	 "rateKbps uint of one lease, 0: no limit\n"
	 "quotaBytes uint of one lease, 0: no limit\n"
	 "monthQuotaBytes uint of one subscriber, 0: no limit\n"
	 "stepDownKbps uint the rate when a quota is used up; 0: the lease ends\n"
	 "codeRequired bool whether options.code is needed\n"
	 "price text\n"
	 "currency text\n"
	 "text text\n"},
	{"uplink", "The way out.",
	 "online bool\n"
	 "checkedAt uint " UNIX_TIME "; 0: not yet\n"
	 "rttMs number\n"},
	{"peer", "A gateway that this one knows.",
	 "name text\n"
	 "address text IP:PORT of its RPC\n"},
	{"node_info", "A gateway.",
	 "success bool\n"
	 "name text\n"
	 "version text\n"
	 "gateway bool always true\n"
	 "methods @method[]\n"
	 "unavailable @unavailable[]\n"
	 "terms @terms\n"
	 "uplink @uplink\n"
	 "ipv6support bool\n"
	 "id text tells it from others, at whatever address\n"
	 "proof? id that the owner of id answers, where there was a challenge\n"
	 "gateways @peer[] some others that it knows\n"},
	{"lease", "What was granted.",
	 "success bool always true\n"
	 "sid text the key to the lease: keep it\n"
	 "method text\n"
	 "timeoutTimestamp uint when it ends, " UNIX_TIME "\n"
	 "leaseSeconds uint\n"
	 "ipv4 text|null\n"
	 "cidr4 uint|null the prefix length\n"
	 "ipv4gateway text|null\n"
	 "ipv6 text|null\n"
	 "cidr6 uint|null the prefix length\n"
	 "ipv6gateway text|null\n"
	 "dns text[] name servers\n"
	 "rateKbps uint 0: no limit\n"
	 "quotaBytes uint 0: no limit\n"
	 "* object|null by the name of the method: what it needs\n"},
	{"renewal", "It lasts anew.",
	 "success bool always true\n"
	 "timeoutTimestamp uint when it ends, " UNIX_TIME "\n"
	 "leaseSeconds uint\n"},
	{"own_node", "The node that the gateway uses.",
	 "connected bool\n"
	 "id id|null\n"
	 "app text what the gateway is called there\n"},
	{"shaping", "How rates are kept to.",
	 "active bool\n"
	 "queue text fq_codel, cake or bfifo; empty: nothing to shape\n"
	 "queueReason text|null why it is not the one that was asked for\n"
	 "reason text|null why it is not active\n"},
	{"pool", "Addresses for subscribers.",
	 "network text\n"
	 "size uint\n"
	 "used uint\n"},
	{"counters", "Since the start.",
	 "granted uint\n"
	 "repeated uint requests for a lease that was there\n"
	 "renewed uint\n"
	 "released uint\n"
	 "expired uint\n"
	 "refused uint\n"
	 "hooksRun uint\n"
	 "hooksFailed uint\n"
	 "hooksDropped uint\n"
	 "rulesetRepairs uint how often somebody removed our rules\n"
	 "spoofedPackets? uint\n"
	 "deniedPackets? uint\n"
	 "unleasedPackets? uint\n"},
	{"session", "A lease as the administrator sees it.",
	 "sid text\n"
	 "method text\n"
	 "name text\n"
	 "port uint\n"
	 "node id|null\n"
	 "app text|null\n"
	 "proven bool whether the mesh vouches for the app\n"
	 "keyed bool whether it is bound to a key instead of an address\n"
	 "host text|null who asked, when not over the mesh\n"
	 "ipv4 text|null\n"
	 "ipv6 text|null\n"
	 "grantedAt uint " UNIX_TIME "\n"
	 "timeoutTimestamp uint when it ends, " UNIX_TIME "\n"
	 "rateKbps uint now\n"
	 "rateKept bool whether the rate is kept to\n"
	 "quotaBytes uint\n"
	 "usedBytes uint\n"
	 "monthBytes uint\n"
	 "code text|null the name of the access code\n"
	 "interface text\n"
	 "connected bool\n"
	 "upPackets uint\n"
	 "upBytes uint\n"
	 "downPackets uint\n"
	 "downBytes uint\n"
	 "spoofed uint\n"
	 "dropped uint\n"},
	{"access_code", "One that may be used, without the code itself.",
	 "name text\n"
	 "created uint " UNIX_TIME "\n"},
	{"gateway", "Another gateway: one with an address, or one that the mesh lists.",
	 "name text\n"
	 "address? text IP:PORT of its RPC\n"
	 "configured? bool whether the configuration names it\n"
	 "provenAt? uint when it last answered, " UNIX_TIME "\n"
	 "node? id\n"
	 "info? any what it says of itself to the mesh\n"
	 "seenAt? uint " UNIX_TIME "\n"},
	{"section", "A section of the configuration.", "* text|uint|bool|null a key's value\n"},
	{"config", "By section. What is secret is shown as *** when it is set.", "* @section\n"},
};
const size_t gw_api_shape_count = sizeof(gw_api_shapes) / sizeof(gw_api_shapes[0]);
