/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Groups (isolation.group): plugins that have their workers in common, and so all settings that make a worker.
 */

#include "config/value.h"

/* Complains if `entry`, which is in a group, cannot be in the same workers as `first`, the first of that group; `first` may be `entry`. */
void group_check(struct reader *reader, const struct at *at, const struct node *node, const struct plugin_entry *entry,
                 const struct plugin_entry *first);
