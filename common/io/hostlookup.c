#include "io/hostlookup.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/sockaddr.h"
#include "io/timer.h"

/* glibc's resolver takes some 20 KB of it; only what is touched is there. */
#define STACK_BYTES (256u << 10)

/*
 * Held by the thread and by its lookup; the last to leave frees it.  The thread writes the answer
 * and then the descriptor, the loop reads them in the other order.
 */
struct question {
	atomic_uint holders;
	int done; /* eventfd */
	int error;
	unsigned count;
	struct net_addr addrs[HOST_LOOKUP_ADDRS_MAX];
	uint16_t port;
	char host[NET_NAME_TEXT];
};

struct host_lookup {
	struct question *question;
	struct event *answered;
	host_lookup_cb *cb;
	void *arg;
};

static void question_put(struct question *q)
{
	if (atomic_fetch_sub(&q->holders, 1) != 1)
		return;
	if (q->done >= 0)
		close(q->done);
	free(q);
}

static void *resolve(void *arg)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct question *q = arg;
	struct addrinfo *list = NULL;

	q->error = getaddrinfo(q->host, NULL, &hints, &list);
	for (struct addrinfo *a = q->error ? NULL : list; a; a = a->ai_next) {
		sockaddr_to_net(&q->addrs[q->count], a->ai_addr);
		q->addrs[q->count].port = q->port;
		q->count += q->addrs[q->count].family != 0;
		if (q->count == HOST_LOOKUP_ADDRS_MAX)
			break;
	}
	if (list)
		freeaddrinfo(list);
	eventfd_write(q->done, 1);
	question_put(q);
	return NULL;
}

static void on_answered(evutil_socket_t fd, short what, void *arg)
{
	struct host_lookup *l = arg;
	struct question *q = l->question;

	(void)fd;
	(void)what;
	event_free(l->answered);
	l->cb(l->arg, q->addrs, q->count,
	      q->error ? gai_strerror(q->error) : "no address of a known family");
	question_put(q);
	free(l);
}

/* Signals are the loop's: a thread that took one would keep it waiting. */
static int start_thread(struct question *q)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	atomic_fetch_add(&q->holders, 1);
	err = pthread_create(&thread, &attr, resolve, q);
	if (err)
		question_put(q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

static int lookup_init(struct host_lookup *l, struct event_base *base, const char *host,
		       uint16_t port)
{
	struct question *q = l->question;

	memcpy(q->host, host, strlen(host) + 1);
	q->port = port;
	atomic_init(&q->holders, 1);
	q->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->done < 0)
		return -errno;
	l->answered = event_new(base, q->done, EV_READ, on_answered, l);
	if (!l->answered || event_add(l->answered, NULL))
		return -ENOMEM;
	return start_thread(q);
}

int host_lookup_new(struct host_lookup **out, struct event_base *base, const char *host,
		    uint16_t port, host_lookup_cb *cb, void *arg)
{
	struct host_lookup *l;
	int err;

	if (strlen(host) >= NET_NAME_TEXT)
		return -EINVAL;
	l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	l->question = calloc(1, sizeof *l->question);
	if (!l->question) {
		free(l);
		return -ENOMEM;
	}
	l->cb = cb;
	l->arg = arg;
	err = lookup_init(l, base, host, port);
	if (err)
		host_lookup_cancel(l);
	else
		*out = l;
	return err;
}

void host_lookup_cancel(struct host_lookup *l)
{
	if (!l)
		return;
	event_drop(l->answered);
	question_put(l->question);
	free(l);
}
