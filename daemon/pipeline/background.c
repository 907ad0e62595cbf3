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

static void on_done(struct step *step, const struct step_outcome *outcome) {
        struct background *background = CONTAINER_OF(step, struct background, step);
        struct log_scope scope = {.plugin = background->plugin->entry->name};

        if (outcome->cause != STEP_ANSWERED) {
                log_write(LOG_LEVEL_WARNING, &scope, "failed in the background: %s%s%s", step_cause_name(outcome->cause),
                          outcome->message ? ": " : "", outcome->message ? outcome->message : "");
                if (background->plugin->entry->on_error == ON_ERROR_DISABLE && outcome->cause != STEP_QUEUE_FULL &&
                    outcome->cause != STEP_QUEUE_TIMEOUT && outcome->cause != STEP_STOPPED)
                        pool_disable(background->plugin->pool);
        }
        step_done(step);
        generation_unref(background->generation);
        free(background);
}

void background_start(struct turn *turn) {
        struct invocation *invocation = turn->invocation;
        struct background *background = calloc(1, sizeof(*background));
        struct record record = {
                .plugin = turn->plugin,
                .hook = invocation->in.hook,
                .status = RECORD_COMPLETED,
                .requested_allow = STATE_NONE,
                .matched = STATE_NONE,
                .effective_allow = true,
        };

        turn->state = TURN_OVER;
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
        pool_submit(turn->plugin->pool, &background->step);
}
