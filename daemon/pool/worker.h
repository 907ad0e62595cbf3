/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One worker and its life: a Python process in a plugin's venv, or the connection to a plugin server that somebody else runs.
 *
 *     STARTING ──▶ LOADED ──▶ INITIALIZING ──▶ READY ──▶ STOPPING
 *      the class     its turn    initialize()   calls     shutdown()
 *
 * It may have several plugins, its members (isolation.group). Their classes are loaded one after the other, and then it comes to LOADED and
 * INITIALIZING with each in its turn; it is READY when that is over for all of them. One that fails is left out of it, unless none is left.
 *
 * From each of them it may come to ENDING: killed, or gone by itself and not yet reaped. life.c has the whole table. A worker is given calls
 * only while READY. Its end is the outcome of exactly its calls in flight (STEP_CRASHED), each told before `on_exit`. A
 * worker that breaks the protocol, or holds on to a call that was cancelled, is killed; a plugin server is disconnected.
 */

#include "base/log.h"
#include "pool/process.h"
#include "pool/step.h"

struct worker;

enum worker_state {
        WORKER_STARTING,     /* the class is being loaded, or a plugin server greeted */
        WORKER_LOADED,       /* waits for worker_initialize() */
        WORKER_INITIALIZING, /* the plugin is being made */
        WORKER_READY,
        WORKER_STOPPING, /* the plugin is being shut down */
        WORKER_ENDING,
        WORKER_STATE_MAX_,
};

struct worker_member {
        struct mp load, init; /* the maps of parameters of these methods */
        bool may_initialize;  /* it is its turn, or has been: worker_initialize() */
};

/* What a worker is started with; owned by the pool, which outlives its workers. */
struct worker_spec {
        struct process_spec process;
        bool zygote;        /* it is not given calls, but forks workers when it is READY; `init` is of method `zygote` then */
        const char *server; /* the plugin server's socket; NULL: a process is started */
        struct worker_member *members;
        unsigned n_members;
        usec_t startup_timeout_usec;
        size_t frame_bytes, values;
};

struct worker_handler {
        /* `init` of a member was answered; `answer` is its map. */
        void (*on_member)(void *data, struct worker *worker, unsigned member, struct mp answer);
        /* A member could not be loaded or initialized; there are others, or have been. */
        void (*on_failed)(void *data, struct worker *worker, unsigned member, const char *reason);
        /* It takes calls, of those members that are initialized. */
        void (*on_ready)(void *data, struct worker *worker);
        /* A call is over: the worker has a place for another. */
        void (*on_idle)(void *data, struct worker *worker);
        /* The worker has ended and all its calls have their outcome. `reason` says why, in words. The owner frees the worker. */
        void (*on_exit)(void *data, struct worker *worker, const char *reason);
};

/* `zygote`: one that is READY forks it; NULL: it is started. Return: 0, or a negative errno when no process could be started or the server
 * could not be reached. */
int worker_start(struct worker **ret, struct event_base *base, const struct worker_spec *spec, struct worker *zygote,
                 const struct worker_handler *handler, void *data);

/* The zygote that has forked the worker, if one has: it must be there as long as the worker is, or be NULL: then it has ended. */
void worker_set_zygote(struct worker *worker, struct worker *zygote);
bool worker_is_orphan(const struct worker *worker); /* its zygote has ended */

/* May_initialize of a member was set: it may be constructed and initialized from now on. */
void worker_initialize(struct worker *worker);

#define MESSAGE_BYTES 64 /* of an invoke beside its parameters, at most */

/* Hands a step over, with its chain, whose parameters are then gone. Only for a worker that accepts it. Return: 0, -EMSGSIZE when the message would be
 * too long for a frame, or -ENOMEM. */
int worker_give(struct worker *worker, struct step *step);

/* From now on it takes no more calls; worker_stop() follows when it has none. */
void worker_retire(struct worker *worker);

/* Lets the plugin shut down, kills it if it does not end in time. */
void worker_stop(struct worker *worker);

/* Kills the process (its whole group) if it lives. Steps in flight get STEP_STOPPED. Return: NULL. */
struct worker *worker_free(struct worker *worker);

/* wire/carry.h. At first nobody waits for the calls that it has; the steps come back one by one. */
void worker_save(const struct worker *worker, struct carry *carry);
int worker_adopt(struct worker **ret, struct event_base *base, const struct worker_spec *spec, struct mp saved,
                 const struct worker_handler *handler, void *data);
int worker_adopt_step(struct worker *worker, struct step *step, uint32_t id);

enum worker_state worker_state(const struct worker *worker);
bool worker_serves(const struct worker *worker, unsigned member); /* it is initialized, and the worker not about to end */
unsigned worker_n_failed(const struct worker *worker);            /* members */
bool worker_has_failed(const struct worker *worker, unsigned member);
pid_t worker_pid(const struct worker *worker);             /* 0: it is none of our processes */
unsigned worker_calls_active(const struct worker *worker); /* with those that were given up */
unsigned worker_calls_open(const struct worker *worker);   /* without them */
uint64_t worker_calls_total(const struct worker *worker);
uint64_t worker_answers_dropped(const struct worker *worker); /* that came too late, or to no call in flight */
usec_t worker_started_usec(const struct worker *worker);
usec_t worker_ready_usec(const struct worker *worker);      /* 0: never */
usec_t worker_last_given_usec(const struct worker *worker); /* of its last call; if none, when it started */

uint64_t worker_memory_bytes(const struct worker *worker); /* resident; 0: not known */

bool worker_was_stopped(const struct worker *worker); /* by worker_stop() */
bool worker_is_forked(const struct worker *worker);   /* by a zygote */

/* Return: whether it is a zygote that cannot fork its plugin, or should have been forked and was not. */
bool worker_was_refused(const struct worker *worker);

/* Return: whether it should have been forked and was not, for a reason that passes. */
bool worker_was_put_off(const struct worker *worker);

/* Return: whether a call with parameters of `len` bytes may be given now: the worker is READY, holds on to no call that was given
 * up, and reads what it is sent. */
bool worker_accepts(const struct worker *worker, size_t len);

/* Return: whether it takes no more calls though it is READY: it is to be stopped when it has none in flight. */
bool worker_is_spent(const struct worker *worker);
