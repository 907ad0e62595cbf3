/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the worker: its data. life.c has the table of its states, worker.c what happens to it and what others may ask.
 */

#include "pool/calls.h"
#include "pool/worker.h"

#define REASON_BYTES 256

enum { ID_LOAD, ID_INIT, ID_SHUTDOWN, ID_FIRST_CALL };

enum event_kind {
        ON_ANSWERED, /* what it was asked for in this state is done for all members; the answer for the last is in `answer` */
        ON_MORE,     /* likewise, and there are other members */
        ON_REFUSED,  /* it failed */
        ON_TURN,     /* it may initialize */
        ON_TIMER,
        ON_STUCK,  /* a call did not yield to cancellation */
        ON_CLOSED, /* it closed its connection */
        ON_BROKEN, /* it broke the protocol */
        ON_STOP,
        EVENT_KIND_MAX_,
};

enum member_state { MEMBER_NEW, MEMBER_LOADED, MEMBER_READY, MEMBER_FAILED };

struct worker {
        struct event_base *base;
        const struct worker_spec *spec;
        const struct worker_handler *handler;
        void *data;

        enum worker_state state;
        bool was_stopped, retiring, refused, put_off;
        unsigned member;         /* that is being loaded, or is the next to be initialized; n_members: all are */
        struct buf members;      /* enum member_state of each, a byte */
        struct process *process; /* NULL: a plugin server */
        struct worker *zygote;   /* that has forked it; NULL: none, or it has ended */
        struct conn *conn;
        struct calls calls;
        struct event *timer; /* of the state */
        struct event *end;   /* on_end(), for what has no process */
        struct mp answer;    /* of `answered`, the member that was initialized, while ON_ANSWERED or ON_MORE is dealt with */
        unsigned answered;
        usec_t started_usec, ready_usec, last_given_usec;
        char reason[REASON_BYTES]; /* why it ends; empty: it was not us */
};

/* life.c */
void worker_happen(struct worker *worker, enum event_kind event);
void worker_note(struct worker *worker, const char *format, ...) PRINTF_LIKE(2, 3); /* why it is about to end */
void worker_close_conn(struct worker *worker);
void worker_arm(struct worker *worker, usec_t usec); /* ON_TIMER after that time */
void worker_send_load(struct worker *worker);
void worker_take_turn(struct worker *worker);  /* ON_TURN, if it is its turn */
void worker_end_zygote(struct worker *worker); /* that has forked it, with all that it has forked */

/* worker.c */
/* What the worker was asked for its `member` is done. While classes are loaded nothing else is; later each member is told of at
 * once. */
void worker_settle_member(struct worker *worker, enum member_state state, struct mp answer);
