/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where a plugin's code lies: from what its entry says to class_name, script_path, more_paths and requirements_file of the model.
 */

#include "config/value.h"

/* Of kind isolated_venv: `config` says it. Complains where it does not, or where nothing is. `dirs`: plugin_dirs. */
void layout_find(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                 struct plugin_entry *ret);

/* Of a kind that is a class itself. */
void layout_find_native(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                        struct plugin_entry *ret);
