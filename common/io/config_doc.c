#include "io/config_doc.h"

#include <string.h>

const char *config_doc_next(const char *text)
{
	return text + strlen(text) + 1;
}

/* Each section's line ends the array before it. */
#define KEY(section, field, key, kind, def, words, doc) doc "\0"
#define SECTION(name)                                                                              \
	;                                                                                          \
	const char config_doc_##name[] = #name "\0"
/* clang-format off */
static const char before_the_first[] __attribute__((unused)) = ""
#include "io/config_keys.def"
;
/* clang-format on */
