/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The pool decides in one place, crew_work(), which runs after anything that may have changed the answer: a step came, a call ended,
 * a worker became ready or died. It hands waiting steps to workers with room and starts a worker when steps still wait. It never calls
 * a step's on_done itself from inside pool_submit(): refusals are kept as waiting steps and are refused by the same
 * function on the next turn of the loop, so that no caller has to expect its outcome before its own call has returned.
 */

#include "pool/private.h"

#include "base/timer.h"
#include "pool/box.h"
#include "pool/calls.h"
#include "venv/options.h"

void crew_schedule(struct crew *crew) {
        event_active(crew->work, EV_TIMEOUT, 0);
}

void pool_settle(struct pool *pool, enum pool_state state) {
        pool->state = state;
        if (pool->settled_told || pool->closing)
                return;
        pool->settled_told = true;
        pool->handler->settled(pool->data, pool);
}

/* ---- Steps ---- */

static void dequeue(struct pool *pool, struct step *step) {
        (void)event_del(&step->timer);
        TAILQ_REMOVE(&pool->waiting, step, link);
        pool->n_waiting--;
        step->place = STEP_NOWHERE;
}

static void finish_refused(struct step *step, const struct step_outcome *outcome) {
        step_return_chain(step);
        step_finish(step, outcome);
}

static void finish(struct pool *pool, struct step *step, const struct step_outcome *outcome) {
        dequeue(pool, step);
        finish_refused(step, outcome);
}

static void on_wait_timer(evutil_socket_t fd, short what, void *data) {
        struct step *step = data;

        (void)fd;
        (void)what;
        finish(step->pool, step, &(struct step_outcome){.cause = STEP_QUEUE_TIMEOUT, .message = "no worker became free in time"});
}

void pool_withdraw(struct step *step) {
        if (step->place == STEP_WAITING)
                dequeue(step->pool, step);
        else if (step->place == STEP_GIVEN)
                calls_withdraw(step);
        step->place = STEP_NOWHERE;
        step->then = NULL;
}

/* Return: whether the worker has the plugins of the step and of its chain. */
static bool serves(const struct worker *worker, const struct step *step) {
        for (; step; step = step->then)
                if (!worker_serves(worker, step->pool->member))
                        return false;
        return true;
}

/* Return: the worker with room that has the fewest calls, NULL if all are full. */
static struct worker *pick_worker(const struct pool *pool, const struct step *step) {
        const struct crew *crew = pool->crew;
        struct worker *best = NULL;

        for (unsigned i = 0; i < crew->n_slots; i++) {
                struct worker *worker = crew->workers[i];

                if (!worker || !worker_accepts(worker, step_len(step)) || !serves(worker, step) ||
                    worker_calls_active(worker) >= crew->settings.max_concurrent)
                        continue;
                if (!best || worker_calls_active(worker) < worker_calls_active(best))
                        best = worker;
        }
        return best;
}

void pool_enqueue(struct pool *pool, struct step *step, usec_t expires_usec) {
        struct step *before = TAILQ_LAST(&pool->waiting, step_list);

        while (before && before->submitted_usec > step->submitted_usec)
                before = TAILQ_PREV(before, step_list, link);
        if (before)
                TAILQ_INSERT_AFTER(&pool->waiting, before, step, link);
        else
                TAILQ_INSERT_HEAD(&pool->waiting, step, link);
        step->place = STEP_WAITING;
        pool->n_waiting++;
        evtimer_assign(&step->timer, pool->crew->base, on_wait_timer, step);
        timer_start_at(&step->timer, expires_usec);
        crew_schedule(pool->crew);
}

void pool_submit(struct pool *pool, struct step *step) {
        struct worker *worker;
        usec_t left;

        step->pool = pool;
        step->stats = &pool->stats;
        step->submitted_usec = clock_now_usec();
        step->given_usec = 0;
        pool->stats.n_calls++;
        /* The way of nearly every call. Whatever is in the way is dealt with on the next turn of the loop, by crew_work(). */
        if (pool->n_waiting == 0 && !pool->closing && (worker = pick_worker(pool, step)) && worker_give(worker, step) == 0)
                return;

        left = step_time_left(step, step->submitted_usec);
        if (pool->state == POOL_STARTING && step->deadline_usec == USEC_INFINITY)
                left = MAX(left, pool->entry->isolation.startup_timeout_usec);
        if (pool->entry->isolation.queue_timeout_usec)
                left = MIN(left, pool->entry->isolation.queue_timeout_usec);
        pool_enqueue(pool, step, step->submitted_usec + left);
}

