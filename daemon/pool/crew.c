/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who works for a pool: how many workers there are, when one more is started, and when one goes.
 *
 * Workers stand in slots. A slot is empty, or has a worker in some state; nothing else is counted, so nothing can be counted wrongly. There
 * is one slot more than workers.max, for the one that takes the place of another (isolation.recycle) and is ready before that goes.
 *
 * The zygote (zygote.c) stands beside them.
 */

#include "pool/private.h"

#include <stdio.h>

#define LONG_WAIT_USEC (10 * USEC_PER_MSEC)
#define SERVER_BACKOFF_MAX_USEC USEC_PER_SEC /* trying to connect costs nothing */
#define CLIENT_BACKOFF_MAX_USEC \
        (5 * USEC_PER_SEC) /* a process each time; but what failed is its server mostly, which comes back */

unsigned crew_count(const struct crew *crew, enum worker_state state) {
        unsigned n = 0;

        for (unsigned i = 0; i < crew->n_slots; i++)
                n += crew->workers[i] && worker_state(crew->workers[i]) == state;
        return n;
}

unsigned pool_count_workers(const struct pool *pool) {
        const struct crew *crew = pool->crew;
        unsigned n = 0;

        for (unsigned i = 0; i < crew->n_slots; i++)
                n += crew->workers[i] && worker_serves(crew->workers[i], pool->member);
        return n;
}

struct log_scope crew_scope(const struct crew *crew, const struct worker *worker) {
        return (struct log_scope){
                .plugin = crew->name, .group = crew->settings.group != NULL, .worker = worker ? worker_pid(worker) : 0};
}

/* Those that are on the way to be ready. */
static unsigned count_coming(const struct crew *crew) {
        return crew_count(crew, WORKER_STARTING) + crew_count(crew, WORKER_LOADED) + crew_count(crew, WORKER_INITIALIZING);
}

/* ---- Those that leave ---- */

static void retire(struct worker *worker) {
        worker_retire(worker);
        if (worker_calls_open(worker) == 0)
                worker_stop(worker);
}

/* The worker is to go when the one that takes its place is ready. One at a time. */
static void replace(struct crew *crew, struct worker *worker, const char *setting, uint64_t value) {
        struct log_scope scope = crew_scope(crew, worker);

        crew->leaving = worker;
        crew->n_recycled++;
        log_write(LOG_LEVEL_INFO, &scope, "it will be replaced by a new one: isolation.recycle.%s (%llu)", setting,
                  (unsigned long long)value);
        crew_schedule(crew);
}

static void replace_if_due(struct crew *crew, struct worker *worker, bool look_at_memory) {
        const struct isolation *settings = &crew->settings;
        usec_t age = clock_now_usec() - worker_started_usec(worker);

        if (crew->leaving || crew_is_closing(crew) || worker_state(worker) != WORKER_READY ||
            event_pending(crew->mend, EV_TIMEOUT, NULL))
                return;
        if (settings->recycle_calls && worker_calls_total(worker) >= settings->recycle_calls)
                replace(crew, worker, "calls", worker_calls_total(worker));
        else if (settings->recycle_age_usec && age >= settings->recycle_age_usec)
                replace(crew, worker, "age", age / USEC_PER_SEC);
        else if (look_at_memory && settings->recycle_memory_bytes &&
                 worker_memory_bytes(worker) >= settings->recycle_memory_bytes)
                replace(crew, worker, "memory", worker_memory_bytes(worker));
}

/* Return: whether workers have to be looked at once a second. */
static bool is_watched(const struct crew *crew) {
        const struct isolation *settings = &crew->settings;

        return !crew_is_closing(crew) && (settings->recycle_age_usec || settings->recycle_memory_bytes ||
                                          crew_count(crew, WORKER_READY) > settings->workers_min);
}

static void watch(struct crew *crew) {
        if (is_watched(crew) && !event_pending(crew->watch, EV_TIMEOUT, NULL))
                (void)event_add(crew->watch, &(struct timeval){.tv_sec = 1});
}

/* ---- Workers ---- */

