/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether a plugin's conditions match a call: CPEX's rules (docs/semantics.md), on the caller's own payload and context.
 */

#include "config/model.h"
#include "pipeline/request.h"

bool conditions_match(const struct plugin_entry *entry, const struct request *request);
