#include "meshctl/events.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/id.h"
#include "io/jsonrpc.h"
#include "meshctl/command.h"

#define RETRY_US 2000000u
#define CONNECT_TIMEOUT_S 10
/* The daemon says something every 15 s. */
#define SILENCE_MS 40000
#define HEAD_MAX 8192

/* ---- the format ---- */

static void field_set(char *out, size_t size, const char *value)
{
	snprintf(out, size, "%s", value);
}

static void line_take(struct sse *s)
{
	char *value = strchr(s->line, ':');

	if (!*s->line) {
		if (*s->data && s->on_event)
			s->on_event(s, s->arg);
		s->event[0] = s->data[0] = '\0';
		return;
	}
	if (value == s->line)
		return; /* a comment */
	if (value)
		*value++ = '\0';
	value = !value ? s->line + strlen(s->line) : value + (*value == ' ');
	if (strcmp(s->line, "id") == 0)
		field_set(s->id, sizeof s->id, value);
	else if (strcmp(s->line, "event") == 0)
		field_set(s->event, sizeof s->event, value);
	else if (strcmp(s->line, "data") == 0)
		field_set(s->data, sizeof s->data, value);
}

void sse_feed(struct sse *s, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == '\n') {
			s->line[s->len] = '\0';
			if (s->len && s->line[s->len - 1] == '\r')
				s->line[s->len - 1] = '\0';
			if (!s->too_long)
				line_take(s);
			s->len = 0;
			s->too_long = false;
		} else if (s->len + 1 < sizeof s->line && bytes[i]) {
			s->line[s->len++] = bytes[i];
		} else {
			s->too_long = true;
		}
	}
}

/* ---- what is shown ---- */

struct follow {
	const struct ctl_args *args;
	enum ctl_daemon daemon;
	struct rpc_target to;
	FILE *out, *err;
	struct sse sse;
	uint64_t count, limit;
	bool done;
};

static void show_value(const char *key, struct json_object *value, FILE *out)
{
	const char *text = json_object_get_string(value);
	char safe[512];

	if (strlen(text) == MESH_ID_TEXT - 1 && json_object_is_type(value, json_type_string)) {
		fprintf(out, "  %s=%.8s", key, text);
		return;
	}
	bytes_to_cstr(bytes_str(text), safe, sizeof safe);
	fprintf(out, strchr(safe, ' ') ? "  %s=\"%s\"" : "  %s=%s", key, safe);
}

static void show_line(struct follow *f, const char *event, struct json_object *data)
{
	struct json_object *at = NULL;
	char when[32] = "-", safe[64];
	struct tm tm;
	time_t t;

	json_object_object_get_ex(data, "time", &at);
	t = (time_t)json_object_get_int64(at);
	if (t > 0 && localtime_r(&t, &tm))
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	bytes_to_cstr(bytes_str(event), safe, sizeof safe);
	fprintf(f->out, "%s  %-18s", when, safe);
	json_object_object_foreach(data, key, value)
	{
		if (strcmp(key, "time") != 0 && value)
			show_value(key, value, f->out);
	}
	fputc('\n', f->out);
}

static void show_json_line(struct follow *f, const struct sse *s, struct json_object *data)
{
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "id", s->id);
	rpc_set_str(o, "event", s->event);
	rpc_set(o, "data", json_object_get(data));
	fprintf(f->out, "%s\n",
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void on_event(struct sse *s, void *arg)
{
	struct follow *f = arg;
	struct json_object *data;

	if (f->done)
		return;
	data = rpc_parse(s->data, strlen(s->data), NULL);
	if (!json_object_is_type(data, json_type_object)) {
		json_object_put(data);
		return;
	}
	if (f->args->json)
		show_json_line(f, s, data);
	else
		show_line(f, s->event, data);
	json_object_put(data);
	f->count++;
	f->done = fflush(f->out) || (f->limit && f->count >= f->limit);
}

/* ---- the connection ---- */

static int dial_one(const struct addrinfo *a)
{
	const struct timeval limit = {.tv_sec = CONNECT_TIMEOUT_S};
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* of connect too */
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	err = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
	close(fd);
	return err;
}

static int dial(const struct rpc_target *to)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char port[8];
	int fd = -EHOSTUNREACH;

	snprintf(port, sizeof port, "%u", to->port);
	if (getaddrinfo(to->host, port, &hints, &list))
		return -EHOSTUNREACH;
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
		fd = dial_one(a);
	freeaddrinfo(list);
	return fd;
}

