/*
 * The notation in which a method says what it takes and what it answers.  It stands beside the
 * handler; calls are checked by it before the handler sees them, and rpc.discover is made from it,
 * so that neither can drift from the other.
 *
 * FIELDS is a line for each member of an object, "NAME TYPE what it is\n", up to an empty line or
 * the end.  "NAME?" may be missing (a parameter may then be null, too).  The name "*" stands for
 * every other member.
 * TYPE is one or several of these with '|' between:
 *   text  text(MAX)     a string, of at most MAX bytes
 *   uint  uint(MIN..MAX)  a whole number that is not negative
 *   number  bool  null  object  any
 *   id                  a public key: 64 hex digits
 *   ref(MAX)            a node (or what has a list): its number there, or text of at most MAX bytes
 *   =a,b,c              one of these words ('+' is a blank)
 *   @NAME               the shape of that name
 *   T[]  T[MAX]         a list of one of the above, of at most MAX entries
 * Numbers may be C constants by way of RPC_NUM, with their suffix.
 *
 * SHAPES is "NAME what it is\n", FIELDS and "\n" for each object that has a name: one text, for a
 * table of pointers would be three times its size in a program that can be loaded anywhere.
 */
#ifndef IO_RPCSHAPE_H
#define IO_RPCSHAPE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RPC_NUM(constant) RPC_NUM_TEXT(constant)
#define RPC_NUM_TEXT(constant) #constant
#define RPC_SHAPE_WHY_MAX 200

struct rpc_span {
	const char *p;
	size_t len;
};

struct rpc_field {
	struct rpc_span name, type, text;
	bool optional;
};
/* The next line of `*at`, which moves on; false at the end. */
bool rpc_field_next(const char **at, struct rpc_field *out);

enum rpc_kind {
	RPC_KIND_TEXT,
	RPC_KIND_UINT,
	RPC_KIND_NUMBER,
	RPC_KIND_BOOL,
	RPC_KIND_NULL,
	RPC_KIND_OBJECT,
	RPC_KIND_ANY,
	RPC_KIND_ID,
	RPC_KIND_REF,
	RPC_KIND_WORDS, /* `name`: the list without '=' */
	RPC_KIND_SHAPE, /* `name`: without '@' */
	RPC_KIND_UNKNOWN,
};

/* One alternative of a type. */
struct rpc_type {
	enum rpc_kind kind;
	struct rpc_span name;
	uint64_t min, max;
	bool limited; /* min and max were given */
	bool list, list_limited;
	uint64_t list_max;
};
/* Takes the first alternative off `*rest`; false when nothing is left. */
bool rpc_type_next(struct rpc_span *rest, struct rpc_type *out);
/* The next of the words of RPC_KIND_WORDS. */
bool rpc_word_next(struct rpc_span *rest, struct rpc_span *out);
bool rpc_span_is(struct rpc_span s, const char *text);

/* An object that several methods share. */
struct rpc_shape {
	struct rpc_span name, text;
	const char *fields;
};
/* The next of SHAPES at `*at`, which moves on; false at the end. */
bool rpc_shape_next(const char **at, struct rpc_shape *out);

/* Finds a shape; false when there is none. */
typedef bool rpc_shape_find(const void *arg, struct rpc_span name, struct rpc_shape *out);

/*
 * Whether `params` (an object) are what `fields` (may be NULL) say.  With `strict`, members that
 * they do not name are refused.  False: a sentence is in `why`.
 */
bool rpc_shape_check(struct json_object *params, const char *fields, bool strict,
		     rpc_shape_find *find, const void *arg, char why[RPC_SHAPE_WHY_MAX]);
#endif
