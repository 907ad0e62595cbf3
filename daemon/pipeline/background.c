/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fire and forget: a plugin runs on without its invocation. It keeps a reference on the generation, so that a reload or a stop
 * drains it, and it is bounded by its pool's queue, timeout and drain like any call. Nobody hears of its outcome but the log, and
 * `on_error: disable`.
 */

#include "pipeline/turn.h"

struct background {
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

static void on_done(struct step *step, const struct step_outcome *outcome) {
        struct background *background = CONTAINER_OF(step, struct background, step);

        /* Nobody looks at what a background plugin returns. */
        if (outcome->cause != STEP_ANSWERED && !(outcome->cause == STEP_RAISED && is_junk_result(outcome->error)))
                on_failure(background, outcome);
        step_done(step);
        generation_unref(background->generation);
        free(background);
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
        background = calloc(1, sizeof(*background));
        if (!background || turn_put_params(turn, &background->step.params) < 0) {
                if (background)
                        step_done(&background->step);
                free(background);
                log_error("a background plugin was not started: out of memory");
                return;
        }
        background->generation = generation_ref(invocation->generation);
        background->plugin = turn->plugin;
        background->step.on_done = on_done;
        background->step.timeout_usec = turn->plugin->entry->isolation.timeout_usec;
        background->step.deadline_usec = USEC_INFINITY;
        record_put(&record, &invocation->records);
        invocation->n_records++;
        turn->decision = TURN_STARTED;
        pool_submit(turn->plugin->pool, &background->step);
}
