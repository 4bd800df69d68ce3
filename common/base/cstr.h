/* Texts in buffers of a fixed size. */
#ifndef BASE_CSTR_H
#define BASE_CSTR_H

#include <stddef.h>

/* Of `text` what fits into `size` (at least 1) bytes with its NUL. */
void cstr_copy(char *out, size_t size, const char *text);
/* snprintf for who does not ask how much was left out: a fortified one takes more code each. */
void cstr_print(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
