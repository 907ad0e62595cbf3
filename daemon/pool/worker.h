/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One worker: a Python process in a plugin's venv, and its life.
 *
 *     STARTING ──init answered──▶ READY ──worker_stop()──▶ STOPPING ──exit──▶ (on_exit)
 *         │                         │                          │
 *         └──────────── death, kill, broken protocol ──────────┴────────────▶ (on_exit)
 *
 * A worker is given calls only while READY. Its death is the outcome of exactly its calls in flight (STEP_CRASHED), each told
 * before `on_exit`. Ids of calls are never used twice in a worker's life; an answer to an id that is not in flight is dropped and
 * counted. A worker that breaks the protocol is killed.
 */

#include <event2/event.h>

#include "base/log.h"
#include "pool/step.h"

enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_STOPPING, WORKER_STATE_MAX_ };
const char *worker_state_name(enum worker_state state);

/* What a worker is started with; owned by the pool, which outlives its workers. */
struct worker_spec {
        const char *plugin;
        const char *launcher, *shim_dir, *ext_dir, *sdk_dir; /* where the parts of the worker lie */
        const char *python;                                  /* the venv's interpreter */
        struct mp init;                                      /* the map of parameters of `init` */
        uint64_t memory_bytes, files;                        /* rlimits; 0: none */
        usec_t startup_timeout_usec;
        size_t frame_bytes;
};

struct worker_handler {
        /* `init` was answered; `answer` is its map. */
        void (*on_ready)(void *data, struct worker *worker, struct mp answer);
        /* A call is over: the worker has a place for another. */
        void (*on_idle)(void *data, struct worker *worker);
        /* The process has ended and all its calls have their outcome. `reason` says why, in words. The owner frees the worker. */
        void (*on_exit)(void *data, struct worker *worker, const char *reason);
};

/* Return: 0, or a negative errno when no process could be started. */
int worker_start(struct worker **ret, struct event_base *base, const struct worker_spec *spec,
                 const struct worker_handler *handler, void *data);

/* Hands a step over, whose parameters are then gone. Only for a worker that accepts it. Return: 0, -EMSGSIZE when the message would be
 * too long for a frame, or -ENOMEM. */
int worker_give(struct worker *worker, struct step *step);

/* Takes a step back whose caller has lost interest: the plugin is cancelled, its answer dropped. */
void worker_withdraw(struct worker *worker, struct step *step);

/* Lets the plugin shut down, kills it if it does not end in time. */
void worker_stop(struct worker *worker);

/* Kills the process (its whole group) if it lives. Steps in flight get STEP_STOPPED. Return: NULL. */
struct worker *worker_free(struct worker *worker);

enum worker_state worker_state(const struct worker *worker);
pid_t worker_pid(const struct worker *worker);
unsigned worker_calls_active(const struct worker *worker); /* with those that were given up */
unsigned worker_calls_open(const struct worker *worker);   /* without them */
uint64_t worker_calls_total(const struct worker *worker);
usec_t worker_started_usec(const struct worker *worker);
usec_t worker_ready_usec(const struct worker *worker);      /* 0: never */
usec_t worker_last_given_usec(const struct worker *worker); /* of its last call; if none, when it started */

bool worker_was_stopped(const struct worker *worker); /* by worker_stop() */

/* Return: whether a call with parameters of `len` bytes may be given now: the worker is READY, holds on to no call that was given
 * up, and reads what it is sent. */
bool worker_accepts(const struct worker *worker, size_t len);

/* Return: whether it has used up its ids of calls: it is to be stopped when it has none in flight. */
bool worker_is_spent(const struct worker *worker);
