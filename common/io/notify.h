/* sd_notify(3) without its library: one datagram to the manager's socket. */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H

struct event;
struct event_base;

/* $NOTIFY_SOCKET or NULL.  Taken out of the environment: programs that we start (openvpn, fastd)
 * would say there how they are, as if they were us. */
const char *notify_take(void);
/* "READY=1", "STATUS=...", ...; lines.  To nobody when `path` is NULL or empty. */
void notify(const char *path, const char *text);
/* To `path` (first byte '@': an abstract socket).  0 or -errno. */
int notify_to(const char *path, const char *text);
/* WATCHDOG=1 at twice the rate that the manager wants, as long as the loop turns.  NULL: it does
 * not want it.  The caller frees the event; `path` stays. */
struct event *notify_watchdog(struct event_base *base, const char *path);
#endif
