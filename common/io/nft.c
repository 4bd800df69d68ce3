#include "io/nft.h"

#include <ctype.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/nft_script.h"

#define NFT_COMMAND_MAX 128
#define NFT_ANSWER_S 5 /* the kernel answers at once; keeps a bug from hanging a daemon */

struct nft {
	struct nft_ctx *ctx;
	struct mnl_socket *sock; /* NULL until it is needed */
};

int nft_open(struct nft **out)
{
	struct nft *nft = calloc(1, sizeof *nft);

	if (!nft)
		return -ENOMEM;
	nft->ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!nft->ctx || nft_ctx_buffer_output(nft->ctx) || nft_ctx_buffer_error(nft->ctx)) {
		nft_close(nft);
		return -ENOMEM;
	}
	*out = nft;
	return 0;
}

void nft_close(struct nft *nft)
{
	if (!nft)
		return;
	if (nft->sock)
		mnl_socket_close(nft->sock);
	if (nft->ctx)
		nft_ctx_free(nft->ctx);
	free(nft);
}

struct mnl_socket *nft_socket(struct nft *nft)
{
	struct timeval timeout = {.tv_sec = NFT_ANSWER_S};

	if (nft->sock)
		return nft->sock;
	nft->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (nft->sock && (mnl_socket_bind(nft->sock, 0, MNL_SOCKET_AUTOPID) ||
			  setsockopt(mnl_socket_get_fd(nft->sock), SOL_SOCKET, SO_RCVTIMEO,
				     &timeout, sizeof timeout))) {
		mnl_socket_close(nft->sock);
		nft->sock = NULL;
	}
	return nft->sock;
}

bool nft_name_ok(const char *name, size_t max)
{
	size_t len = strlen(name);

	if (len == 0 || len > max || !isalpha((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return true;
}

bool nft_interface_ok(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("_-.@", name[i]))
			return false;
	return len > 0 && len < IFNAMSIZ;
}

/* libnftables tells errors by text only. */
static int error_of(const char *text)
{
	static const int known[] = {EEXIST,	ENOENT, EPERM,	      EBUSY,
				    EOPNOTSUPP, ENOMEM, EAFNOSUPPORT, EINVAL};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strstr(text, strerror(known[i])))
			return known[i];
	return EIO;
}

static int run(struct nft *nft, const char *command, unsigned flags, int quiet)
{
	nft_ctx_output_set_flags(nft->ctx, flags);
	int rc = nft_run_cmd_from_buffer(nft->ctx, command);
	const char *text = nft_ctx_get_error_buffer(nft->ctx);
	if (rc == 0)
		return 0;
	int err = error_of(text);
	if (err != quiet)
		log_error("nftables: %.*s", (int)strcspn(text, "\n"), text);
	return -err;
}

static int query(struct nft *nft, const char *command, unsigned flags, int quiet,
		 struct json_object **root, struct json_object **list)
{
	int rc = run(nft, command, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE | flags, quiet);

	if (rc)
		return rc;
	*root = json_tokener_parse(nft_ctx_get_output_buffer(nft->ctx));
	if (json_object_object_get_ex(*root, "nftables", list) &&
	    json_object_is_type(*list, json_type_array))
		return 0;
	json_object_put(*root);
	return -EBADMSG;
}

int nft_query(struct nft *nft, const char *command, int quiet, struct json_object **root,
	      struct json_object **list)
{
	return query(nft, command, 0, quiet, root, list);
}

/* ---- scripts ---- */

void nft_script_init(struct nft_script *s)
{
	*s = (struct nft_script){0};
	s->f = open_memstream(&s->text, &s->len);
}

void nft_script_add(struct nft_script *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->f)
		return;
	va_start(ap, fmt);
	vfprintf(s->f, fmt, ap);
	va_end(ap);
	fputc('\n', s->f);
}

int nft_script_run(struct nft *nft, struct nft_script *s, int quiet)
{
	bool bad = !s->f || ferror(s->f);

	if (s->f && fclose(s->f))
		bad = true;
	int rc = bad ? -ENOMEM : run(nft, s->text, 0, quiet);
	free(s->text);
	return rc;
}

void nft_script_table(struct nft_script *s, const char *table, bool replace)
{
	if (replace) {
		/* Adding first makes the deletion succeed whether it was there or not. */
		nft_script_add(s, "add table inet %s", table);
		nft_script_add(s, "delete table inet %s", table);
	}
	nft_script_add(s, "create table inet %s { comment \"meshnet\" ; }", table);
}

