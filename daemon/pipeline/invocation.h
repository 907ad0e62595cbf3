/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An invocation: one hook call of a host, from its parameters to its one answer, through CPEX's phases.
 *
 *     select ─▶ sequential ─▶ transform ─▶ audit ─▶ concurrent ─▶ background ─▶ done
 *                   └── a block, or an error that counts ──────────────┴─────────▶ done
 *
 * Selecting happens once, from the caller's payload and context. In a serial phase one plugin runs at a time, each on what the last one
 * returned; in the concurrent phase all run at once. Background plugins are started and live on without the invocation.
 *
 * The answer is written by invocation_put_response() when `on_done` is called, from the loop and exactly once, unless the
 * invocation is freed before: that withdraws what it has under way.
 */

#include "pipeline/generation.h"
#include "pipeline/request.h"

struct invocation;

/* Why a call is not even started; `code` as in docs/protocol.md. */
struct refusal {
        const char *code, *message;
};

typedef void (*invocation_done)(void *data, struct invocation *invocation);

/* Starts a call with the parameters of `invoke`, which lie in `memory`; they are shared or copied. Takes a reference on the generation.
 * Return: whether it was started; if not, *ret_refusal says why. */
bool invocation_start(struct invocation **ret, struct generation *generation, struct mp params, struct buf *memory,
                      invocation_done on_done, void *data, struct refusal *ret_refusal);

/* wire/carry.h: one that is under way. */
void invocation_save(const struct invocation *invocation, struct carry *carry);
int invocation_adopt(struct invocation **ret, struct generation *generation, struct mp saved, invocation_done on_done,
                     void *data);

/* Appends the response message, but for what goes into `tail` as its end. Only from on_done. */
void invocation_put_response(struct invocation *invocation, struct buf *buf, uint32_t msgid, struct buf *tail);

/* Return: whether the response is an error. Only from on_done. */
bool invocation_failed(const struct invocation *invocation);

/* Return: NULL. */
struct invocation *invocation_free(struct invocation *invocation);