/* Pools that fail together, and there may be thousands, are not to try again together. */
static struct timeval up_to_a_quarter_less(usec_t pause) {
        return usec_to_timeval(pause - pause / 4 * (usec_t)(random() % 1024) / 1024);
}

/* The next worker is started after `pause`. Without memory for that timer nobody may try again at once, which would hold the loop: the next that
 * happens to the pool, a call for instance, sets it again. Return: whether it is set. */
static bool pause_starting(struct crew *crew, usec_t pause) {
        struct timeval after = up_to_a_quarter_less(pause);

        crew->retry_lost = event_add(crew->retry, &after) < 0;
        return !crew->retry_lost;
}

static usec_t backoff_max_usec(const struct crew *crew) {
        if (crew->spec.server)
                return SERVER_BACKOFF_MAX_USEC;
        return pool_may_report(crew->pools[0]) ? CLIENT_BACKOFF_MAX_USEC : BACKOFF_MAX_USEC;
}

/* The more often in a row, the longer. */
void crew_back_off(struct crew *crew, usec_t maximum) {
        (void)pause_starting(crew, crew->backoff_usec);
        crew->backoff_usec = MIN(crew->backoff_usec * 2, maximum);
}

/* Some plugins of a group have failed in a worker that serves the others. Another worker is tried after a pause, in which those that serve are
 * replaced and added to as ever. */
static void mend_later(struct crew *crew) {
        struct timeval after = up_to_a_quarter_less(crew->backoff_usec);

        (void)event_add(crew->mend, &after);
        crew->backoff_usec = MIN(crew->backoff_usec * 2, BACKOFF_MAX_USEC);
}

/* Thousands may want to try again at once. Each then does so ever more seldom, until those that do have room. */
void crew_put_off(struct crew *crew) {
        crew_back_off(crew, BACKOFF_MAX_USEC);
}

/* One line each time that the pause grows, or for another reason: there may be thousands of servers that are not there, tried every second. */
static void note_failure(struct pool *pool, const char *reason) {
        struct log_scope scope = {.plugin = pool->entry->name};
        const usec_t pause = pool->crew->backoff_usec, longest = backoff_max_usec(pool->crew);
        bool known = pause >= longest && str_eq(pool->error, reason);

        log_write(known ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, &scope, "cannot start: %s; the next attempt is in %.1f s%s", reason,
                  (double)pause / (double)USEC_PER_SEC,
                  pause * 2 >= longest ? "; later ones are logged only if the reason changes" : "");
        free(pool->error);
        pool->error = strdup(reason);
}

/* Of several attempts that fail together the first counts. A plugin that failed in that worker by itself has its own reason. */
void crew_fail(struct crew *crew, const struct worker *worker, const char *reason) {
        bool first = !event_pending(crew->retry, EV_TIMEOUT, NULL) && !crew->retry_lost;

        if (crew_is_closing(crew) || crew->superseded)
                return;
        for (unsigned i = 0; i < crew->n_pools; i++) {
                if (first && !(worker && worker_has_failed(worker, i) && crew->n_pools > 1))
                        note_failure(crew->pools[i], reason);
                pool_settle(crew->pools[i], pool_count_workers(crew->pools[i]) > 0 ? POOL_READY : POOL_FAILED);
        }
        if (first)
                crew_back_off(crew, backoff_max_usec(crew));
        crew_schedule(crew);
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
        return !pool->crew->spec.server && str_eq(pool->entry->kind, "external");
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
        pool->crew->superseded = r > 0;
        if (pool->reported)
                buf_append(&pool->report, config.data, config.len);
        return r;
}

static void on_worker_member(void *data, struct worker *worker, unsigned member, struct mp answer) {
        struct crew *crew = data;
        struct pool *pool = crew->pools[member];
        int r = crew->superseded || crew_is_closing(crew) ? 0 : take_report(pool, answer);

        if (r < 0) {
                worker_stop(worker);
                crew_fail(crew, worker, r == -EINVAL ? "what its server says is no configuration of a plugin" : strerror(-r));
        }
        if (r < 0 || crew->superseded || crew_is_closing(crew))
                return;
        note_missing_hooks(pool, answer);
        free(TAKE(pool->error));
        if (pool->settled_told)
                pool->state = POOL_READY;
        else if (pool_count_workers(pool) >= crew->settings.workers_min)
                pool_settle(pool, POOL_READY);
}

