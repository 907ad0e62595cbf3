/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading the values of `isolation.sandbox`.
 */

#include "config/value.h"

/* "off", which YAML takes for a boolean where it has no quotes, "default" or "strict": enum sandbox_profile. */
void sandbox_read_profile(struct reader *reader, const struct at *at, const struct node *node, int *ret);

/* none, or one or a list of all, unix, PORT and HOST:PORT. */
void sandbox_read_network(struct reader *reader, const struct at *at, const struct node *node, struct strlist *ret);

/* A list of paths. */
void sandbox_read_paths(struct reader *reader, const struct at *at, const struct node *node, struct strlist *ret);

/* Sets `identity`. Looks at the files, so it is not for the loop. */
void sandbox_identify(struct sandbox *sandbox);