/* Return: whether no worker has all plugins of the chain, though one has the first: in each another has failed. */
static bool is_split(const struct step *first) {
        const struct crew *crew = first->pool->crew;
        bool has_first = false;

        for (unsigned i = 0; i < crew->n_slots; i++) {
                const struct worker *worker = crew->workers[i];

                if (!worker || worker_state(worker) != WORKER_READY)
                        continue;
                if (serves(worker, first))
                        return false;
                has_first = has_first || worker_serves(worker, first->pool->member);
        }
        return has_first;
}

bool pool_submit_chain(struct step *first) {
        if (step_len(first) + MESSAGE_BYTES > first->pool->crew->layout.frame_bytes || is_split(first))
                return false;
        for (struct step *step = first->then; step; step = step->then) {
                step->stats = &step->pool->stats;
                step->place = STEP_BEHIND;
        }
        pool_submit(first->pool, first);
        return true;
}

bool pool_shares_workers(const struct pool *pool, const struct pool *other) {
        return pool->crew == other->crew && pool->state == POOL_READY && other->state == POOL_READY;
}

static void give(struct pool *pool, struct worker *worker, struct step *step) {
        int r;

        dequeue(pool, step);
        r = worker_give(worker, step);
        if (r == -EMSGSIZE)
                step_finish(step, &(struct step_outcome){
                                          .cause = STEP_OVERSIZE,
                                          .message = "the call is longer than a message may be",
                                          .value = step_len(step),
                                          .maximum = pool->crew->layout.frame_bytes,
                                          .setting = "limits.frame_bytes",
                                  });
        else if (r < 0)
                finish_refused(step, &(struct step_outcome){.cause = STEP_NO_MEMORY, .message = "out of memory"});
}

static void refuse_waiting(struct pool *pool, enum step_cause cause, const char *message) {
        struct step *step;

        while ((step = TAILQ_FIRST(&pool->waiting)))
                finish(pool, step, &(struct step_outcome){.cause = cause, .message = message});
}

static void refuse_beyond_queue(struct pool *pool) {
        unsigned maximum = pool->entry->isolation.queue;

        while (pool->n_waiting > maximum)
                finish(pool, TAILQ_LAST(&pool->waiting, step_list),
                       &(struct step_outcome){
                               .cause = STEP_QUEUE_FULL,
                               .message = "too many calls wait for a worker of this plugin",
                               .value = pool->n_waiting,
                               .maximum = maximum,
                               .setting = "isolation.queue",
                       });
}

static bool cannot_start(const struct pool *pool) {
        return pool->state == POOL_FAILED && pool_count_workers(pool) == 0;
}

/* Return: whether one of the workers is left. */
static bool has_workers(const struct crew *crew) {
        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i])
                        return true;
        return false;
}

/* Return: whether the zygote is left, which goes when it has forked nobody that is. */
static bool has_zygote(const struct crew *crew) {
        if (crew->zygote)
                worker_stop(crew->zygote);
        return crew->zygote != NULL;
}

/* The workers go with the last pool. Return: whether the owner was told, which may have freed it. */
static bool work_on_closing(struct pool *pool) {
        refuse_waiting(pool, STEP_STOPPED, "the plugin is being stopped");
        if (pool->closed_told || (pool->crew->n_open == 0 && (has_workers(pool->crew) || has_zygote(pool->crew))))
                return false;
        pool->closed_told = true;
        crew_schedule(pool->crew);
        pool->closed(pool->closed_data, pool);
        return true;
}

/* Return: the step that has waited longest of those for which a worker has room; NULL: there is none. */
static struct step *pick_step(const struct crew *crew, struct worker **ret_worker) {
        struct step *best = NULL;

