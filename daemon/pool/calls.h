/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The calls under way on one connection to a plugin: their ids, their time, and what is left of them when nobody waits any more.
 *
 * Each step that is given gets one outcome, or is withdrawn. A call whose time is over is answered for at once and the plugin is asked to
 * let go of it; one that does not within the grace is stuck. Ids are never used twice; an answer to an id that is not
 * in flight is dropped and counted.
 */

#include <event2/event.h>

#include "pool/step.h"
#include "wire/conn.h"

#define CANCEL_GRACE_USEC (200 * USEC_PER_MSEC)

struct calls {
        struct event_base *base;
        struct conn *conn; /* the owner's; NULL once it is gone */
        void (*on_stuck)(void *data);
        void *data;

        TAILQ_HEAD(, worker_call) all;
        unsigned n, n_given_up;    /* with those, and only those, that were given up */
        uint64_t n_total, n_stray; /* stray: answers to no call in flight */
        uint32_t next_id;
};

void calls_init(struct calls *calls, struct event_base *base, uint32_t first_id, void (*on_stuck)(void *data), void *data);

/* Sends a step, whose parameters are then gone. Return: 0 or -ENOMEM. */
int calls_give(struct calls *calls, struct step *step);

/* The step's caller has lost interest: the plugin is asked to let go, its answer dropped. */
void calls_withdraw(struct calls *calls, struct step *step);

/* Return: whether the answer is one to a call in flight. The step has its outcome then. */
bool calls_answered(struct calls *calls, const struct rpc_msg *msg);

/* Ends all; those that were not given up get this outcome. */
void calls_end(struct calls *calls, enum step_cause cause, const char *message);

static inline unsigned calls_open(const struct calls *calls) {
        return calls->n - calls->n_given_up;
}

/* Return: whether the ids are used up. */
static inline bool calls_spent(const struct calls *calls) {
        return calls->next_id == UINT32_MAX;
}
