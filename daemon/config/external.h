/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Plugins of kind `external`: how their server is reached, and by what.
 */

#include "config/value.h"

/* Complains about what an entry of any kind says wrongly about a server. */
void external_check(struct reader *reader, const struct at *at, const struct node *entry, const struct plugin_entry *plugin);

/* For one of kind external that is not disabled: the class that is its client, and what that needs. */
void external_find(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret);
