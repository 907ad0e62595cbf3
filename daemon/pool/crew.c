/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who works for a pool: how many workers there are, when one more is started, and when one goes.
 *
 * Workers stand in slots. A slot is empty, or has a worker in some state; nothing else is counted, so nothing can be counted wrongly. There
 * is one slot more than workers.max, for the one that takes the place of another (isolation.recycle) and is ready before that goes.
 */

#include "pool/private.h"

#include <stdio.h>

#define LONG_WAIT_USEC (10 * USEC_PER_MSEC)
#define QUICK_DEATH_USEC USEC_PER_SEC /* a worker that dies sooner after it was ready is replaced after a pause */
#define BACKOFF_MAX_USEC (30 * USEC_PER_SEC)
#define SERVER_BACKOFF_MAX_USEC USEC_PER_SEC /* trying to connect costs nothing */
#define CLIENT_BACKOFF_MAX_USEC \
        (5 * USEC_PER_SEC) /* a process each time; but what failed is its server mostly, which comes back */

unsigned crew_count(const struct pool *pool, enum worker_state state) {
        unsigned n = 0;

        for (unsigned i = 0; i < pool->n_slots; i++)
                n += pool->workers[i] && worker_state(pool->workers[i]) == state;
        return n;
}

/* Those that are on the way to be ready. */
static unsigned count_coming(const struct pool *pool) {
        return crew_count(pool, WORKER_STARTING) + crew_count(pool, WORKER_LOADED) + crew_count(pool, WORKER_INITIALIZING);
}

/* ---- Those that leave ---- */

static void retire(struct worker *worker) {
        worker_retire(worker);
        if (worker_calls_open(worker) == 0)
                worker_stop(worker);
}

/* The worker is to go when the one that takes its place is ready. One at a time. */
static void replace(struct pool *pool, struct worker *worker, const char *setting, uint64_t value) {
        struct log_scope scope = {.plugin = pool->entry->name, .worker = worker_pid(worker)};

        pool->leaving = worker;
        pool->n_recycled++;
        log_write(LOG_LEVEL_INFO, &scope, "it will be replaced by a new one: isolation.recycle.%s (%llu)", setting,
                  (unsigned long long)value);
        pool_schedule(pool);
}

static void replace_if_due(struct pool *pool, struct worker *worker, bool look_at_memory) {
        const struct isolation *settings = &pool->entry->isolation;
        usec_t age = clock_now_usec() - worker_started_usec(worker);

        if (pool->leaving || pool->closing || worker_state(worker) != WORKER_READY)
                return;
        if (settings->recycle_calls && worker_calls_total(worker) >= settings->recycle_calls)
                replace(pool, worker, "calls", worker_calls_total(worker));
        else if (settings->recycle_age_usec && age >= settings->recycle_age_usec)
                replace(pool, worker, "age", age / USEC_PER_SEC);
        else if (look_at_memory && settings->recycle_memory_bytes &&
                 worker_memory_bytes(worker) >= settings->recycle_memory_bytes)
                replace(pool, worker, "memory", worker_memory_bytes(worker));
}

/* Return: whether workers have to be looked at once a second. */
static bool is_watched(const struct pool *pool) {
        const struct isolation *settings = &pool->entry->isolation;

        return !pool->closing && (settings->recycle_age_usec || settings->recycle_memory_bytes ||
                                  crew_count(pool, WORKER_READY) > settings->workers_min);
}

static void watch(struct pool *pool) {
        if (is_watched(pool) && !event_pending(pool->watch, EV_TIMEOUT, NULL))
                (void)event_add(pool->watch, &(struct timeval){.tv_sec = 1});
}

/* ---- Workers ---- */

/* The next worker is started after `pause`, or up to a quarter earlier: pools that fail together, and there may be thousands, are not to try again
 * together. Without memory for that timer nobody may try again at once, which would hold the loop: the next
 * that happens to the pool, a call for instance, sets it again. Return: whether it is set. */
static bool pause_starting(struct pool *pool, usec_t pause) {
        struct timeval after = usec_to_timeval(pause - pause / 4 * (usec_t)(random() % 1024) / 1024);

        pool->retry_lost = event_add(pool->retry, &after) < 0;
        return !pool->retry_lost;
}

/* Thousands may want to try again at once. Each then does so ever more seldom, until those that do have room. */
void crew_put_off(struct pool *pool) {
        (void)pause_starting(pool, pool->backoff_usec);
        pool->backoff_usec = MIN(pool->backoff_usec * 2, BACKOFF_MAX_USEC);
}

static usec_t backoff_max_usec(const struct pool *pool) {
        if (pool->spec.server)
                return SERVER_BACKOFF_MAX_USEC;
        return pool_may_report(pool) ? CLIENT_BACKOFF_MAX_USEC : BACKOFF_MAX_USEC;
}

