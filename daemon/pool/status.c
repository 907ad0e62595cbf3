/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the control method `status` says of one plugin.
 */

#include "pool/private.h"

static const char *status_name(const struct pool *pool) {
        if (pool->disabled)
                return "disabled";
        return pool->state == POOL_STARTING ? "starting" : pool->state == POOL_READY ? "ready" : "failed";
}

static const char *state_name(enum worker_state state) {
        static const char *const names[WORKER_STATE_MAX_] = {
                [WORKER_STARTING] = "starting", [WORKER_LOADED] = "loaded",     [WORKER_INITIALIZING] = "initializing",
                [WORKER_READY] = "ready",       [WORKER_STOPPING] = "stopping", [WORKER_ENDING] = "ending",
        };

        return names[state];
}

static void put_worker_status(const struct worker *worker, struct buf *buf) {
        mp_put_map(buf, 6);
        mp_put_str(buf, "pid");
        if (worker_pid(worker) > 0)
                mp_put_int(buf, worker_pid(worker));
        else
                mp_put_nil(buf); /* the connection to a plugin server */
        mp_put_str(buf, "state");
        mp_put_str(buf, state_name(worker_state(worker)));
        mp_put_str(buf, "calls_active");
        mp_put_uint(buf, worker_calls_active(worker));
        mp_put_str(buf, "calls_total");
        mp_put_uint(buf, worker_calls_total(worker));
        mp_put_str(buf, "memory_bytes");
        mp_put_uint(buf, worker_memory_bytes(worker));
        mp_put_str(buf, "started_usec_ago");
        mp_put_uint(buf, clock_now_usec() - worker_started_usec(worker));
}

static void put_zygote(const struct worker *zygote, struct buf *buf) {
        if (!zygote) {
                mp_put_nil(buf);
                return;
        }
        mp_put_map(buf, 2);
        mp_put_str(buf, "pid");
        mp_put_int(buf, worker_pid(zygote));
        mp_put_str(buf, "memory_bytes");
        mp_put_uint(buf, worker_memory_bytes(zygote));
}

static uint64_t answers_dropped(const struct pool *pool) {
        const struct crew *crew = pool->crew;
        uint64_t n = crew->n_dropped;

        for (unsigned i = 0; i < crew->n_slots; i++)
                n += crew->workers[i] ? worker_answers_dropped(crew->workers[i]) : 0;
        return n;
}

struct pool_figures pool_figures(const struct pool *pool) {
        const struct crew *crew = pool->crew;
        struct pool_figures figures = {
                .queue = pool->n_waiting,
                .restarts = crew->n_restarts,
                .late_answers = answers_dropped(pool),
                .memory_bytes = pool->crew->zygote ? worker_memory_bytes(pool->crew->zygote) : 0,
        };

        for (unsigned i = 0; i < crew->n_slots; i++) {
                const struct worker *worker = crew->workers[i];

                if (!worker)
                        continue;
                figures.workers += worker_state(worker) == WORKER_READY && worker_serves(worker, pool->member);
                figures.calls_active += worker_calls_active(worker);
                figures.memory_bytes += worker_memory_bytes(worker);
        }
        figures.up = figures.workers > 0;
        return figures;
}

void pool_put_status(const struct pool *pool, struct buf *buf) {
        const struct crew *crew = pool->crew;
        size_t workers, n = 0;

        mp_put_map(buf, 19);
        mp_put_str(buf, "name");
        mp_put_str(buf, pool->entry->name);
        mp_put_str(buf, "status");
        mp_put_str(buf, status_name(pool));
        mp_put_str(buf, "mode");
        mp_put_str(buf, plugin_mode_name(pool->entry->mode));
        mp_put_str(buf, "priority");
        mp_put_int(buf, pool->entry->priority);
        mp_put_str(buf, "hooks");
        mp_put_array(buf, pool->entry->hooks.n);
        for (size_t i = 0; i < pool->entry->hooks.n; i++)
                mp_put_str(buf, pool->entry->hooks.items[i]);
        mp_put_str(buf, "fingerprint");
        mp_put_str(buf, crew->fingerprint);
        mp_put_str(buf, "python");
        mp_put_str(buf, crew->python);
        mp_put_str(buf, "error");
        mp_put_str(buf, pool->error ? pool->error : pool->missing_hook);
        mp_put_str(buf, "sandbox");
        mp_put_str(buf,
                   crew->spec.server ? NULL : sandbox_profile_name((enum sandbox_profile)pool->entry->isolation.sandbox.profile));
        mp_put_str(buf, "group");
        mp_put_str(buf, crew->settings.group);
        mp_put_str(buf, "queue");
        mp_put_uint(buf, pool->n_waiting);
        mp_put_str(buf, "calls_total");
        mp_put_uint(buf, pool->stats.n_calls);
        mp_put_str(buf, "errors_total");
        mp_put_uint(buf, pool->n_errors);
        mp_put_str(buf, "late_total");
        mp_put_uint(buf, answers_dropped(pool));
        mp_put_str(buf, "restarts");
        mp_put_uint(buf, crew->n_restarts);
        mp_put_str(buf, "recycled");
        mp_put_uint(buf, crew->n_recycled);
        mp_put_str(buf, "histogram");
        mp_put_array(buf, STEP_BUCKETS);
        for (size_t i = 0; i < STEP_BUCKETS; i++)
                mp_put_uint(buf, pool->stats.in_bucket[i]);
        mp_put_str(buf, "zygote");
        put_zygote(crew->zygote, buf);
        mp_put_str(buf, "workers");
        workers = mp_array_begin(buf);
        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i]) {
                        put_worker_status(crew->workers[i], buf);
                        n++;
                }
        mp_array_end(buf, workers, n);
}
