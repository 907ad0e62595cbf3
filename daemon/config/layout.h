/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the code of an isolated_venv plugin lies: from `config` of its entry to class_name, script_path and requirements_file of the model.
 */

#include "config/value.h"

/* Complains where the entry does not say it, or where it is not. `dirs`: plugin_dirs. */
void layout_find(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                 struct plugin_entry *ret);
