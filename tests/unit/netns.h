/* For tests that change the network: the test program moves into a namespace of its own. */
#ifndef TESTS_NETNS_H
#define TESTS_NETNS_H

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Once per program, before anything else.  False (and the reason on stderr): skip the test. */
static inline bool netns_enter(void)
{
	static int entered; /* 1 yes, -1 no */

	if (!entered) {
		entered = geteuid() == 0 && unshare(CLONE_NEWNET) == 0 ? 1 : -1;
		if (entered < 0)
			fprintf(stderr, "SKIP: no network namespace: %s\n",
				geteuid() ? "not root" : strerror(errno));
	}
	return entered > 0;
}

/* What a command prints (tests only: fixed strings).  The caller frees; aborts the test when it
 * cannot run. */
static inline char *netns_output(const char *command)
{
	FILE *f = popen(command, "r");
	size_t len = 0, size = 1u << 16;
	char *text = malloc(size);

	if (!f || !text)
		abort();
	for (size_t n; (n = fread(text + len, 1, size - len - 1, f)) > 0;) {
		len += n;
		if (len + 1 == size && !(text = realloc(text, size *= 2)))
			abort();
	}
	text[len] = '\0';
	pclose(f);
	return text;
}
#endif
