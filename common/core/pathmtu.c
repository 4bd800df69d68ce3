#include "core/pathmtu.h"

#define PROBE_TRIES 3u
#define PROBE_TIMEOUT_US 400000u
#define RAISE_INTERVAL_US 600000000u /* RFC 8899 section 5.1.1: look for more every ten minutes */
#define SEARCH_STEP 16u		     /* close enough */

void pathmtu_init(struct pathmtu *m, uint32_t base, uint32_t limit, uint64_t now)
{
	*m = (struct pathmtu){.base = base < limit ? base : limit,
			      .limit = limit,
			      .bad = limit + 1,
			      .at_us = now};
	m->good = m->base;
}

/* The limit first: on most paths it works, and one round trip ends the search. */
static uint32_t next_size(const struct pathmtu *m)
{
	if (m->bad > m->limit)
		return m->good < m->limit ? m->limit : 0;
	if (m->bad - m->good <= SEARCH_STEP)
		return 0;
	return m->good + (m->bad - m->good) / 2;
}

uint32_t pathmtu_due(struct pathmtu *m, uint64_t now)
{
	if (now < m->at_us)
		return 0;
	if (m->probing && m->tries >= PROBE_TRIES) {
		m->bad = m->probing;
		m->probing = 0;
	}
	if (!m->probing) {
		if (m->good >= m->limit || next_size(m) == 0) {
			/* Done for now; what failed once may work later. */
			m->at_us = m->good >= m->limit ? UINT64_MAX : now + RAISE_INTERVAL_US;
			m->bad = m->limit + 1;
			return 0;
		}
		m->probing = next_size(m);
		m->tries = 0;
	}
	m->tries++;
	m->at_us = now + PROBE_TIMEOUT_US;
	return m->probing;
}

/* Only what is asked right now: an answer to anything else may be a lie, and would break the order
 * good < probing < bad. */
void pathmtu_confirm(struct pathmtu *m, uint32_t size, uint64_t now)
{
	if (!m->probing || size != m->probing)
		return;
	m->good = size;
	m->probing = 0;
	m->at_us = now;
}

void pathmtu_blackhole(struct pathmtu *m, uint64_t now)
{
	if (m->good == m->base)
		return;
	m->bad = m->good;
	m->good = m->base;
	m->probing = 0;
	m->at_us = now;
}
