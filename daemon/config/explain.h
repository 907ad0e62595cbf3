/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The settings of a plugin as they have come out, and where each comes from.
 */

#include "config/model.h"

/* Appends an array of maps {name, value, from}, all texts. */
void explain_put(const struct plugin_entry *entry, const struct daemon_config *daemon, const struct plugins_config *plugins,
                 struct buf *buf);
