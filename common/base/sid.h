/* The name of a session between a gateway and a subscriber.  Either may have made it, and both
 * write it into configurations of other programs, so it is one word and nothing else. */
#ifndef BASE_SID_H
#define BASE_SID_H

#include <stdbool.h>

#define SID_MAX 64 /* characters */

/* True for 1 .. SID_MAX characters of [A-Za-z0-9-_]. */
bool sid_valid(const char *sid);
#endif
