/* What the commands for operators (who may join, which way traffic goes) ask and how it looks. */
#ifndef MESHCTL_ADMIN_H
#define MESHCTL_ADMIN_H

#include "meshctl/command.h"

extern const struct view ctl_view_invites, ctl_view_revoked, ctl_view_allowed;
extern const struct ctl_option ctl_invite_options[], ctl_route_options[];

/* "90s", "30m", "12h", "2d", "1w", or seconds without a letter: at least 1.  -EINVAL. */
int ctl_duration_parse(uint64_t *seconds, const char *text);

/* As ctl_command.params. */
struct json_object *ctl_params_invite(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_invite_ref(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_role(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_find_route(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_set_cost(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
struct json_object *ctl_params_set_transit(const struct ctl_args *a, char error[CTL_ERROR_MAX]);
#endif