        for (unsigned i = 0; i < crew->n_pools; i++) {
                struct step *step = crew->pools[i] ? TAILQ_FIRST(&crew->pools[i]->waiting) : NULL;
                struct worker *worker;

                if (!step || (best && best->submitted_usec <= step->submitted_usec) ||
                    !(worker = pick_worker(crew->pools[i], step)))
                        continue;
                best = step;
                *ret_worker = worker;
        }
        return best;
}

/* Return: a step that waits with a chain, of which a plugin cannot start any more, or that no worker can be given; NULL: there is none. */
static struct step *find_broken_chain(const struct crew *crew) {
        struct step *step, *next;

        for (unsigned i = 0; i < crew->n_pools; i++) {
                if (!crew->pools[i])
                        continue;
                TAILQ_FOREACH(step, &crew->pools[i]->waiting, link) {
                        if (step->then && is_split(step))
                                return step;
                        for (next = step->then; next; next = next->then)
                                if (cannot_start(next->pool))
                                        return step;
                }
        }
        return NULL;
}

void crew_work(struct crew *crew) {
        struct worker *worker;
        struct step *step;

        for (unsigned i = 0; i < crew->n_pools; i++)
                if (crew->pools[i] && crew->pools[i]->closing && work_on_closing(crew->pools[i]))
                        return; /* the crew may be gone */
        while ((step = find_broken_chain(crew))) {
                dequeue(step->pool, step);
                step_return_chain(step);
                step->stats->n_calls--;
                step->on_returned(step); /* and submitted again, without that plugin */
        }
        while ((step = pick_step(crew, &worker)))
                give(step->pool, worker, step);
        for (unsigned i = 0; i < crew->n_pools; i++) {
                struct pool *pool = crew->pools[i];

                if (!pool)
                        continue;
                if (cannot_start(pool))
                        refuse_waiting(pool, STEP_START_FAILED, pool->error ? pool->error : "it cannot start");
                refuse_beyond_queue(pool);
        }
        crew_fill(crew);
}

static void on_work(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        crew_work(data);
}

static void on_watch(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        crew_look(data);
}

static void on_retry(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        crew_prepare(data);
}

/* ---- Life ---- */

static struct crew *crew_free(struct crew *crew) {
        if (!crew)
                return NULL;
        (void)worker_free(crew->zygote); /* and with it all that it has forked */
        for (unsigned i = 0; crew->workers && i < crew->n_slots; i++)
                crew->workers[i] = worker_free(crew->workers[i]);
        free(crew->workers);
        (void)venv_job_free(crew->job);
        if (crew->work)
                event_free(crew->work);
        if (crew->retry)
                event_free(crew->retry);
        if (crew->mend)
                event_free(crew->mend);
        if (crew->look_again)
                event_free(crew->look_again);
        if (crew->watch)
                event_free(crew->watch);
        free(crew->env);
        strlist_done(&crew->box);
        buf_done(&crew->fork);
        strlist_done(&crew->venv_options);
        free(crew->spec.members);
        free(crew->python);
        free(crew->fingerprint);
        free(crew->cache_dir);
        free(crew->name);
        free(crew->names);
        free(crew->pools);
        free(crew);
        return NULL;
}

static struct crew *crew_new(struct event_base *base, const struct plugin_entry *entry, const struct pool_layout *layout,
                             uint64_t generation) {
        const struct isolation *settings = &entry->isolation;
        struct crew *crew = calloc(1, sizeof(*crew));

        if (!crew)
                return NULL;
        crew->base = base;
        crew->layout = *layout;
        crew->layout.cache_dir = crew->cache_dir = strdup(layout->cache_dir);
        crew->layout.venv = NULL; /* may go before the crew does */
        crew->name = strdup(settings->group ? settings->group : entry->name);
        crew->backoff_usec = BACKOFF_MIN_USEC;
        crew->settings = *settings;
        crew->box_identity = settings->sandbox.identity;
        crew->venv_limits = venv_limits(layout->venv, &settings->sandbox);
        crew->n_slots = settings->workers_max + 1;
        crew->workers = calloc(crew->n_slots, sizeof(*crew->workers));
        crew->generation = generation;
        crew->work = event_new(base, -1, 0, on_work, crew);
        crew->retry = evtimer_new(base, on_retry, crew);
        crew->mend = evtimer_new(base, on_work, crew);
        crew->look_again = evtimer_new(base, on_work, crew);
        crew->watch = evtimer_new(base, on_watch, crew);
        crew->spec.server = settings->socket;
        if (!crew->cache_dir || !crew->name || !crew->workers || !crew->work || !crew->retry || !crew->mend ||
            !crew->look_again || !crew->watch || venv_options(&crew->venv_options, layout->venv, &settings->sandbox) < 0)
                return crew_free(crew);
        return crew;
}