/* Is it part of another one, or the same as an earlier one? */
static bool covered(const struct net_prefix *prefixes, size_t count, size_t i)
{
	const struct net_prefix *p = &prefixes[i];

	/* Of two that are the same, the first stays. */
	for (size_t k = 0; k < count; k++)
		if (prefixes[k].addr.family == p->addr.family &&
		    prefixes[k].bits < p->bits + (k < i) &&
		    net_prefix_contains(&prefixes[k], &p->addr))
			return true;
	return false;
}

/* nft's auto-merge fails at some that overlap (another set's element between them), so none do. */
void nft_script_prefix_sets(struct nft_script *s, const char *table, const char *name,
			    const struct net_prefix *prefixes, size_t count)
{
	static const char *const types[] = {"4 { type ipv4_addr", "6 { type ipv6_addr"};
	char text[NET_PREFIX_TEXT];

	for (int i = 0; i < 2; i++)
		nft_script_add(s, "add set inet %s %s%s; flags interval; auto-merge; }", table,
			       name, types[i]);
	for (size_t i = 0; i < count; i++) {
		struct net_prefix p = net_prefix_network(&prefixes[i]);
		if (p.addr.family && !covered(prefixes, count, i))
			nft_script_add(s, "add element inet %s %s%u { %s }", table, name,
				       p.addr.family, net_prefix_text(&p, text));
	}
}

/* ---- tables ---- */

int nft_table_exists(struct nft *nft, const char *table)
{
	struct json_object *root, *list;
	char command[NFT_COMMAND_MAX];
	int found = 0, rc;

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	cstr_print(command, sizeof command, "list tables inet");
	rc = nft_query(nft, command, 0, &root, &list);
	if (rc)
		return rc;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *t, *name;
		if (json_object_object_get_ex(json_object_array_get_idx(list, i), "table", &t) &&
		    json_object_object_get_ex(t, "name", &name) &&
		    strcmp(json_object_get_string(name), table) == 0)
			found = 1;
	}
	json_object_put(root);
	return found;
}

int nft_table_del(struct nft *nft, const char *table)
{
	char command[NFT_COMMAND_MAX];

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	cstr_print(command, sizeof command, "delete table inet %s", table);
	return run(nft, command, 0, ENOENT);
}

static uint64_t hash_text(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3u;
	return h;
}

/* Chains and rules by their handles (a rule that was removed and added again has another), prefix
 * sets by their elements.  What belongs to leases comes and goes: the list is one without elements.
 */
static uint64_t hash_entry(uint64_t h, struct json_object *entry)
{
	struct json_object *o;

	if (!json_object_object_get_ex(entry, "rule", &o) &&
	    !json_object_object_get_ex(entry, "chain", &o) &&
	    !json_object_object_get_ex(entry, "map", &o) &&
	    !json_object_object_get_ex(entry, "set", &o))
		return h;
	return hash_text(h, json_object_to_json_string_ext(entry, JSON_C_TO_STRING_PLAIN));
}

static int hash_list(struct nft *nft, const char *command, unsigned flags, uint64_t *h,
		     struct json_object **root, struct json_object **list)
{
	int rc = query(nft, command, flags, ENOENT, root, list);

	if (rc)
		return rc;
	for (size_t i = 0; i < json_object_array_length(*list); i++)
		*h = hash_entry(*h, json_object_array_get_idx(*list, i));
	return 0;
}

/* Those of intervals are prefixes, which stay; the others are of leases. */
static int hash_set(struct nft *nft, const char *table, struct json_object *entry, uint64_t *h)
{
	struct json_object *root, *list, *o, *v, *flags;
	char command[NFT_COMMAND_MAX];
	int rc;

	if (!json_object_object_get_ex(entry, "set", &o) ||
	    !json_object_object_get_ex(o, "name", &v) ||
	    !json_object_object_get_ex(o, "flags", &flags))
		return 0;
	cstr_print(command, sizeof command, "list set inet %s %.32s", table,
		   json_object_get_string(v));
	rc = hash_list(nft, command, 0, h, &root, &list);
	if (!rc)
		json_object_put(root);
	return rc;
}

int nft_table_mark(struct nft *nft, const char *table, uint64_t *mark)
{
	struct json_object *root, *list;
	char command[NFT_COMMAND_MAX];
	uint64_t h = 0xcbf29ce484222325u;
	int rc;

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	cstr_print(command, sizeof command, "list table inet %s", table);
	rc = hash_list(nft, command, NFT_CTX_OUTPUT_TERSE, &h, &root, &list);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
		rc = hash_set(nft, table, json_object_array_get_idx(list, i), &h);
	json_object_put(root);
	*mark = h;
	return rc;
}

int nft_table_intact(struct nft *nft, const char *table, uint64_t mark)
{
	uint64_t now;
	int rc = nft_table_mark(nft, table, &now);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	return now == mark;
}
