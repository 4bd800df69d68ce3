#include "io/clock.h"

uint64_t clock_read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t daemon_now_us(void)
{
	return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t daemon_wall_us(void)
{
	return clock_read_us(CLOCK_REALTIME);
}

uint64_t daemon_wall_s(void)
{
	return daemon_wall_us() / 1000000u;
}

struct steady_clock steady_clock_begin(void)
{
	return (struct steady_clock){daemon_wall_us() - daemon_now_us()};
}

uint64_t steady_clock_s(const struct steady_clock *c)
{
	return (daemon_now_us() + c->offset_us) / 1000000u;
}

uint64_t steady_clock_wall_s(const struct steady_clock *c, uint64_t steady_s)
{
	return steady_s + daemon_wall_s() - steady_clock_s(c);
}