static int crew_join(struct crew *crew, struct pool *pool) {
        struct pool **pools = realloc(crew->pools, (crew->n_pools + 1) * sizeof(struct pool *));
        struct worker_member *members;
        const char **names;

        if (!pools)
                return -ENOMEM;
        crew->pools = pools;
        members = realloc(crew->spec.members, (crew->n_pools + 1) * sizeof(*members));
        if (!members)
                return -ENOMEM;
        crew->spec.members = members;
        members[crew->n_pools] = (struct worker_member){0};
        names = realloc(crew->names, (crew->n_pools + 1) * sizeof(*names));
        if (!names)
                return -ENOMEM;
        crew->names = names;
        names[crew->n_pools] = pool->configured->name;
        pools[crew->n_pools] = pool;
        pool->crew = crew;
        pool->member = crew->n_pools++;
        crew->spec.n_members = crew->n_pools;
        crew->n_left++;
        crew->n_open++;
        return 0;
}

int pool_new(struct pool **ret, struct event_base *base, struct plugins_config *config, const struct plugin_entry *entry,
             const struct pool_layout *layout, uint64_t generation, struct pool *fellow, const struct pool_handler *handler,
             void *data) {
        struct pool *pool = calloc(1, sizeof(*pool));
        struct crew *crew;

        if (!pool)
                return -ENOMEM;
        pool->refs = 1;
        pool->config = plugins_config_ref(config);
        pool->entry = pool->configured = entry;
        pool->handler = handler;
        pool->data = data;
        pool->n_registered = entry->hooks.n;
        TAILQ_INIT(&pool->waiting);
        crew = fellow ? fellow->crew : crew_new(base, entry, layout, generation);
        if (!crew || crew_join(crew, pool) < 0) {
                if (!fellow)
                        (void)crew_free(crew);
                (void)pool_free(pool);
                return -ENOMEM;
        }
        *ret = pool;
        return 0;
}

bool pool_start(struct pool *pool) {
        if (pool->crew->started)
                return false;
        pool->crew->started = true;
        event_active(pool->crew->retry, EV_TIMEOUT, 0);
        return true;
}

void pool_take_entry(struct pool *pool, struct plugin_entry *entry) {
        pool->entry = pool->completed = entry;
        pool->n_registered = entry->hooks.n;
}

void pool_initialize(struct pool *pool) {
        struct crew *crew = pool->crew;

        crew->spec.members[pool->member].may_initialize = true;
        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i])
                        worker_initialize(crew->workers[i]);
}

struct pool *pool_ref(struct pool *pool) {
        pool->refs++;
        return pool;
}

static bool serves_same(const struct pool *pool, const struct pool *other, struct mp report) {
        bool same_code = !pool->entry->code || (pool->code && str_eq(pool->code, other->code));
        bool same_report = !pool_may_report(pool) || (report.len > 0 && report.len == pool->report.len &&
                                                      memcmp(report.data, pool->report.data, report.len) == 0);

        return pool->state == POOL_READY && !pool->closing && same_report && same_code &&
               plugin_entry_same(pool->configured, other->configured);
}

bool pool_serves_same(const struct pool *pool, const struct pool *other, struct mp report) {
        const struct crew *crew = pool->crew, *new = other->crew;

        if (crew->n_pools != new->n_pools || crew->n_open != crew->n_pools)
                return false;
        for (unsigned i = 0; i < crew->n_pools; i++)
                if (!serves_same(crew->pools[i], new->pools[i], report))
                        return false;
        return crew->box_identity == new->box_identity &&str_eq(crew->fingerprint, new->fingerprint) &&
               str_eq(crew->cache_dir, new->cache_dir) && str_eq(crew->layout.project_root, new->layout.project_root) &&
               crew->layout.frame_bytes == new->layout.frame_bytes && crew->layout.values == new->layout.values;
}

