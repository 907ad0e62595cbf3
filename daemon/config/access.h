/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading who may do what: `access` of cpexd.yaml.
 */

#include "config/value.h"

/* A list of users and groups, by name or number, and `any`. `hooks`: each may be limited to some hooks. */
void access_read(struct reader *reader, const struct at *at, const struct node *node, bool hooks, struct callers *ret);
