/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Groups (isolation.group): plugins that have their workers in common, and so all settings that make a worker.
 */

#include "config/value.h"

#define GROUP_MAX 64 /* each is compared with each */

/* Complains if `entry`, which is in a group, cannot be in the same workers as `first`, the first of that group; `first` may be `entry`, and counts the others. */
void group_check(struct reader *reader, const struct at *at, const struct node *node, const struct plugin_entry *entry,
                 struct plugin_entry *first);