/* Only this one cannot start. What it has of others, or a pause, may help: see on_worker_ready(). */
static void on_worker_failed(void *data, struct worker *worker, unsigned member, const char *reason) {
        struct crew *crew = data;
        struct pool *pool = crew->pools[member];

        (void)worker;
        if (crew_is_closing(crew) || crew->superseded)
                return;
        note_failure(pool, reason);
        pool_settle(pool, pool_count_workers(pool) > 0 ? POOL_READY : POOL_FAILED);
        crew_schedule(crew);
}

/* Return: whether the worker is no better than the one whose place it was to take: plugins of a group have failed in it, and in the other no
 * more. */
static bool is_no_help(const struct worker *worker, const struct worker *leaving) {
        return worker_n_failed(worker) > 0 && worker_n_failed(worker) >= worker_n_failed(leaving);
}

static void on_worker_ready(void *data, struct worker *worker) {
        struct crew *crew = data;
        struct log_scope scope = crew_scope(crew, worker);

        if (crew->superseded || crew_is_closing(crew)) {
                worker_stop(worker);
                return;
        }
        log_write(LOG_LEVEL_INFO, &scope, "ready after %.0f ms",
                  (double)(clock_now_usec() - worker_started_usec(worker)) / (double)USEC_PER_MSEC);
        (void)event_del(crew->retry);
        crew->retry_lost = false;
        if (worker_is_forked(worker))
                crew->fork_at_usec = crew->fork_pause_usec = 0;
        if (worker_n_failed(worker) == 0)
                crew->backoff_usec = BACKOFF_MIN_USEC;
        else
                mend_later(crew);
        if (crew->leaving && crew->leaving != worker) {
                if (is_no_help(worker, crew->leaving))
                        worker_stop(worker);
                else
                        retire(crew->leaving);
                crew->leaving = NULL;
        }
        watch(crew);
        crew_schedule(crew);
}

static void on_worker_idle(void *data, struct worker *worker) {
        struct crew *crew = data;
        unsigned n_waiting = 0;

        for (unsigned i = 0; i < crew->n_pools; i++)
                n_waiting += crew->pools[i] ? crew->pools[i]->n_waiting : 0;
        watch(crew); /* in case there was no memory for it before */
        if ((crew->n_open == 0 || worker_is_spent(worker)) && worker_calls_open(worker) == 0)
                worker_stop(worker);
        else if (n_waiting > 0)
                crew_work(crew);
        else
                replace_if_due(crew, worker, false);
}

/* ---- Their end ---- */

static void on_worker_exit(void *data, struct worker *worker, const char *reason) {
        struct crew *crew = data;
        struct log_scope scope = crew_scope(crew, worker);
        usec_t ready = worker_ready_usec(worker);

        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i] == worker)
                        crew->workers[i] = NULL;
        if (crew->leaving == worker)
                crew->leaving = NULL;
        crew->n_dropped += worker_answers_dropped(worker);
        if (crew_is_closing(crew) || worker_was_stopped(worker)) {
                log_write(LOG_LEVEL_DEBUG, &scope, "%s", reason);
        } else if (ready > 0) {
                log_write(LOG_LEVEL_WARNING, &scope, "%s; it will be replaced", reason);
                crew->n_restarts++;
                if (clock_now_usec() - ready < QUICK_DEATH_USEC)
                        (void)pause_starting(crew, BACKOFF_MIN_USEC);
        } else if (worker_was_put_off(worker)) {
                crew_put_forks_off(crew, reason);
        } else if (worker_was_refused(worker)) {
                crew_start_unforked(crew, reason);
        } else {
                crew_forget_lost_venv(crew);
                crew_fail(crew, worker, reason);
        }
        (void)worker_free(worker);
        crew_schedule(crew);
}

const struct worker_handler crew_handler = {
        .on_member = on_worker_member,
        .on_failed = on_worker_failed,
        .on_ready = on_worker_ready,
        .on_idle = on_worker_idle,
        .on_exit = on_worker_exit,
};

