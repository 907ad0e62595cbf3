/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A step: one plugin's part of one hook call, from the moment a pool takes it until its one outcome.
 *
 * Whoever submits a step owns it and keeps it alive until `on_done` was called or the step was withdrawn (pool_withdraw()). The
 * outcome's bytes are valid until on_done returns. on_done is called from the loop, never from inside pool_submit().
 *
 * Several steps of plugins that share workers can be submitted as a chain, which takes one hop: the worker goes from one to the next while each
 * leaves the next one's input as it is (answer_leaves_input()). Where that ends, the rest is handed back (on_returned) as if it had never
 * been submitted; all of it, from the first one on, where it waits and one of its plugins cannot start any more, or no
 * worker has them all.
 */

#include <event2/event_struct.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "wire/mp.h"

enum step_cause {
        STEP_ANSWERED,      /* `answer`: the worker's map */
        STEP_RAISED,        /* `error`: the worker's map: the plugin raised, or its input did not validate */
        STEP_TIMEOUT,       /* the plugin had its time */
        STEP_CRASHED,       /* the worker died or was killed with the call in flight */
        STEP_MALFORMED,     /* the worker answered, but not what an answer looks like */
        STEP_OVERSIZE,      /* the message would be, or was, longer than the limit */
        STEP_QUEUE_FULL,    /* too many calls wait for a worker */
        STEP_QUEUE_TIMEOUT, /* no worker became free in the plugin's time */
        STEP_START_FAILED,  /* the plugin has no worker because it cannot start */
        STEP_NO_MEMORY,     /* there was no memory to hand the call over */
        STEP_STOPPED,       /* the pool was closed before the call was handed over */
        STEP_CAUSE_MAX_,
};

/* As the protocol spells it in an error's `cause`. */
const char *step_cause_name(enum step_cause cause);

struct step_outcome {
        enum step_cause cause;
        struct mp answer, error;
        struct buf *memory;  /* where these lie, for buf_share() */
        const char *message; /* a sentence, for the causes that have neither map */
        struct mp details;   /* map: what else there is to say of them; empty: nothing */
        /* for refusals: which limit was met */
        uint64_t value, maximum;
        const char *setting;
};

/* What came of all the steps of a pool. */
#define STEP_BUCKETS 16
extern const usec_t step_bucket_usec[STEP_BUCKETS]; /* upper ends; the last is USEC_INFINITY */

struct step_stats {
        uint64_t n_calls; /* begun */
        uint64_t by_cause[STEP_CAUSE_MAX_];
        uint64_t in_bucket[STEP_BUCKETS]; /* by the time from being submitted to the outcome */
        uint64_t total_usec, waited_usec; /* of that: until a worker had it */
};

struct pool;
struct worker_call;

struct step {
        struct buf params;    /* the map of parameters of the worker's `invoke` */
        struct buf payload;   /* its last bytes, if they are a large payload */
        usec_t timeout_usec;  /* for waiting, and again for running; the caller's budget cuts both */
        usec_t deadline_usec; /* of the whole call, absolute; USEC_INFINITY: none */
        void (*on_done)(struct step *step, const struct step_outcome *outcome);
        void (*on_returned)(struct step *step); /* of a chain; before the outcome of the step at which it ended */
        struct step *then;                      /* the next of the chain, until it is given; NULL: none */
        struct pool *pool;                      /* where it was submitted */
        struct step_stats *stats;
        usec_t submitted_usec, given_usec, done_usec; /* given, done: 0: never */

        /* The pool's own: a step is nowhere, waits in the pool's queue, behind another of its chain which does, or is in a
         * worker's hands. */
        enum { STEP_NOWHERE, STEP_WAITING, STEP_GIVEN, STEP_BEHIND } place;
        TAILQ_ENTRY(step) link;   /* while waiting */
        struct event timer;       /* while waiting */
        struct worker_call *call; /* while given */
};

TAILQ_HEAD(step_list, step);

/* Return: how long it may still wait, or run: the plugin's time, cut by what is left of the caller's budget. */
static inline usec_t step_time_left(const struct step *step, usec_t now) {
        if (step->deadline_usec == USEC_INFINITY)
                return step->timeout_usec;
        return MIN(step->timeout_usec, step->deadline_usec > now ? step->deadline_usec - now : 0);
}

#define CHAIN_MAX 16 /* steps of a chain */

/* Return: whether a plugin that answered this has changed nothing that the next one sees, so that the worker goes on with a chain. The worker
 * itself has the same rule (_worker.py). */
bool answer_leaves_input(struct mp error, struct mp result);

/* Hands the steps of the chain behind this one back, before it is given. */
void step_return_chain(struct step *step);

/* Gives the step its outcome, and counts it. */
void step_finish(struct step *step, const struct step_outcome *outcome);

/* Return: how long its parameters are. */
static inline size_t step_len(const struct step *step) {
        return step->params.len + step->payload.len;
}

static inline void step_done(struct step *step) {
        buf_done(&step->params);
        buf_done(&step->payload);
}