/* One line each time that the pause grows, or for another reason: there may be thousands of servers that are not there, tried every second. */
static void log_failure(const struct pool *pool, const char *reason) {
        struct log_scope scope = {.plugin = pool->entry->name};
        const usec_t pause = pool->backoff_usec, longest = backoff_max_usec(pool);
        bool known = pause >= longest && str_eq(pool->error, reason);

        log_write(known ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, &scope, "cannot start: %s; the next attempt is in %.1f s%s", reason,
                  (double)pause / (double)USEC_PER_SEC,
                  pause * 2 >= longest ? "; later ones are logged only if the reason changes" : "");
}

/* An attempt to start a worker failed. Of several that fail together the first counts. */
void pool_fail(struct pool *pool, const char *reason) {
        bool serves = crew_count(pool, WORKER_READY) > 0;

        if (pool->closing || pool->superseded)
                return;
        if (!event_pending(pool->retry, EV_TIMEOUT, NULL) && !pool->retry_lost) {
                log_failure(pool, reason);
                free(pool->error);
                pool->error = strdup(reason);
                (void)pause_starting(pool, pool->backoff_usec);
                pool->backoff_usec = MIN(pool->backoff_usec * 2, backoff_max_usec(pool));
        }
        pool_settle(pool, serves ? POOL_READY : POOL_FAILED);
        pool_schedule(pool);
}

/* `missing` of the answer to init: hooks without a usable method. The others are served; a call of one of these fails in the worker. */
static void note_missing_hooks(struct pool *pool, struct mp answer) {
        struct log_scope scope = {.plugin = pool->entry->name};
        struct mp missing, hook, why;
        struct mp_cur cur;
        uint32_t n;

        if (pool->missing_hook || !mp_map_get(answer, "missing", &missing))
                return;
        cur = mp_cur(missing);
        if (!mp_read_map(&cur, &n))
                return;
        for (; n > 0 && mp_read_any(&cur, &hook) && mp_read_any(&cur, &why); n--) {
                CLEANUP_FREE char *sentence = mp_dup_str(why);

                log_write(LOG_LEVEL_WARNING, &scope, "%s", sentence ? sentence : "a hook has no usable method");
                if (!pool->missing_hook)
                        pool->missing_hook = TAKE(sentence);
                for (size_t i = 0; i < pool->n_registered; i++)
                        if (mp_eq_str(hook, pool->entry->hooks.items[i]))
                                pool->n_registered = i;
        }
}

bool pool_may_report(const struct pool *pool) {
        return !pool->spec.server && str_eq(pool->entry->kind, "external");
}

/* The first report counts for the whole generation: what a plugin listens to does not depend on which of its workers is asked. Return: 0
 * or a negative errno. */
static int take_report(struct pool *pool, struct mp answer) {
        struct mp config;
        int r;

        if (pool->reported || pool->closing || !pool_may_report(pool) || !mp_map_get(answer, "config", &config))
                return 0;
        r = pool->handler->reported(pool->data, pool, config);
        pool->reported = r == 0;
        pool->superseded = r > 0;
        if (pool->reported)
                buf_append(&pool->report, config.data, config.len);
        return r;
}

static void on_worker_ready(void *data, struct worker *worker, struct mp answer) {
        struct pool *pool = data;
        struct log_scope scope = {.plugin = pool->entry->name, .worker = worker_pid(worker)};
        int r = pool->superseded ? 0 : take_report(pool, answer);

        if (r < 0) {
                worker_stop(worker);
                pool_fail(pool, r == -EINVAL ? "what its server says is no configuration of a plugin" : strerror(-r));
                return;
        }
        if (pool->superseded) {
                worker_stop(worker);
                return;
        }
        note_missing_hooks(pool, answer);
        log_write(LOG_LEVEL_INFO, &scope, "ready after %.0f ms",
                  (double)(clock_now_usec() - worker_started_usec(worker)) / (double)USEC_PER_MSEC);
        pool->backoff_usec = BACKOFF_MIN_USEC;
        free(TAKE(pool->error));
        (void)event_del(pool->retry);
        pool->retry_lost = false;
        if (pool->closing) {
                worker_stop(worker);
                return;
        }
        if (pool->leaving && pool->leaving != worker)
                retire(TAKE(pool->leaving));
        watch(pool);
        if (pool->settled_told)
                pool->state = POOL_READY;
        else if (crew_count(pool, WORKER_READY) >= pool->entry->isolation.workers_min)
                pool_settle(pool, POOL_READY);
        pool_schedule(pool);
}

static void on_worker_idle(void *data, struct worker *worker) {
        struct pool *pool = data;

        watch(pool); /* in case there was no memory for it before */
        if ((pool->closing || worker_is_spent(worker)) && worker_calls_open(worker) == 0)
                worker_stop(worker);
        else if (pool->n_waiting > 0)
                pool_work(pool);
        else
                replace_if_due(pool, worker, false);
}

