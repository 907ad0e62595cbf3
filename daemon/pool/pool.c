/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The pool decides in one place, pool_work(), which runs after anything that may have changed the answer: a step came, a call ended,
 * a worker became ready or died. It hands waiting steps to workers with room and starts a worker when steps still wait. It never calls
 * a step's on_done itself from inside pool_submit(): refusals are kept as waiting steps and are refused by the same
 * function on the next turn of the loop, so that no caller has to expect its outcome before its own call has returned.
 */

#include "pool/private.h"

#include <stdio.h>

#include "base/loop.h"
#include "base/timer.h"
#include "pool/box.h"
#include "pool/calls.h"
#include "pool/environment.h"
#include "venv/options.h"

void pool_schedule(struct pool *pool) {
        event_active(pool->work, EV_TIMEOUT, 0);
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

static void finish(struct pool *pool, struct step *step, const struct step_outcome *outcome) {
        dequeue(pool, step);
        step_finish(step, outcome);
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
}

/* Return: the worker with room that has the fewest calls, NULL if all are full. */
static struct worker *pick_worker(const struct pool *pool, const struct step *step) {
        struct worker *best = NULL;

        for (unsigned i = 0; i < pool->n_slots; i++) {
                struct worker *worker = pool->workers[i];

                if (!worker || !worker_accepts(worker, step_len(step)) ||
                    worker_calls_active(worker) >= pool->entry->isolation.max_concurrent)
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
        evtimer_assign(&step->timer, pool->base, on_wait_timer, step);
        timer_start_at(&step->timer, expires_usec);
        pool_schedule(pool);
}

void pool_submit(struct pool *pool, struct step *step) {
        struct worker *worker;
        usec_t left;

        step->pool = pool;
        step->stats = &pool->stats;
        step->submitted_usec = clock_now_usec();
        step->given_usec = 0;
        pool->n_calls++;
        /* The way of nearly every call. Whatever is in the way is dealt with on the next turn of the loop, by pool_work(). */
        if (pool->n_waiting == 0 && !pool->closing && (worker = pick_worker(pool, step)) && worker_give(worker, step) == 0)
                return;

        left = step_time_left(step, step->submitted_usec);
        if (pool->state == POOL_STARTING && step->deadline_usec == USEC_INFINITY)
                left = MAX(left, pool->entry->isolation.startup_timeout_usec);
        if (pool->entry->isolation.queue_timeout_usec)
                left = MIN(left, pool->entry->isolation.queue_timeout_usec);
        pool_enqueue(pool, step, step->submitted_usec + left);
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
                                          .maximum = pool->layout.frame_bytes,
                                          .setting = "limits.frame_bytes",
                                  });
        else if (r < 0)
                step_finish(step, &(struct step_outcome){.cause = STEP_NO_MEMORY, .message = "out of memory"});
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

static void work_on_closing(struct pool *pool) {
        refuse_waiting(pool, STEP_STOPPED, "the plugin is being stopped");
        for (unsigned i = 0; i < pool->n_slots; i++)
                if (pool->workers[i])
                        return;
        if (!pool->closed_told) {
                pool->closed_told = true;
                pool->closed(pool->closed_data, pool); /* may free the pool */
        }
}

void pool_work(struct pool *pool) {
        struct worker *worker;
        struct step *step;

        if (pool->closing) {
                work_on_closing(pool);
                return;
        }
        while ((step = TAILQ_FIRST(&pool->waiting)) && (worker = pick_worker(pool, step)))
                give(pool, worker, step);
        if (pool->state == POOL_FAILED && crew_count(pool, WORKER_READY) == 0)
                refuse_waiting(pool, STEP_START_FAILED, pool->error ? pool->error : "it cannot start");
        refuse_beyond_queue(pool);
        crew_fill(pool);
}

static void on_work(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        pool_work(data);
}

static void on_watch(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        crew_look(data);
}

/* ---- Venv ---- */

/* All is there to start workers with. */
static void become_prepared(struct pool *pool) {
        if (!pool->prepared_told) {
                pool->prepared_told = true;
                pool->superseded = pool->handler->superseded(pool->data, pool);
        }
        pool_schedule(pool);
}

static void on_venv(void *data, const struct venv_result *result) {
        CLEANUP_FREE char *python = NULL, *fingerprint = NULL;
        struct pool *pool = data;

        if (result->error) {
                pool_fail(pool, result->error);
        } else if (!(python = strdup(result->python)) || !(fingerprint = strdup(result->fingerprint))) {
                pool_fail(pool, "out of memory");
        } else {
                pool->python = TAKE(python);
                pool->fingerprint = TAKE(fingerprint);
                if (!pool->code && result->code)
                        pool->code = strdup(result->code);
                pool->spec.process.python = pool->python;
                become_prepared(pool);
        }
        pool->job = venv_job_free(pool->job);
}

static void start_venv(struct pool *pool) {
        const struct venv_spec spec = {
                .builder = pool->layout.venv_builder,
                .cache_dir = pool->layout.cache_dir,
                .python = pool->entry->isolation.python,
                .requirements = pool->entry->requirements_file,
                .code = pool->entry->code,
                .plugin = pool->entry->name,
                .options = &pool->venv_options,
                .limits = pool->venv_limits,
        };
        char reason[128];
        int r = venv_job_start(&pool->job, pool->base, &spec, on_venv, pool);

        if (r < 0) {
                (void)snprintf(reason, sizeof(reason), "%s cannot be run: %s", spec.builder, strerror(-r));
                pool_fail(pool, reason);
        }
}

/* The parameters of `load`, or of `hello` to a plugin server (docs/protocol.md). */
static int put_load(struct buf *buf, const struct plugin_entry *entry, const struct pool_layout *layout) {
        if (entry->isolation.socket) {
                mp_put_map(buf, 2);
                mp_put_str(buf, "client");
                mp_put_str(buf, "cpexd");
                mp_put_str(buf, "version");
                mp_put_uint(buf, 1);
                return buf_error(buf);
        }
        mp_put_map(buf, 4);
        mp_put_str(buf, "class_name");
        mp_put_str(buf, entry->class_name);
        mp_put_str(buf, "folder");
        mp_put_str(buf, layout->project_root);
        mp_put_str(buf, "paths");
        mp_put_array(buf, entry->script_path != NULL);
        if (entry->script_path)
                mp_put_str(buf, entry->script_path);
        mp_put_str(buf, "more_paths");
        mp_put_array(buf, entry->more_paths.n);
        for (size_t i = 0; i < entry->more_paths.n; i++)
                mp_put_str(buf, entry->more_paths.items[i]);
        return buf_error(buf);
}

/* The parameters of `init`. */
static int put_init(struct buf *buf, const struct plugin_entry *entry, const struct pool_layout *layout, uint64_t generation) {
        mp_put_map(buf, 5);
        mp_put_str(buf, "plugin");
        mp_put_raw(buf, (struct mp){entry->entry.data, entry->entry.len});
        mp_put_str(buf, "hooks");
        mp_put_array(buf, entry->hooks.n);
        for (size_t i = 0; i < entry->hooks.n; i++)
                mp_put_str(buf, entry->hooks.items[i]);
        mp_put_str(buf, "max_concurrent");
        mp_put_uint(buf, entry->isolation.max_concurrent);
        mp_put_str(buf, "frame_bytes");
        mp_put_uint(buf, layout->frame_bytes);
        mp_put_str(buf, "generation");
        mp_put_uint(buf, generation);
        return buf_error(buf);
}

int pool_make_spec(struct pool *pool) {
        const struct plugin_entry *entry = pool->configured;
        const struct pool_layout *layout = &pool->layout;
        char **env = environment_for_worker(&entry->isolation.env);

        strlist_done(&pool->box);
        buf_done(&pool->load);
        buf_done(&pool->init);
        if (!env || box_options(&pool->box, entry) < 0 || put_load(&pool->load, entry, layout) < 0 ||
            put_init(&pool->init, entry, layout, pool->generation) < 0) {
                free(env);
                return -ENOMEM;
        }
        pool->env = env;
        pool->spec = (struct worker_spec){
                .process =
                        {
                                .plugin = entry->name,
                                .launcher = layout->launcher,
                                .shim_dir = layout->shim_dir,
                                .ext_dir = layout->ext_dir,
                                .sdk_dir = layout->sdk_dir,
                                .env = env,
                                .box = &pool->box,
                                .scratch = entry->isolation.sandbox.profile != SANDBOX_OFF,
                                .files = entry->isolation.files,
                                .limits =
                                        {
                                                .memory_bytes = entry->isolation.memory_bytes,
                                                .tasks = entry->isolation.sandbox.tasks,
                                                .cpu_percent = entry->isolation.cpu_percent,
                                        },
                        },
                .server = entry->isolation.socket,
                .load = {pool->load.data, pool->load.len},
                .init = {pool->init.data, pool->init.len},
                .startup_timeout_usec = entry->isolation.startup_timeout_usec,
                .frame_bytes = layout->frame_bytes,
                .values = layout->values,
        };
        return 0;
}

static void on_retry(evutil_socket_t fd, short what, void *data) {
        struct pool *pool = data;

        (void)fd;
        (void)what;
        if (pool->env && loop_is_late())
                crew_put_off(pool);
        else if (!pool->env && pool_make_spec(pool) < 0)
                pool_fail(pool, "out of memory");
        else if (!pool_needs_venv(pool))
                become_prepared(pool);
        else if (!pool->job)
                start_venv(pool);
}

/* ---- Life ---- */

int pool_new(struct pool **ret, struct event_base *base, struct plugins_config *config, const struct plugin_entry *entry,
             const struct pool_layout *layout, uint64_t generation, const struct pool_handler *handler, void *data) {
        struct pool *pool = calloc(1, sizeof(*pool));

        if (!pool)
                return -ENOMEM;
        pool->refs = 1;
        pool->config = plugins_config_ref(config);
        pool->base = base;
        pool->entry = pool->configured = entry;
        pool->layout = *layout;
        pool->layout.cache_dir = pool->cache_dir = strdup(layout->cache_dir);
        pool->layout.venv = NULL; /* may go before the pool does */
        pool->handler = handler;
        pool->data = data;
        pool->backoff_usec = BACKOFF_MIN_USEC;
        pool->n_registered = entry->hooks.n;
        pool->box_identity = entry->isolation.sandbox.identity;
        pool->venv_limits = venv_limits(layout->venv, &entry->isolation.sandbox);
        TAILQ_INIT(&pool->waiting);
        pool->n_slots = entry->isolation.workers_max + 1;
        pool->workers = calloc(pool->n_slots, sizeof(*pool->workers));
        pool->generation = generation;
        pool->work = event_new(base, -1, 0, on_work, pool);
        pool->retry = evtimer_new(base, on_retry, pool);
        pool->look_again = evtimer_new(base, on_work, pool);
        pool->watch = evtimer_new(base, on_watch, pool);
        pool->spec.server = entry->isolation.socket;
        if (!pool->cache_dir || !pool->workers || !pool->work || !pool->retry || !pool->look_again || !pool->watch ||
            venv_options(&pool->venv_options, layout->venv, &entry->isolation.sandbox) < 0) {
                (void)pool_free(pool);
                return -ENOMEM;
        }
        *ret = pool;
        return 0;
}

void pool_start(struct pool *pool) {
        event_active(pool->retry, EV_TIMEOUT, 0);
}

void pool_take_entry(struct pool *pool, struct plugin_entry *entry) {
        pool->entry = pool->completed = entry;
        pool->n_registered = entry->hooks.n;
}

void pool_initialize(struct pool *pool) {
        pool->may_initialize = true;
        for (unsigned i = 0; i < pool->n_slots; i++)
                if (pool->workers[i])
                        worker_initialize(pool->workers[i]);
}

struct pool *pool_ref(struct pool *pool) {
        pool->refs++;
        return pool;
}

bool pool_serves_same(const struct pool *pool, const struct pool *other, struct mp report) {
        bool same_code = !pool->entry->code || (pool->code && str_eq(pool->code, other->code));
        bool same_report = !pool_may_report(pool) || (report.len > 0 && report.len == pool->report.len &&
                                                      memcmp(report.data, pool->report.data, report.len) == 0);

        return pool->state == POOL_READY && !pool->closing && same_report && same_code &&
               pool->box_identity == other->box_identity && str_eq(pool->fingerprint, other->fingerprint) &&
               str_eq(pool->cache_dir, other->cache_dir) && str_eq(pool->layout.project_root, other->layout.project_root) &&
               pool->layout.frame_bytes == other->layout.frame_bytes && pool->layout.values == other->layout.values &&
               plugin_entry_same(pool->configured, other->configured);
}

bool pool_close(struct pool *pool, void (*closed)(void *data, struct pool *pool), void *data) {
        if (--pool->refs > 0)
                return false;
        pool->closing = true;
        pool->closed = closed;
        pool->closed_data = data;
        pool->job = venv_job_free(pool->job);
        (void)event_del(pool->retry);
        for (unsigned i = 0; i < pool->n_slots; i++)
                if (pool->workers[i] && worker_calls_open(pool->workers[i]) == 0)
                        worker_stop(pool->workers[i]);
        pool_schedule(pool);
        return true;
}

struct pool *pool_free(struct pool *pool) {
        if (!pool || (pool->refs > 0 && --pool->refs > 0))
                return NULL;
        pool->closing = true;
        refuse_waiting(pool, STEP_STOPPED, "the daemon is stopping");
        for (unsigned i = 0; pool->workers && i < pool->n_slots; i++)
                (void)worker_free(pool->workers[i]);
        free(pool->workers);
        (void)venv_job_free(pool->job);
        if (pool->work)
                event_free(pool->work);
        if (pool->retry)
                event_free(pool->retry);
        if (pool->look_again)
                event_free(pool->look_again);
        if (pool->watch)
                event_free(pool->watch);
        buf_done(&pool->load);
        buf_done(&pool->init);
        buf_done(&pool->report);
        (void)plugin_entry_free(pool->completed);
        free(pool->env);
        strlist_done(&pool->box);
        strlist_done(&pool->venv_options);
        free(pool->python);
        free(pool->fingerprint);
        free(pool->code);
        free(pool->cache_dir);
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
        return pool->python;
}

size_t pool_put_box(const struct pool *pool, struct buf *buf) {
        return box_put(buf, pool->entry, pool->python);
}

const char *pool_fingerprint(const struct pool *pool) {
        return pool->fingerprint;
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
