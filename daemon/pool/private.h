/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the pool: its data. pool.c decides what happens, status.c writes what there is.
 */

#include "pool/pool.h"
#include "venv/job.h"

struct pool {
        struct event_base *base;
        struct plugins_config *config;
        const struct plugin_entry *entry;
        struct pool_layout layout;
        char *cache_dir; /* of the layout */
        const struct pool_handler *handler;
        void *data;
        unsigned refs;
        void (*closed)(void *data, struct pool *pool);
        void *closed_data;

        enum pool_state state;
        bool may_initialize, superseded, prepared_told, settled_told, closing, closed_told, disabled;
        char *error, *missing_hook;
        size_t n_registered; /* hooks of the entry before the first missing one */

        struct venv_job *job;
        char *python, *fingerprint; /* NULL: the venv is not there yet */
        char *code;                 /* of the code when the venv was asked for; NULL: not known */
        struct buf load, init;
        struct worker_spec spec;

        struct worker **workers; /* workers.max slots */
        struct step_list waiting;
        unsigned n_waiting;
        struct event *work;  /* pool_work() on the next turn */
        struct event *retry; /* the next attempt to start */
        struct event *idle;  /* once a second while there are more workers than `min` */
        usec_t backoff_usec;

        struct step_stats stats;
        uint64_t n_calls, n_errors, n_restarts, n_dropped; /* dropped: of workers that have ended */
};
