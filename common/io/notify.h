/* sd_notify(3) without its library: one datagram to $NOTIFY_SOCKET; nothing where there is none. */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H

struct event;
struct event_base;

/* "READY=1", "STATUS=...", ...; lines. */
void notify(const char *text);
/* To `path` (first byte '@': an abstract socket).  0 or -errno. */
int notify_to(const char *path, const char *text);
/* WATCHDOG=1 at twice the rate that the manager wants, as long as the loop turns.  NULL: it does
 * not want it.  The caller frees the event. */
struct event *notify_watchdog(struct event_base *base);
#endif
