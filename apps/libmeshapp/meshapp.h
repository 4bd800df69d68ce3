/*
 * libmeshapp as Meshnet's own programs see it: the public header (include/meshapp.h, which is the
 * contract) with the sources' own names for node ids, keys and codes.  Installed is the public one
 * only, and it stands alone.
 */
#ifndef LIBMESHAPP_MESHAPP_H
#define LIBMESHAPP_MESHAPP_H

#include "base/id.h"
#include "core/noise.h"
#include "libmeshapp/include/meshapp.h"
#include "wire/msg.h" /* enum msg_code, connection_class, app_list_kind: the same numbers */
#endif
