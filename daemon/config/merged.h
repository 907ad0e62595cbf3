/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The entry of an external plugin as its worker tells it.
 */

#include "config/model.h"
#include "wire/mp.h"

/* `config` is a map of the answer to `init` (docs/protocol.md): the entry, with what it leaves open filled in by the plugin's server. What
 * is ours alone is taken from `entry`. The caller frees *ret with plugin_entry_free(). Return: 0, -EINVAL where it is none, -ENOMEM. */
int plugin_entry_merged(struct plugin_entry **ret, const struct plugin_entry *entry, struct mp config);
