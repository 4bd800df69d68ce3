/* Texts in buffers of a fixed size. */
#ifndef BASE_CSTR_H
#define BASE_CSTR_H

#include <stddef.h>

/* Of `text` what fits into `size` (at least 1) bytes with its NUL. */
void cstr_copy(char *out, size_t size, const char *text);

#endif