static int ask(struct follow *f, int fd)
{
	char request[1024];
	bool token = f->to.token && *f->to.token;
	int n = snprintf(request, sizeof request,
			 strchr(f->to.host, ':') ? "GET /events HTTP/1.0\r\nHost: [%s]:%u\r\n"
						 : "GET /events HTTP/1.0\r\nHost: %s:%u\r\n",
			 f->to.host, f->to.port);

	n += snprintf(request + n, sizeof request - (size_t)n, "%s%s%s%s%s%s\r\n",
		      token ? "Authorization: Bearer " : "", token ? f->to.token : "",
		      token ? "\r\n" : "", *f->sse.id ? "Last-Event-ID: " : "", f->sse.id,
		      *f->sse.id ? "\r\n" : "");
	if (n >= (int)sizeof request)
		return -EMSGSIZE;
	return send(fd, request, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -EPIPE;
}

/* More bytes; 0 at the end, or -errno (-EINTR: Ctrl-C). */
static ssize_t read_some(int fd, char *buf, size_t size)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int ready = poll(&p, 1, SILENCE_MS);
	ssize_t n;

	if (ready <= 0)
		return ready ? -errno : -ETIMEDOUT;
	n = read(fd, buf, size);
	return n < 0 ? -errno : n;
}

/* Reads the head of the answer; *rest is what came behind it.  The status, or -errno. */
static int head_read(int fd, char head[HEAD_MAX], char **rest, size_t *rest_len)
{
	size_t len = 0;
	char *end;

	for (;;) {
		ssize_t n = read_some(fd, head + len, HEAD_MAX - 1 - len);
		if (n <= 0)
			return n ? (int)n : -ECONNRESET;
		len += (size_t)n;
		head[len] = '\0';
		end = strstr(head, "\r\n\r\n");
		if (end)
			break;
		if (len == HEAD_MAX - 1)
			return -EPROTO;
	}
	*rest = end + 4;
	*rest_len = len - (size_t)(*rest - head);
	return strncmp(head, "HTTP/1.", 7) == 0 ? atoi(head + 9) : -EPROTO;
}

/* One connection, to its end.  0: it has been; or an HTTP status, or -errno: it never was. */
static int follow_once(struct follow *f)
{
	char head[HEAD_MAX], *rest = head;
	size_t len = 0;
	int fd = dial(&f->to), status;
	ssize_t n;

	if (fd < 0)
		return fd;
	status = ask(f, fd);
	if (!status)
		status = head_read(fd, head, &rest, &len);
	if (status == 200) {
		f->sse.len = 0;
		sse_feed(&f->sse, rest, len);
		while (!f->done && !ctl_interrupted() && (n = read_some(fd, head, sizeof head)) > 0)
			sse_feed(&f->sse, head, (size_t)n);
		status = 0;
	}
	close(fd);
	return status;
}

static enum ctl_exit never_was(const struct follow *f, int status)
{
	if (status < 0)
		return ctl_unreachable(&f->to, f->daemon, strerror(-status), f->err);
	if (status == 401 || status == 403)
		fprintf(f->err,
			"meshctl: %s wants its token: --token TOKEN, --token @FILE or "
			"$MESH_RPC_TOKEN\n",
			ctl_daemon_name(f->daemon));
	else if (status == 503)
		fprintf(f->err, "meshctl: %s has too many watchers\n", ctl_daemon_name(f->daemon));
	else
		fprintf(f->err, "meshctl: %s does not tell events (HTTP status %d)\n",
			ctl_daemon_name(f->daemon), status);
	return CTL_REFUSED;
}

static enum ctl_exit follow_all(struct follow *f)
{
	for (bool first = true;; first = false) {
		int status = follow_once(f);
		if (f->done || ctl_interrupted())
			return CTL_OK;
		if (status && (first || status > 0))
			return never_was(f, status);
		if (!status)
			fprintf(f->err, "meshctl: %s has closed the line, trying again\n",
				ctl_daemon_name(f->daemon));
		if (!ctl_sleep_us(RETRY_US))
			return CTL_OK;
	}
}

static bool daemon_named(const char *name, enum ctl_daemon *d)
{
	for (int i = 0; i < CTL_DAEMONS; i++) {
		if (strcmp(ctl_daemon_name((enum ctl_daemon)i), name) == 0) {
			*d = (enum ctl_daemon)i;
			return true;
		}
	}
	return false;
}

enum ctl_exit ctl_run_events(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			     FILE *err)
{
	const char *count = ctl_args_option(a, "--count"), *since = ctl_args_option(a, "--since");
	struct follow f = {.args = a, .daemon = CTL_MANAGER, .out = out, .err = err};
	enum ctl_exit status;
	uint64_t id;

	if ((a->count > 1 && !daemon_named(a->words[1], &f.daemon)) ||
	    (count && !ctl_number(count, &f.limit)) || (since && !ctl_number(since, &id))) {
		fprintf(err, "meshctl: usage: %s %s [-n N] [--since ID]\n", c->name, c->usage);
		return CTL_USAGE;
	}
	f.to = ctl_target(a, f.daemon);
	f.sse.on_event = on_event;
	f.sse.arg = &f;
	if (since)
		snprintf(f.sse.id, sizeof f.sse.id, "%s", since);
	ctl_interrupt_begin();
	status = follow_all(&f);
	ctl_interrupt_end();
	return status;
}
