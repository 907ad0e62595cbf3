/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fire and forget: a plugin runs on without its invocation. It keeps a reference on the generation, so that a reload or a stop
 * drains it, and it is bounded by its pool's queue, timeout and drain like any call. Nobody hears of its outcome but the log, and
 * `on_error: disable`.
 */

#include "pipeline/turn.h"

struct background {
        TAILQ_ENTRY(background) link;
        struct step step;
        struct generation *generation;
        const struct plugin *plugin;
};

/* What happened, in words: the daemon's, or the exception's. */
static struct mp failure_text(const struct step_outcome *outcome) {
        if (outcome->message)
                return (struct mp){(const uint8_t *)outcome->message, strlen(outcome->message)};
        return mp_map_text(outcome->error, "message");
}

static void on_failure(const struct background *background, const struct step_outcome *outcome) {
        const struct plugin_entry *entry = background->plugin->entry;
        struct log_scope scope = {.plugin = entry->name, .generation = background->generation->number};
        struct mp text = failure_text(outcome);

        log_write(LOG_LEVEL_WARNING, &scope, "failed in the background: %s: %.*s", step_cause_name(outcome->cause),
                  (int)MIN(text.len, (size_t)1024), (const char *)text.data);
        pool_note_failure(background->plugin->pool);
        if (entry->on_error == ON_ERROR_DISABLE && cause_disables(outcome->cause))
                pool_disable(background->plugin->pool);
}

static void background_free(struct background *background) {
        TAILQ_REMOVE(&background->generation->background, background, link);
        step_done(&background->step);
        generation_unref(background->generation);
        free(background);
}

static void on_done(struct step *step, const struct step_outcome *outcome) {
        struct background *background = CONTAINER_OF(step, struct background, step);

        /* Nobody looks at what a background plugin returns. */
        if (outcome->cause != STEP_ANSWERED && !(outcome->cause == STEP_RAISED && is_junk_result(outcome->error)))
                on_failure(background, outcome);
        background_free(background);
}

/* Return: NULL: no memory. */
static struct background *background_new(struct generation *generation, const struct plugin *plugin) {
        struct background *background = calloc(1, sizeof(*background));

        if (!background)
                return NULL;
        background->generation = generation_ref(generation);
        background->plugin = plugin;
        background->step.on_done = on_done;
        background->step.timeout_usec = plugin->entry->isolation.timeout_usec;
        background->step.deadline_usec = USEC_INFINITY;
        TAILQ_INSERT_TAIL(&generation->background, background, link);
        return background;
}

/* Listed twice for a hook, a background plugin still runs once a call. */
static bool is_repeated(const struct turn *turn) {
        for (const struct turn *other = turn->invocation->turns; other < turn; other++)
                if (other->plugin == turn->plugin)
                        return true;
        return false;
}

void background_start(struct turn *turn) {
        struct invocation *invocation = turn->invocation;
        struct background *background;
        struct record record = {
                .plugin = turn->plugin,
                .hook = invocation->in.hook,
                .status = RECORD_COMPLETED,
                .requested_allow = STATE_NONE,
                .matched = STATE_NONE,
                .effective_allow = true,
        };

        turn->state = TURN_OVER;
        if (is_repeated(turn))
                return;
        background = background_new(invocation->generation, turn->plugin);
        if (!background || turn_put_params(turn, &background->step) < 0) {
                if (background)
                        background_free(background);
                log_error("a background plugin was not started: out of memory");
                return;
        }
        record_put(&record, &invocation->records);
        invocation->n_records++;
        turn->decision = TURN_STARTED;
        pool_submit(turn->plugin->pool, &background->step);
}

/* ---- An upgrade ---- */

void background_save(const struct generation *generation, struct carry *carry) {
        size_t array = mp_array_begin(&carry->out), n = 0;
        const struct background *background;

        TAILQ_FOREACH(background, &generation->background, link) {
                mp_put_map(&carry->out, 2);
                mp_put_str(&carry->out, "plugin");
                mp_put_str(&carry->out, background->plugin->entry->name);
                mp_put_str(&carry->out, "step");
                pool_save_step(&background->step, carry);
                n++;
        }
        mp_array_end(&carry->out, array, n);
}

int background_adopt(struct generation *generation, struct mp saved) {
        struct carry_items items = carry_items(saved);
        struct mp item;

        while (carry_next(&items, &item)) {
                const struct plugin *plugin = generation_adopted_plugin(generation, item);
                struct background *background = plugin ? background_new(generation, plugin) : NULL;
                int r = plugin ? -ENOMEM : -EBADMSG;

                if (background)
                        r = pool_adopt_step(plugin->pool, &background->step, mp_map_value(item, "step"));
                if (r < 0)
                        return r;
        }
        return 0;
}
