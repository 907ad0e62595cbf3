/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The record of a decision: one line of JSON that says what came of a call and what each plugin had to do with it (docs/operations.md). There is nothing
 * in it of what the host or a plugin has said, but for names: the request's id, the hook, and the code of a violation.
 */

#include <sys/types.h>

#include "pipeline/invocation.h"

struct decision_host {
        uid_t uid;
        pid_t pid;
};

/* Return: whether it is one of those that `which` asks for. Only from on_done. */
bool decision_is_wanted(const struct invocation *invocation, enum decisions_which which);

/* Appends the line. Only from on_done. */
void decision_put(const struct invocation *invocation, const struct decision_host *host, struct buf *buf);