bool pool_close(struct pool *pool, void (*closed)(void *data, struct pool *pool), void *data) {
        struct crew *crew = pool->crew;

        if (--pool->refs > 0)
                return false;
        pool->closing = true;
        pool->closed = closed;
        pool->closed_data = data;
        crew->n_open--;
        crew->job = venv_job_free(crew->job);
        (void)event_del(crew->retry);
        crew_schedule(crew);
        /* Pools of a group may be closed with a long time in between. Who is not ready by now would yet ask for what is this pool's. */
        for (unsigned i = 0; i < crew->n_slots; i++) {
                struct worker *worker = crew->workers[i];

                if (worker && (worker_state(worker) < WORKER_READY || (crew->n_open == 0 && worker_calls_open(worker) == 0)))
                        worker_stop(worker);
        }
        return true;
}

/* One that is freed without having been closed may have calls in the workers, also those of its group. */
static void crew_leave(struct pool *pool) {
        struct crew *crew = pool->crew;

        if (!pool->closing)
                crew->n_open--;
        pool->closing = true;
        refuse_waiting(pool, STEP_STOPPED, "the daemon is stopping");
        if (!pool->closed_told)
                crew->zygote = worker_free(crew->zygote); /* and with it all that it has forked */
        for (unsigned i = 0; i < crew->n_slots && !pool->closed_told; i++)
                crew->workers[i] = worker_free(crew->workers[i]);
        crew->leaving = pool->closed_told ? crew->leaving : NULL;
        crew->pools[pool->member] = NULL;
        if (--crew->n_left == 0)
                (void)crew_free(crew);
}

struct pool *pool_free(struct pool *pool) {
        if (!pool || (pool->refs > 0 && --pool->refs > 0))
                return NULL;
        if (pool->crew)
                crew_leave(pool);
        buf_done(&pool->load);
        buf_done(&pool->init);
        buf_done(&pool->report);
        (void)plugin_entry_free(pool->completed);
        free(pool->code);
        plugins_config_free(pool->config);
        free(pool->error);
        free(pool->missing_hook);
        free(pool);
        return NULL;
}

enum pool_state pool_state(const struct pool *pool) {
        return pool->state;
}

const char *pool_error(const struct pool *pool) {
        return pool->error;
}

const char *pool_missing_hook(const struct pool *pool) {
        return pool->missing_hook;
}

size_t pool_registered_hooks(const struct pool *pool) {
        return pool->n_registered;
}

const char *pool_python(const struct pool *pool) {
        return pool->crew->python;
}

size_t pool_put_box(const struct pool *pool, struct buf *buf) {
        CLEANUP(strlist_done) struct strlist fellows = {0};

        for (unsigned i = 0; i < pool->crew->n_pools; i++)
                if (pool->crew->pools[i] && pool->crew->pools[i] != pool && box_code(&fellows, pool->crew->pools[i]->entry) < 0)
                        buf->error = -ENOMEM;
        return box_put(buf, pool->entry, &fellows, pool->crew->python);
}

const char *pool_fingerprint(const struct pool *pool) {
        return pool->crew->fingerprint;
}

unsigned pool_member(const struct pool *pool) {
        return pool->member;
}

void pool_note_failure(struct pool *pool) {
        pool->n_errors++;
}

void pool_disable(struct pool *pool) {
        struct log_scope scope = {.plugin = pool->entry->name};

        if (!pool->disabled)
                log_write(LOG_LEVEL_WARNING, &scope, "disabled until the next reload, after an error (on_error: disable)");
        pool->disabled = true;
}

void pool_enable(struct pool *pool) {
        pool->disabled = false;
}

bool pool_is_disabled(const struct pool *pool) {
        return pool->disabled;
}

const struct step_stats *pool_stats(const struct pool *pool) {
        return &pool->stats;
}
