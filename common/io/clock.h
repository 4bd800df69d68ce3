/* The clocks.  Shells read them and pass `now` on; nothing below a shell includes this. */
#ifndef IO_CLOCK_H
#define IO_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* Microseconds of the monotonic clock: the `now` of every engine. */
static inline uint64_t daemon_now_us(void)
{
	return clock_read_us(CLOCK_MONOTONIC);
}

/* Wall clock since 1970: only for what people and leases read. */
static inline uint64_t daemon_wall_us(void)
{
	return clock_read_us(CLOCK_REALTIME);
}

static inline uint64_t daemon_wall_s(void)
{
	return daemon_wall_us() / 1000000u;
}

/* The wall clock as it was when this began, carried on by the monotonic one: whoever sets the
 * host's clock neither ends nor prolongs what was promised by it. */
struct steady_clock {
	uint64_t offset_us;
};

static inline struct steady_clock steady_clock_begin(void)
{
	return (struct steady_clock){daemon_wall_us() - daemon_now_us()};
}

static inline uint64_t steady_clock_s(const struct steady_clock *c)
{
	return (daemon_now_us() + c->offset_us) / 1000000u;
}

/* What the wall clock will show, as it goes now, when the steady one shows this. */
static inline uint64_t steady_clock_wall_s(const struct steady_clock *c, uint64_t steady_s)
{
	return steady_s + daemon_wall_s() - steady_clock_s(c);
}
#endif
