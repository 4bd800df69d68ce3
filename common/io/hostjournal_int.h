/* Between hostjournal.c (the book) and hostjournal_ops.c (what each kind of entry does). */
#ifndef IO_HOSTJOURNAL_INT_H
#define IO_HOSTJOURNAL_INT_H

#include "io/hostjournal.h"
#include "io/sysctl.h"

#define HOST_SPEC_MAX 256
#define HOST_TEXT_MAX 160

/* One entry.  `spec` is the change in bytes, equal for equal changes. */
struct host_entry {
	uint64_t id;
	enum host_change kind;
	uint8_t spec[HOST_SPEC_MAX];
	size_t spec_len;
	char text[HOST_TEXT_MAX]; /* for people */
	/* Of a sysctl: the value before us, ours, and ours before that (or ""). */
	char before[SYSCTL_VALUE_MAX], value[SYSCTL_VALUE_MAX], prior[SYSCTL_VALUE_MAX];
};

/* Takes an entry back.  0 also when it is gone or no longer ours; -errno: keep the entry. */
int host_entry_undo(struct hostjournal *j, const struct host_entry *e);

/* Of a link: the next nl_leaving_del takes it away. */
void host_link_leave(struct hostjournal *j, const struct host_entry *e);

/* Finds the entry with this kind and spec and fills in the rest.  0, -ENOENT. */
int hostjournal_find(struct hostjournal *j, struct host_entry *e);
/* Writes a new entry and sets its id. */
int hostjournal_note(struct hostjournal *j, struct host_entry *e);
/* Writes the values of an entry that is there. */
int hostjournal_update(struct hostjournal *j, const struct host_entry *e);
int hostjournal_forget(struct hostjournal *j, const struct host_entry *e);

/* Ends what has the mark (waits up to three seconds) and removes its socket.  0 also when there was
 * nothing. */
int host_process_end(const struct host_process *p);
#endif
