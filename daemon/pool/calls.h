/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The calls under way on one connection to a plugin: their ids, their time, and what is left of them when nobody waits any more.
 *
 * Each step that is given gets one outcome, or is withdrawn. When a call's time is over the plugin is asked to let go of it:
 *
 *     RUNNING ──its time──▶ CANCELLED ──5 ms──▶ ASKED ──5 ms──▶ GRACE ──200 ms──▶ stuck
 *                               the worker is asked where it is     the step has its outcome, if not before
 *
 * The steps of a chain are calls with consecutive ids. Only the first runs; each of the others is BEHIND, without a time of its own, until the one
 * before it has been answered: then it runs, or they are all gone, by the rule of answer_leaves_input().
 *
 * What the plugin still answers is too late from then on. Ids are never used twice; an answer to an id that is not in flight, or too late,
 * is dropped and counted.
 */

#include <event2/event.h>

#include "pool/step.h"
#include "wire/conn.h"

#define CANCEL_GRACE_USEC (200 * USEC_PER_MSEC)

struct calls {
        struct event_base *base;
        struct conn *conn; /* the owner's; NULL once it is gone */
        const struct calls_handler *handler;
        void *data;

        TAILQ_HEAD(, worker_call) all;
        unsigned n, n_given_up;    /* with those, and only those, that nobody waits for */
        unsigned n_behind;         /* of these: that wait for the one before them in a chain */
        unsigned n_over;           /* those that the plugin should have let go of */
        uint64_t n_total, n_stray; /* stray: answers to no call in flight */
        uint64_t n_late;
        uint32_t next_id;
        bool waits_on_core; /* what is connected can be told to (base/core.h) */
        unsigned told_core;
};

struct calls_handler {
        /* The plugin is to write down where it is. NULL: it cannot, and the step has its outcome at once. */
        void (*ask_stacks)(void *data);
        void (*put_details)(void *data, struct buf *buf); /* a map; likewise */
        void (*on_stuck)(void *data);
};

void calls_init(struct calls *calls, struct event_base *base, uint32_t first_id, const struct calls_handler *handler, void *data);

/* Sends a step, with the others of its chain, whose parameters are then gone. Return: 0 or -ENOMEM. */
int calls_give(struct calls *calls, struct step *step);

/* The step's caller has lost interest: the plugin is asked to let go, its answer dropped. */
void calls_withdraw(struct step *step);

/* `values_max`: how many values an answer may have. Return: whether it is one to a call in flight, whose step then has its outcome. */
bool calls_answered(struct calls *calls, const struct rpc_msg *msg, uint64_t values_max);

/* Ends all; those that were not given up get this outcome. */
void calls_end(struct calls *calls, const struct step_outcome *outcome);

/* wire/carry.h. At first nobody waits for what is adopted. The steps come back one by one. */
void calls_save(const struct calls *calls, struct carry *carry);
int calls_adopt(struct calls *calls, struct mp saved);
int calls_adopt_step(struct calls *calls, struct step *step, uint32_t id);

/* Return: whose call it is, the data of calls_init(), which is the worker; *ret_id: its id. */
void *calls_owner(const struct step *step, uint32_t *ret_id);

static inline unsigned calls_open(const struct calls *calls) {
        return calls->n - calls->n_given_up;
}

/* Return: whether the ids are used up. */
static inline bool calls_spent(const struct calls *calls) {
        return calls->next_id > UINT32_MAX - CHAIN_MAX;
}
