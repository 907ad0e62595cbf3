/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The file of decisions (decisions.path): a line for each call that was decided.
 *
 * A call never waits for it. Lines are collected and written a little later; what a file, a full disk or a slow reader of a FIFO does not take
 * stays in memory, up to a bound, and what is beyond is dropped, counted, and told in the log. A file that was renamed or
 * removed, as logrotate does, is made anew.
 */

#include "pipeline/decision.h"

struct decisions;

/* `current` is where the serving generation is found, whose settings count. Return: 0 or -ENOMEM. */
int decisions_new(struct decisions **ret, struct event_base *base, struct generation *const *current);

/* Only from on_done. */
void decisions_add(struct decisions *decisions, const struct invocation *invocation, const struct decision_host *host);

/* Return: how many lines were dropped so far. */
uint64_t decisions_dropped(const struct decisions *decisions);

/* wire/carry.h. To be adopted when new. */
void decisions_save(const struct decisions *decisions, struct carry *carry);
int decisions_adopt(struct decisions *decisions, struct mp saved);

/* Writes what can still be written. Return: NULL. */
struct decisions *decisions_free(struct decisions *decisions);
