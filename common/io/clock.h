/* The clocks.  Shells read them and pass `now` on; nothing below a shell includes this. */
#ifndef IO_CLOCK_H
#define IO_CLOCK_H

#include <stdint.h>
#include <time.h>

uint64_t clock_read_us(clockid_t id);

/* Microseconds of the monotonic clock: the `now` of every engine. */
uint64_t daemon_now_us(void);

/* Wall clock since 1970: only for what people and leases read. */
uint64_t daemon_wall_us(void);
uint64_t daemon_wall_s(void);

/* The wall clock as it was when this began, carried on by the monotonic one: whoever sets the
 * host's clock neither ends nor prolongs what was promised by it. */
struct steady_clock {
	uint64_t offset_us;
};
struct steady_clock steady_clock_begin(void);
uint64_t steady_clock_s(const struct steady_clock *c);
/* What the wall clock will show, as it goes now, when the steady one shows this. */
uint64_t steady_clock_wall_s(const struct steady_clock *c, uint64_t steady_s);
#endif
