/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Plugins of kind `external`: how their server is reached.
 */

#include "config/value.h"

/* Complains about what an entry says wrongly about it, and about what only an external plugin may say. */
void external_check(struct reader *reader, const struct at *at, const struct node *entry, const struct plugin_entry *plugin);
