/* Commands for the gateway that runs here: its sessions, access codes and settings. */
#ifndef MESHCTL_GATEWAY_H
#define MESHCTL_GATEWAY_H

#include "meshctl/command.h"

extern const struct view ctl_view_sessions, ctl_view_codes, ctl_view_known;

struct json_object *ctl_params_sid(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_code(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_setting(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
#endif
