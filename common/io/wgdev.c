#include "io/wgdev.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/sysctl.h"
#include "io/wgdev_int.h"

#define PROBE_NAME "mnwprobe%d"
#define STEP_NS 2000000L

const char *wgdev_kind_text(enum wgdev_kind kind)
{
	return kind == WGDEV_KERNEL ? "kernel" : kind == WGDEV_GO ? "wireguard-go" : "any";
}

/* ---- what is there ---- */

/* The kernel says what it can only when asked for one; the module is loaded by that. */
static int kernel_probe(struct nl *nl)
{
	char name[IFNAMSIZ];
	int rc = nl_link_free_name(nl, PROBE_NAME, name);

	if (!rc)
		rc = nl_link_add(nl, name, "wireguard");
	if (rc)
		return rc;
	int index = nl_link_index(nl, name);
	return index < 0 ? index : nl_link_del(nl, (uint32_t)index);
}

static int go_probe(void)
{
	static const char *const argv[] = {"wireguard-go", "--version", NULL};
	char out[512];

	if (access("/dev/net/tun", R_OK | W_OK))
		return -errno;
	return helper_output(argv, NULL, out, sizeof out, 1000000);
}

int wgdev_probe(struct nl *nl, enum wgdev_kind wanted, char why[WGDEV_WHY_MAX])
{
	int rc = wanted == WGDEV_GO ? -EOPNOTSUPP : kernel_probe(nl);

	if (!rc)
		return WGDEV_KERNEL;
	if (wanted == WGDEV_KERNEL || rc != -EOPNOTSUPP) {
		cstr_print(why, WGDEV_WHY_MAX, "the kernel makes no WireGuard interface: %s",
			   strerror(-rc));
		return rc;
	}
	rc = go_probe();
	if (!rc)
		return WGDEV_GO;
	cstr_print(why, WGDEV_WHY_MAX,
		   rc == -ENOENT ? "%swireguard-go is not installed (%s)"
				 : "%swireguard-go cannot be used: %s",
		   wanted == WGDEV_GO ? "" : "this kernel has no WireGuard, and ", strerror(-rc));
	return rc;
}

/* ---- open and close ---- */

int wgdev_up(struct wgdev *d)
{
	int rc = nl_link_set_mtu(d->nl, d->index, d->mtu);

	sysctl_quiet_ipv6(d->interface);
	if (!rc)
		rc = nl_link_set_up(d->nl, d->index, true);
	for (size_t i = 0; !rc && i < d->addr_count; i++) {
		d->addrs[i].link = d->index;
		rc = nl_addr_add(d->nl, &d->addrs[i]);
	}
	if (rc)
		return rc;
	sodium_memzero(d->secret, sizeof d->secret);
	d->ready = true;
	d->event(WGDEV_READY, "", d->arg);
	return 0;
}

void wgdev_fail(struct wgdev *d, const char *text)
{
	d->ready = false;
	d->event(WGDEV_LOST, text, d->arg);
}

static struct wgdev *device_new(struct event_base *base, struct hostjournal *journal, struct nl *nl,
				const struct wgdev_config *c)
{
	struct wgdev *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->ops = c->kind == WGDEV_GO ? &wgdev_go_ops : &wgdev_kernel_ops;
	d->base = base;
	d->journal = journal;
	d->nl = journal ? hostjournal_nl(journal) : nl;
	d->mtu = c->mtu;
	d->port = c->port;
	memcpy(d->secret, c->secret, WG_KEY_BYTES);
	for (size_t i = 0; i < c->addr_count && i < WGDEV_ADDRS_MAX; i++)
		if (c->addrs[i].prefix.addr.family)
			d->addrs[d->addr_count++] = c->addrs[i];
	d->event = c->event;
	d->arg = c->arg;
	return d;
}

int wgdev_open(struct wgdev **out, struct event_base *base, struct hostjournal *journal,
	       struct nl *nl, const struct wgdev_config *config, char why[WGDEV_WHY_MAX])
{
	struct wgdev *d;
	int rc;

	if (!*config->interface || strlen(config->interface) >= IFNAMSIZ) {
		cstr_print(why, WGDEV_WHY_MAX, "'%s' is no interface name", config->interface);
		return -EINVAL;
	}
	d = device_new(base, journal, nl, config);
	if (!d) {
		cstr_print(why, WGDEV_WHY_MAX, "out of memory");
		return -ENOMEM;
	}
	cstr_copy(d->wanted, sizeof d->wanted, config->interface);
	*out = d; /* READY may come from inside */
	rc = d->ops->open(d, why);
	if (rc) {
		*out = NULL;
		wgdev_close(d);
	}
	return rc;
}

int wgdev_wait(struct wgdev *d, uint64_t timeout_us, char why[WGDEV_WHY_MAX])
{
	static const struct timespec pause = {.tv_nsec = STEP_NS};
	uint64_t end = daemon_now_us() + timeout_us;

	while (!d->ready && !*d->lost && d->ops->step) {
		d->ops->step(d);
		if (!d->ready && daemon_now_us() >= end)
			break;
		if (!d->ready)
			nanosleep(&pause, NULL);
	}
	if (*d->lost)
		cstr_copy(why, WGDEV_WHY_MAX, d->lost);
	return d->ready ? 0 : *d->lost ? -EIO : -ETIMEDOUT;
}

bool wgdev_ready(const struct wgdev *d)
{
	return d->ready;
}

const char *wgdev_interface(const struct wgdev *d)
{
	return d->interface;
}

uint32_t wgdev_index(const struct wgdev *d)
{
	return d->index;
}

void wgdev_close(struct wgdev *d)
{
	if (!d)
		return;
	d->ops->close(d);
	sodium_memzero(d->secret, sizeof d->secret);
	free(d);
}

/* ---- peers ---- */

int wgdev_set_peer(struct wgdev *d, const struct wgdev_peer *peer)
{
	return d->ready ? d->ops->set_peer(d, peer) : -EAGAIN;
}

int wgdev_set_endpoint(struct wgdev *d, const uint8_t key[WG_KEY_BYTES],
		       const struct net_addr *endpoint)
{
	return d->ready ? d->ops->set_endpoint(d, key, endpoint) : -EAGAIN;
}

int wgdev_remove_peer(struct wgdev *d, const uint8_t key[WG_KEY_BYTES])
{
	return d->ready ? d->ops->remove_peer(d, key) : 0;
}

int wgdev_list(struct wgdev *d, wgdev_visit *visit, void *ctx)
{
	return d->ready ? d->ops->list(d, visit, ctx) : -EAGAIN;
}
