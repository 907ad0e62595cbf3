/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One plugin's entry of plugins.yaml.
 */

#include "config/value.h"

struct entry_context {
        const struct strlist *plugin_dirs;
        const struct isolation *isolation; /* what an entry does not say */
};

/* Return: what the entry calls itself, for complaints; NULL where it has no name or one that is not to be shown. */
const char *entry_shown_name(const struct reader *reader, const struct node *node);

/* Complains about everything that is wrong with the entry. `index`: where it stands in the list, from 1. `ret` may be half filled. */
void entry_read(struct reader *reader, const struct entry_context *context, size_t index, const struct node *node,
                struct plugin_entry *ret);
