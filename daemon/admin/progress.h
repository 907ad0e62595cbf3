/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the service manager is told while a generation is made ready: which plugin is at which step, and that this may take longer.
 */

#include "pipeline/generation.h"

struct progress;

int progress_new(struct progress **ret, struct event_base *base);

/* `before`: begins each line, such as "reloading: ". The generation must live until progress_end(). */
void progress_begin(struct progress *progress, const struct generation *generation, const char *before);
void progress_end(struct progress *progress);

/* Return: NULL. */
struct progress *progress_free(struct progress *progress);
