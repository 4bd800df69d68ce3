/* Any line as what OpenVPN's management channel says: the pieces lie within the line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/ovpnmgmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require_within(const char *line, size_t size, const char *piece)
{
	if (*piece && (piece < line || piece > line + size))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = malloc(size + 1);
	struct ovpn_event e;

	if (!line)
		return 0;
	memcpy(line, data, size);
	line[size] = '\0';
	ovpn_event_parse(line, &e);
	require_within(line, size, e.key);
	require_within(line, size, e.value);
	free(line);
	return 0;
}
