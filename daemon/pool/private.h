/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the pool: its data. pool.c takes steps and hands them on, crew.c sees to the workers, status.c writes what there is.
 */

#include "base/timer.h"
#include "pool/pool.h"
#include "venv/job.h"

#define BACKOFF_MIN_USEC (100 * USEC_PER_MSEC)

struct pool {
        struct event_base *base;
        struct plugins_config *config;
        const struct plugin_entry *entry;
        const struct plugin_entry *configured; /* the same as `config` has it */
        struct plugin_entry *completed;        /* the same as its server has completed it; NULL: none did */
        struct buf report;                     /* what that said */
        struct pool_layout layout;
        char *cache_dir; /* of the layout */
        const struct pool_handler *handler;
        void *data;
        uint64_t generation; /* that it was made in */
        unsigned refs;
        void (*closed)(void *data, struct pool *pool);
        void *closed_data;

        enum pool_state state;
        bool may_initialize, superseded, prepared_told, reported, settled_told, closing, closed_told, disabled;
        bool retry_lost; /* there was no memory for the timer `retry` */
        char *error, *missing_hook;
        size_t n_registered; /* hooks of the entry before the first missing one */

        struct venv_job *job;
        char *python, *fingerprint; /* NULL: the venv is not there yet */
        uint64_t box_identity;      /* when the pool was made */
        char *code;                 /* of the code when the venv was asked for; NULL: not known */
        struct buf load, init;
        char **env;         /* NULL: not told to start yet, or there was no memory for the spec */
        struct strlist box; /* options of the launcher */
        struct strlist venv_options;
        struct cgroup_limits venv_limits;
        struct worker_spec spec;

        struct worker **workers; /* n_slots */
        unsigned n_slots;
        struct worker *leaving; /* when another is ready in its place */
        struct step_list waiting;
        unsigned n_waiting;
        struct event *work;       /* pool_work() on the next turn */
        struct event *retry;      /* the next attempt to start */
        struct event *look_again; /* pool_work(), for calls that wait */
        struct event *watch;      /* crew_look(), once a second while there is reason to */
        usec_t backoff_usec;

        struct step_stats stats;
        uint64_t n_calls, n_errors, n_restarts, n_recycled, n_dropped; /* dropped: of workers that have ended */
};

/* pool.c */
void pool_schedule(struct pool *pool); /* pool_work() on the next turn of the loop */
void pool_work(struct pool *pool);
/* Has the step wait, behind those that came before it. */
void pool_enqueue(struct pool *pool, struct step *step, usec_t expires_usec);
int pool_make_spec(struct pool *pool); /* what each worker is started with. Return: 0 or -ENOMEM */
void pool_settle(struct pool *pool, enum pool_state state);

/* crew.c */
unsigned crew_count(const struct pool *pool, enum worker_state state);
void crew_fill(struct pool *pool);               /* starts what workers are needed */
void crew_look(struct pool *pool);               /* lets those go that are due to */
void crew_put_off(struct pool *pool);            /* the next attempt to start: it comes at a bad time */
extern const struct worker_handler crew_handler; /* of the workers; its data: the pool */
/* Return: whether its workers say what its entry is, which the generation that made it hears. */
bool pool_may_report(const struct pool *pool);
bool pool_needs_venv(const struct pool *pool);
void pool_fail(struct pool *pool, const char *reason); /* an attempt to start failed: another after a pause */
