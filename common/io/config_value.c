#include "io/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cstr.h"
#include "base/id.h"

static const char *name_skip(const char *s)
{
	while (*s == '_')
		s++;
	return s;
}

bool config_name_equal(const char *a, const char *b)
{
	for (;;) {
		a = name_skip(a);
		b = name_skip(b);
		if (tolower((unsigned char)*a) != tolower((unsigned char)*b))
			return false;
		if (!*a)
			return true;
		a++;
		b++;
	}
}

/* Moves *at past the next element and answers its trimmed bytes; NULL at the end. */
static const char *list_step(const char **at, size_t *len)
{
	while (**at) {
		const char *start = *at + strspn(*at, ", \t");
		size_t n = strcspn(start, ",");

		*at = start + n;
		while (n && (start[n - 1] == ' ' || start[n - 1] == '\t'))
			n--;
		*len = n;
		if (n)
			return start;
	}
	return NULL;
}

bool config_list_next(const char **at, char *out, size_t size)
{
	size_t len = 0;
	const char *item = list_step(at, &len);

	if (!item)
		return false;
	if (len >= size)
		len = size - 1;
	memcpy(out, item, len);
	out[len] = '\0';
	return true;
}

bool config_list_contains(const char *list, const char *item)
{
	size_t want = strlen(item), len = 0;
	const char *at = list, *found;

	while ((found = list_step(&at, &len)))
		if (len == want && !memcmp(found, item, len))
			return true;
	return false;
}

static bool digits_parse(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		unsigned digit = (unsigned)(unsigned char)*text - '0';

		if (digit > 9 || v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*out = v;
	return true;
}

int config_net_parse(const char *text, struct net_addr *net, unsigned *bits)
{
	char ip[NET_ADDR_TEXT];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	uint64_t width, n;

	if (len >= sizeof ip)
		return -EINVAL;
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (net_addr_parse(net, ip, 0) || net->port || strchr(ip, '['))
		return -EINVAL;
	width = net->family == 4 ? 32 : 128;
	n = width;
	if (slash && (!digits_parse(slash + 1, &n) || n > width))
		return -EINVAL;
	*bits = (unsigned)n;
	return 0;
}

static struct net_addr addr_unmap(const struct net_addr *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct net_addr v4 = {.family = 4, .port = a->port};

	if (a->family != 6 || memcmp(a->ip, mapped, sizeof mapped) != 0)
		return *a;
	memcpy(v4.ip, a->ip + sizeof mapped, 4);
	return v4;
}

bool config_nets_contain(const char *nets, const struct net_addr *a)
{
	struct net_addr real = addr_unmap(a), net;
	char item[NET_ADDR_TEXT + 4];
	unsigned bits;

	while (config_list_next(&nets, item, sizeof item))
		if (!config_net_parse(item, &net, &bits) && net_addr_same_prefix(&net, &real, bits))
			return true;
	return false;
}

static bool addr_valid(const char *text)
{
	struct net_addr a;

	return !net_addr_parse(&a, text, 0);
}

/* Whether there is such a name is not asked here. */
static bool host_valid(const char *text)
{
	char host[NET_NAME_TEXT];
	struct net_addr a;
	uint16_t port;

	if (!net_addr_parse(&a, text, 0))
		return a.port != 0;
	return !net_name_parse(host, &port, text);
}

static bool net_valid(const char *text)
{
	struct net_addr a;
	unsigned bits;

	return !config_net_parse(text, &a, &bits);
}

static bool each_valid(const char *list, bool (*valid)(const char *))
{
	char item[NET_ADDR_TEXT + 4];
	const char *at = list, *start;
	size_t len = 0;

	while ((start = list_step(&at, &len))) {
		if (len >= sizeof item)
			return false;
		memcpy(item, start, len);
		item[len] = '\0';
		if (!valid(item))
			return false;
	}
	return true;
}

/* Answers the word of "a|b|c" that is `text` without case; NULL when there is none. */
static const char *word_find(const char *words, const char *text, size_t *len)
{
	size_t want = strlen(text);

	while (*words) {
		size_t n = strcspn(words, "|");

		if (n == want && !strncasecmp(words, text, n)) {
			*len = n;
			return words;
		}
		words += n + (words[n] == '|');
	}
	return NULL;
}

static bool bool_parse(const char *text, uint64_t *out)
{
	size_t len;

	if (word_find("yes|true|on|1", text, &len))
		*out = 1;
	else if (word_find("no|false|off|0", text, &len))
		*out = 0;
	else
		return false;
	return true;
}

static bool text_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return *text == '\t' ? text_printable(text + 1) : false;
	return true;
}

static bool choice_parse(const struct config_key *k, const char *text, struct config_value *out)
{
	size_t len = 0;
	const char *word = word_find(k->words, text, &len);

	if (!word)
		return false;
	memcpy(out->text, word, len);
	out->text[len] = '\0';
	return true;
}

bool config_value_parse(const struct config_key *k, const char *text, struct config_value *out)
{
	struct mesh_id id;

	out->num = 0;
	if (strlen(text) >= sizeof out->text || !text_printable(text))
		return false;
	memcpy(out->text, text, strlen(text) + 1);
	switch (k->kind) {
	case CONFIG_STR:
		return true;
	case CONFIG_CHOICE:
		return choice_parse(k, text, out);
	case CONFIG_ADDR:
		return *text ? addr_valid(text) : !*k->def;
	case CONFIG_HOST:
		return *text ? host_valid(text) : !*k->def;
	case CONFIG_ADDRS:
		return each_valid(text, addr_valid);
	case CONFIG_NETS:
		return each_valid(text, net_valid);
	case CONFIG_PUBKEY:
		return !*text || !mesh_id_parse(&id, text);
	case CONFIG_U64:
		return digits_parse(text, &out->num) && out->num >= k->min && out->num <= k->max;
	case CONFIG_BOOL:
		return bool_parse(text, &out->num);
	}
	return false;
}

const char *config_key_range(const struct config_key *k, char *out, size_t size)
{
	static const char fixed[][36] = {
		[CONFIG_STR] = "printable text",
		[CONFIG_ADDR] = "a numeric IP:PORT",
		[CONFIG_HOST] = "NAME:PORT or IP:PORT",
		[CONFIG_ADDRS] = "numeric IP:PORT, comma separated",
		[CONFIG_NETS] = "networks IP/BITS, comma separated",
		[CONFIG_PUBKEY] = "64 hexadecimal digits or nothing",
		[CONFIG_BOOL] = "yes|no",
	};

	if (k->kind == CONFIG_U64)
		cstr_print(out, size, "%llu..%llu", (unsigned long long)k->min,
			   (unsigned long long)k->max);
	else
		cstr_copy(out, size, k->kind == CONFIG_CHOICE ? k->words : fixed[k->kind]);
	return out;
}

bool config_list_has(const char *list, const char *word)
{
	char item[64];

	while (config_list_next(&list, item, sizeof item))
		if (strcasecmp(item, word) == 0)
			return true;
	return false;
}
