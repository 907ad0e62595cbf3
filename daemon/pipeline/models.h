/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The models of CPEX 0.1.4 that the daemon itself has to know: what a host sends along with a payload, and the payloads of CPEX's own
 * hooks. A test holds them against the real ones.
 */

#include "pipeline/lax.h"

extern const struct lax_type model_global_context, model_extensions;

/* Return: the payload's model of one of CPEX's own hooks; NULL for any other hook. */
const struct lax_type *model_payload(struct mp hook);
