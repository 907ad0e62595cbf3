/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The sandbox of a plugin's workers, as the launcher and people are told it.
 */

#include "base/buf.h"
#include "config/model.h"

/* The options of the launcher, and those for a plugin's code. Return: 0 or -ENOMEM; `ret` is to be freed in any case. */
int box_options(struct strlist *ret, const struct sandbox *sandbox);
int box_code_options(struct strlist *ret, const struct plugin_entry *entry);

/* Appends where the plugin's code is read from. Return: 0 or -ENOMEM. */
int box_code(struct strlist *ret, const struct plugin_entry *entry);

/* Appends what control method `explain` says of the sandbox (docs/protocol.md). `fellows`: the code of the others of its group. Return: how
 * many keys of its map that is. */
size_t box_put(struct buf *buf, const struct plugin_entry *entry, const struct strlist *fellows, const char *python);
