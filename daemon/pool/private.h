/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the pool: its data. pool.c takes steps and hands them on, prepare.c sees to the venv, spec.c says what workers are
 * told, crew.c sees to the workers and zygote.c to what they are forked off, status.c writes what there is.
 *
 * A pool is what belongs to one plugin. What it shares with the others of its group (isolation.group) is its crew: the venv, the workers, and
 * the time at which the next is started. A plugin of no group has a crew of its own.
 */

#include "base/timer.h"
#include "pool/pool.h"
#include "venv/job.h"

#define BACKOFF_MIN_USEC (100 * USEC_PER_MSEC)
#define BACKOFF_MAX_USEC (30 * USEC_PER_SEC)
#define QUICK_DEATH_USEC USEC_PER_SEC /* a worker that dies sooner after it was ready is replaced after a pause */

struct crew {
        struct event_base *base;
        struct pool **pools; /* in the order of the file; a worker knows their plugins by their place. NULL: it has been freed */
        unsigned n_pools;
        unsigned n_left, n_open; /* that are not freed; that are not closed */
        struct pool_layout layout;
        char *cache_dir;     /* of the layout */
        const char **names;  /* of the plugins, n_pools */
        char *name;          /* the plugin's or the group's, for the log */
        uint64_t generation; /* that it was made in */

        bool started, superseded, prepared_told;
        bool retry_lost; /* there was no memory for the timer `retry` */

        struct venv_job *job;
        unsigned n_prepared;        /* pools whose venv is there and whose code has been looked at */
        char *python, *fingerprint; /* NULL: the venv is not there yet */
        uint64_t box_identity;      /* when the crew was made */
        struct isolation
                settings;   /* of its first plugin: the others' are the same but for what is one plugin's (config/group.h) */
        struct buf fork;    /* the parameters of `zygote` */
        char **env;         /* NULL: not told to start yet, or there was no memory for the spec */
        struct strlist box; /* options of the launcher */
        struct strlist venv_options;
        struct cgroup_limits venv_limits;
        struct worker_spec spec, zygote_spec;
        struct worker_member zygote_member;

        struct worker **workers; /* n_slots */
        unsigned n_slots;
        struct worker *leaving;   /* when another is ready in its place */
        struct worker *zygote;    /* NULL: none, or none yet */
        bool unforked;            /* no worker is forked */
        usec_t fork_at_usec;      /* nor before this time, for one could not be */
        usec_t fork_pause_usec;   /* for how long the next time; 0: BACKOFF_MIN_USEC */
        struct event *work;       /* crew_work() on the next turn */
        struct event *retry;      /* the next attempt to start */
        struct event *mend;       /* crew_work(), for plugins of a group that have failed in a worker that serves the others */
        struct event *look_again; /* crew_work(), for calls that wait */
        struct event *watch;      /* crew_look(), once a second while there is reason to */
        usec_t backoff_usec;

        uint64_t n_restarts, n_recycled, n_dropped; /* dropped: of workers that have ended */
};

struct pool {
        struct crew *crew;
        unsigned member; /* its place in the crew */
        struct plugins_config *config;
        const struct plugin_entry *entry;
        const struct plugin_entry *configured; /* the same as `config` has it */
        struct plugin_entry *completed;        /* the same as its server has completed it; NULL: none did */
        struct buf report;                     /* what that said */
        const struct pool_handler *handler;
        void *data;
        unsigned refs;
        void (*closed)(void *data, struct pool *pool);
        void *closed_data;

        enum pool_state state;
        bool reported, settled_told, closing, closed_told, disabled;
        char *error, *missing_hook;
        size_t n_registered; /* hooks of the entry before the first missing one */
        char *code;          /* of the code when the venv was asked for; NULL: not known */
        struct buf load, init;

        struct step_list waiting;
        unsigned n_waiting;

        struct step_stats stats;
        uint64_t n_errors;
};

/* Return: whether one of its pools has been closed: the others follow, and nothing is started any more. */
static inline bool crew_is_closing(const struct crew *crew) {
        return crew->n_open < crew->n_pools;
}

/* pool.c */
void crew_schedule(struct crew *crew); /* crew_work() on the next turn of the loop */
void crew_work(struct crew *crew);
/* Has the step wait, behind those that came before it. */
void pool_enqueue(struct pool *pool, struct step *step, usec_t expires_usec);
void pool_settle(struct pool *pool, enum pool_state state);

/* prepare.c */
void crew_prepare(struct crew *crew); /* the next attempt: asks for what is missing, or has the workers started */
void crew_forget_lost_venv(struct crew *crew);

/* spec.c */
int crew_make_spec(struct crew *crew); /* what each worker is started with. Return: 0 or -ENOMEM */
void crew_make_zygote_spec(struct crew *crew);

/* zygote.c */
extern const struct worker_handler zygote_handler;            /* of the zygote; its data: the crew */
bool crew_zygote_is_settled(struct crew *crew);               /* Return: whether a worker may be started by now. */
int crew_make_worker(struct crew *crew, struct worker **ret); /* has one forked, if there is a zygote that listens, or started */
void crew_start_unforked(struct crew *crew, const char *why); /* from now on */
void crew_put_forks_off(struct crew *crew, const char *why);  /* for a while */

/* crew.c */
struct log_scope
crew_scope(const struct crew *crew,
           const struct worker *worker); /* of what is said of a worker (NULL: none), which is all its plugins' */
unsigned crew_count(const struct crew *crew, enum worker_state state);
unsigned pool_count_workers(const struct pool *pool);  /* in which its plugin is initialized */
void crew_fill(struct crew *crew);                     /* starts what workers are needed */
void crew_look(struct crew *crew);                     /* lets those go that are due to */
void crew_back_off(struct crew *crew, usec_t maximum); /* the next attempt to start comes later, ever more so */
void crew_put_off(struct crew *crew);                  /* likewise: it comes at a bad time */
extern const struct worker_handler crew_handler;       /* of the workers; its data: the crew */
/* Return: whether its workers say what its entry is, which the generation that made it hears. */
bool pool_may_report(const struct pool *pool);
bool crew_needs_venv(const struct crew *crew);
/* An attempt to start failed: another after a pause. `worker`: which it was; NULL: there was none yet. */
void crew_fail(struct crew *crew, const struct worker *worker, const char *reason);
