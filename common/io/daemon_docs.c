#include "io/config_doc.h"
#include "io/daemon.h"

/* A file of its own: the linker takes it for programs that have no list themselves. */
#define KEY(section, field, key, kind, def, words, doc)
#define SECTION(name) config_doc_##name,
const char *const daemon_docs[] = {
#include "io/config_keys.def"
	NULL};
