/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The settings of a plugin as they have come out, and where each comes from.
 */

#include "config/schema.h"

/* Appends the value of a key of `isolation`, as it is written in the files. */
void explain_put_value(struct buf *text, const struct config_key *key, const struct isolation *isolation);

/* Appends an array of maps {name, value, from}, all texts. */
void explain_put(const struct plugin_entry *entry, const struct daemon_config *daemon, const struct plugins_config *plugins,
                 struct buf *buf);