/* Return: whether no worker can be started before there is a venv. */
bool crew_needs_venv(const struct crew *crew) {
        return crew->n_prepared < crew->n_pools && !crew->spec.server;
}

/* Return: whether one is starting. */
static bool start_worker(struct crew *crew) {
        const char *server = crew->spec.server;
        char reason[256];
        unsigned i = 0;
        int r;

        while (i < crew->n_slots && crew->workers[i])
                i++;
        if (i == crew->n_slots || !crew_zygote_is_settled(crew))
                return false;
        r = crew_make_worker(crew, &crew->workers[i]);
        if (r < 0) {
                if (server)
                        (void)snprintf(reason, sizeof(reason), "its server cannot be reached at %s: %s", server, strerror(-r));
                else
                        (void)snprintf(reason, sizeof(reason), "no process can be started: %s", strerror(-r));
                crew_fail(crew, NULL, reason);
                return false;
        }
        return true;
}

/* Return: the time since which calls wait; USEC_INFINITY: none does. */
static usec_t waiting_since(const struct crew *crew) {
        usec_t since = USEC_INFINITY;

        for (unsigned i = 0; i < crew->n_pools; i++)
                if (crew->pools[i] && crew->pools[i]->n_waiting > 0)
                        since = MIN(since, TAILQ_FIRST(&crew->pools[i]->waiting)->submitted_usec);
        return since;
}

/* Return: whether calls have waited so long that another worker may help: starting one takes longer than most calls. */
static bool wait_is_long(struct crew *crew) {
        usec_t since = waiting_since(crew), waited;
        struct timeval left;

        if (since == USEC_INFINITY)
                return false;
        waited = clock_now_usec() - since;
        if (waited >= LONG_WAIT_USEC || crew_count(crew, WORKER_READY) == 0)
                return true;
        left = usec_to_timeval(LONG_WAIT_USEC - waited);
        return event_add(crew->look_again, &left) < 0; /* too early rather than never */
}

/* Return: a worker in which a plugin of the group has failed; NULL: there is none. A new one may fare better. */
static struct worker *find_failed(const struct crew *crew) {
        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i] && worker_state(crew->workers[i]) == WORKER_READY && worker_n_failed(crew->workers[i]) > 0)
                        return crew->workers[i];
        return NULL;
}

void crew_fill(struct crew *crew) {
        const struct isolation *settings = &crew->settings;
        unsigned coming = count_coming(crew), ready = crew_count(crew, WORKER_READY);

        if (crew_is_closing(crew) || crew->superseded || (crew->retry_lost && !pause_starting(crew, BACKOFF_MIN_USEC)))
                return;
        if (crew_needs_venv(crew) || event_pending(crew->retry, EV_TIMEOUT, NULL))
                return;
        for (; coming + ready < settings->workers_min; coming++)
                if (!start_worker(crew))
                        return;
        if (coming > 0)
                return;
        if (!crew->leaving && !event_pending(crew->mend, EV_TIMEOUT, NULL))
                crew->leaving = find_failed(crew);
        if (crew->leaving || (ready < settings->workers_max && wait_is_long(crew)))
                (void)start_worker(crew);
}

/* Stops one worker at a time, the one that has been idle longest. */
static void stop_idlest(struct crew *crew, usec_t now) {
        struct worker *idlest = NULL;

        for (unsigned i = 0; i < crew->n_slots; i++) {
                struct worker *worker = crew->workers[i];

                if (worker && worker_accepts(worker, 0) && worker_calls_active(worker) == 0 &&
                    (!idlest || worker_last_given_usec(worker) < worker_last_given_usec(idlest)))
                        idlest = worker;
        }
        if (idlest && now - worker_last_given_usec(idlest) > crew->settings.idle_usec)
                worker_stop(idlest);
}

void crew_look(struct crew *crew) {
        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i])
                        replace_if_due(crew, crew->workers[i], true);
        if (!crew->leaving && crew_count(crew, WORKER_READY) > crew->settings.workers_min)
                stop_idlest(crew, clock_now_usec());
        watch(crew);
}