/* A venv that somebody has removed is asked for again. */
static void forget_lost_venv(struct pool *pool) {
        if (!pool->python || access(pool->python, X_OK) == 0)
                return;
        free(TAKE(pool->python));
        free(TAKE(pool->fingerprint));
        pool->spec.process.python = NULL;
}

static void on_worker_exit(void *data, struct worker *worker, const char *reason) {
        struct pool *pool = data;
        struct log_scope scope = {.plugin = pool->entry->name, .worker = worker_pid(worker)};
        usec_t ready = worker_ready_usec(worker);

        for (unsigned i = 0; i < pool->n_slots; i++)
                if (pool->workers[i] == worker)
                        pool->workers[i] = NULL;
        if (pool->leaving == worker)
                pool->leaving = NULL;
        pool->n_dropped += worker_answers_dropped(worker);
        if (pool->closing || worker_was_stopped(worker)) {
                log_write(LOG_LEVEL_DEBUG, &scope, "%s", reason);
        } else if (ready > 0) {
                log_write(LOG_LEVEL_WARNING, &scope, "%s; it will be replaced", reason);
                pool->n_restarts++;
                if (clock_now_usec() - ready < QUICK_DEATH_USEC)
                        (void)pause_starting(pool, BACKOFF_MIN_USEC);
        } else {
                forget_lost_venv(pool);
                pool_fail(pool, reason);
        }
        (void)worker_free(worker);
        pool_schedule(pool);
}

const struct worker_handler crew_handler = {
        .on_ready = on_worker_ready,
        .on_idle = on_worker_idle,
        .on_exit = on_worker_exit,
};

/* Return: whether no worker can be started before there is a venv. */
bool pool_needs_venv(const struct pool *pool) {
        return !pool->python && !pool->spec.server;
}

/* Return: whether one is starting. */
static bool start_worker(struct pool *pool) {
        const char *server = pool->spec.server;
        char reason[256];
        unsigned i = 0;
        int r;

        while (i < pool->n_slots && pool->workers[i])
                i++;
        if (i == pool->n_slots)
                return false;
        r = worker_start(&pool->workers[i], pool->base, &pool->spec, &crew_handler, pool);
        if (r < 0) {
                if (server)
                        (void)snprintf(reason, sizeof(reason), "its server cannot be reached at %s: %s", server, strerror(-r));
                else
                        (void)snprintf(reason, sizeof(reason), "no process can be started: %s", strerror(-r));
                pool_fail(pool, reason);
                return false;
        }
        if (pool->may_initialize)
                worker_initialize(pool->workers[i]);
        return true;
}

/* Return: whether calls have waited so long that another worker may help: starting one takes longer than most calls. */
static bool wait_is_long(struct pool *pool) {
        usec_t waited = clock_now_usec() - TAILQ_FIRST(&pool->waiting)->submitted_usec;
        struct timeval left;

        if (waited >= LONG_WAIT_USEC || crew_count(pool, WORKER_READY) == 0)
                return true;
        left = usec_to_timeval(LONG_WAIT_USEC - waited);
        return event_add(pool->look_again, &left) < 0; /* too early rather than never */
}

void crew_fill(struct pool *pool) {
        const struct isolation *settings = &pool->entry->isolation;
        unsigned coming = count_coming(pool), ready = crew_count(pool, WORKER_READY);

        if (pool->closing || pool->superseded || (pool->retry_lost && !pause_starting(pool, BACKOFF_MIN_USEC)))
                return;
        if (pool_needs_venv(pool) || event_pending(pool->retry, EV_TIMEOUT, NULL))
                return;
        for (; coming + ready < settings->workers_min; coming++)
                if (!start_worker(pool))
                        return;
        if (coming > 0)
                return;
        if (pool->leaving || (pool->n_waiting > 0 && ready < settings->workers_max && wait_is_long(pool)))
                (void)start_worker(pool);
}

/* Stops one worker at a time, the one that has been idle longest. */
static void stop_idlest(struct pool *pool, usec_t now) {
        struct worker *idlest = NULL;

        for (unsigned i = 0; i < pool->n_slots; i++) {
                struct worker *worker = pool->workers[i];

                if (worker && worker_accepts(worker, 0) && worker_calls_active(worker) == 0 &&
                    (!idlest || worker_last_given_usec(worker) < worker_last_given_usec(idlest)))
                        idlest = worker;
        }
        if (idlest && now - worker_last_given_usec(idlest) > pool->entry->isolation.idle_usec)
                worker_stop(idlest);
}

void crew_look(struct pool *pool) {
        for (unsigned i = 0; i < pool->n_slots; i++)
                if (pool->workers[i])
                        replace_if_due(pool, pool->workers[i], true);
        if (!pool->leaving && crew_count(pool, WORKER_READY) > pool->entry->isolation.workers_min)
                stop_idlest(pool, clock_now_usec());
        watch(pool);
}
