/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The machine: which turn is next, and when an invocation is over. It is re-entered from exactly two places, the start and the end of
 * a step, and goes on in advance() until something has to be waited for. What an outcome means is not known here (outcome.c).
 */

#include "pipeline/turn.h"

#include "pipeline/condition.h"
#include "pipeline/extensions.h"
#include "pipeline/size.h"

static void advance(struct invocation *invocation);

static void on_later(evutil_socket_t fd, short what, void *data) {
        struct invocation *invocation = data;

        (void)fd;
        (void)what;
        invocation->on_done(invocation->data, invocation);
}

/* ---- Selection ---- */

/* Return: whether CPEX would have this plugin registered for the hook: it started, and has the method. */
static bool is_registered(const struct plugin *plugin, const struct hook *hook) {
        size_t n = pool_registered_hooks(plugin->pool);

        for (size_t i = 0; i < n && pool_state(plugin->pool) != POOL_FAILED; i++)
                if (str_eq(plugin->entry->hooks.items[i], hook->name))
                        return true;
        return false;
}

static bool is_selected(const struct invocation *invocation, const struct plugin *plugin) {
        const struct request *in = &invocation->in;

        if (in->plugin.len > 0 && !mp_eq_str(in->plugin, plugin->entry->name))
                return false;
        if (in->direct)
                return invocation->n_turns == 0; /* once, though its entry may name the hook twice */
        return !pool_is_disabled(plugin->pool) && conditions_match(plugin->entry, in);
}

static void select_turns(struct invocation *invocation) {
        const struct hook *hook = invocation->hook;
        bool skip = invocation->generation->daemon->startup_skip, anybody = false;

        for (size_t i = 0; hook && i < hook->phase_start[PHASE_MAX_]; i++) {
                struct turn *turn = &invocation->turns[invocation->n_turns];

                if (skip && !is_registered(hook->plugins[i], hook))
                        continue;
                anybody = true;
                if (!is_selected(invocation, hook->plugins[i]))
                        continue;
                turn->invocation = invocation;
                turn->plugin = hook->plugins[i];
                invocation->n_turns++;
        }
        if (!anybody)
                invocation->hook = NULL;
}

static enum phase turn_phase(const struct turn *turn) {
        return turn->invocation->in.direct ? PHASE_SEQUENTIAL : phase_of(turn->plugin->entry->mode);
}

/* ---- Turns ---- */

static void withdraw_running(struct invocation *invocation) {
        for (size_t i = 0; i < invocation->n_turns; i++) {
                struct turn *turn = &invocation->turns[i];

                if (turn->state != TURN_RUNNING)
                        continue;
                pool_withdraw(&turn->step);
                turn->state = turn->step.submitted_usec > 0 ? TURN_OVER : TURN_PENDING; /* of a chain that did not come so far */
                invocation->n_running--;
        }
}

void turn_on_step_done(struct step *step, const struct step_outcome *outcome) {
        struct turn *turn = CONTAINER_OF(step, struct turn, step);
        struct invocation *invocation = turn->invocation;

        turn->state = TURN_OVER;
        invocation->n_running--;
        turn_conclude(turn, outcome);
        step_done(step);
        if (turn + 1 < invocation->turns + invocation->n_turns && turn_phase(turn) < PHASE_CONCURRENT)
                turn[1].started_nsec = clock_now_nsec(); /* the next of a chain runs; any other is not begun yet */
        advance(invocation);
}

/* A chain ended before it, or before it began. The step at which it did so still runs, and goes on from here when it has its outcome; else this is
 * the first. */
void turn_on_step_returned(struct step *step) {
        struct turn *turn = CONTAINER_OF(step, struct turn, step);
        struct invocation *invocation = turn->invocation;

        turn->state = TURN_PENDING;
        invocation->n_running--;
        invocation->next = MIN(invocation->next, (size_t)(turn - invocation->turns));
        step_done(step);
        if (invocation->n_running == 0)
                advance(invocation);
}

/* Return: whether the worker's parameters are written; if not, the turn is over. */
static bool prepare_turn(struct turn *turn) {
        if (turn->step.params.len > 0 || turn_put_params(turn, &turn->step) == 0)
                return true;
        turn->state = TURN_OVER;
        turn_conclude(turn, &(struct step_outcome){.cause = STEP_NO_MEMORY, .message = "out of memory"});
        return false;
}

static void run_turn(struct turn *turn) {
        struct invocation *invocation = turn->invocation;

        turn->state = TURN_RUNNING;
        buf_set(&turn->context, turn_own_context(turn)); /* what it keeps if it fails or is cancelled */
        turn->step.on_done = turn_on_step_done;
        turn->step.on_returned = turn_on_step_returned;
        turn->step.timeout_usec = turn->plugin->entry->isolation.timeout_usec;
        turn->step.deadline_usec = invocation->deadline_usec;
        turn->step.pool = turn->plugin->pool;
        invocation->n_running++;
}

static void start_turn(struct turn *turn) {
        turn->started_nsec = clock_now_nsec();
        if (!prepare_turn(turn))
                return;
        run_turn(turn);
        pool_submit(turn->plugin->pool, &turn->step);
}

/* Return: how many turns from this one on may be one chain: serial ones of different plugins with the same workers. What one and the same
 * plugin gets the second time depends on the first. */
static size_t chain_length(const struct turn *turn) {
        const struct invocation *invocation = turn->invocation;
        size_t left = invocation->n_turns - (size_t)(turn - invocation->turns), n = 1;

        for (; n < MIN(left, (size_t)CHAIN_MAX); n++) {
                if (turn[n].state != TURN_PENDING || turn_phase(&turn[n]) >= PHASE_CONCURRENT ||
                    !pool_shares_workers(turn->plugin->pool, turn[n].plugin->pool))
                        break;
                for (size_t i = 0; i < n; i++)
                        if (turn[i].plugin == turn[n].plugin)
                                return n;
        }
        return n;
}

/* Return: whether a worker has this turn and those after it as a chain. If not, nothing has happened. */
static bool start_chain(struct turn *turn) {
        struct invocation *invocation = turn->invocation;
        size_t n = turn_phase(turn) < PHASE_CONCURRENT ? chain_length(turn) : 1;

        if (n == 1)
                return false;
        turn->started_nsec = clock_now_nsec();
        for (size_t i = 0; i < n; i++) {
                run_turn(&turn[i]);
                turn[i].step.then = i + 1 < n ? &turn[i + 1].step : NULL;
        }
        if (turn_put_chain(turn, n, &turn->step) == 0 && pool_submit_chain(&turn->step)) {
                invocation->next += n - 1;
                return true;
        }
        for (size_t i = 0; i < n; i++) {
                turn[i].state = TURN_PENDING;
                turn[i].step.then = NULL;
                invocation->n_running--;
        }
        step_done(&turn->step);
        return false;
}

/* All plugins of the concurrent phase see the state from its start, also those that have to wait for execution_pool. */
static void prepare_concurrent(struct invocation *invocation) {
        for (size_t i = invocation->next; i < invocation->n_turns && invocation->ending == ENDING_NONE; i++)
                if (turn_phase(&invocation->turns[i]) == PHASE_CONCURRENT)
                        (void)prepare_turn(&invocation->turns[i]);
        buf_set(&invocation->start_state, buf_mp(&invocation->state));
        buf_set(&invocation->start_metadata, buf_mp(&invocation->global_metadata));
        invocation->concurrent_prepared = true;
}

/* Return: whether another turn may be started now. */
static bool may_start(const struct invocation *invocation, const struct turn *turn) {
        if (turn && turn_phase(turn) == PHASE_CONCURRENT && invocation->concurrent_prepared)
                return invocation->n_running < invocation->generation->config->execution_pool;
        return invocation->n_running == 0;
}

/* Background plugins run after a pass and after a block, but not after an error. */
static void start_background(struct invocation *invocation) {
        for (size_t i = 0; i < invocation->n_turns; i++)
                if (turn_phase(&invocation->turns[i]) == PHASE_BACKGROUND && invocation->turns[i].state == TURN_PENDING)
                        background_start(&invocation->turns[i]);
}

static void advance(struct invocation *invocation) {
        while (invocation->ending == ENDING_NONE) {
                struct turn *turn = invocation->next < invocation->n_turns ? &invocation->turns[invocation->next] : NULL;

                if (!may_start(invocation, turn))
                        break;
                if (!turn || turn_phase(turn) == PHASE_BACKGROUND) {
                        invocation->ending = ENDING_ALLOWED;
                } else if (turn_phase(turn) == PHASE_CONCURRENT && !invocation->concurrent_prepared) {
                        prepare_concurrent(invocation);
                } else {
                        invocation->next++;
                        if (turn->state == TURN_PENDING && !start_chain(turn))
                                start_turn(turn);
                }
        }
        if (invocation->ending == ENDING_NONE)
                return;
        withdraw_running(invocation);
        if (invocation->ending == ENDING_ALLOWED || invocation->ending == ENDING_BLOCKED)
                start_background(invocation);
        if (invocation->starting)
                event_active(invocation->later, EV_TIMEOUT, 0); /* the caller does not have the invocation yet */
        else
                invocation->on_done(invocation->data, invocation); /* frees the invocation */
}

/* ---- Life ---- */

/* What the host sends beside the payload goes to plugins in parts, or to none, so nobody else could refuse it. The payload is looked into
 * only if no worker does so in time for the answer. */
static void check_caller(struct invocation *invocation) {
        bool unseen = invocation->n_turns == 0 || turn_phase(&invocation->turns[0]) == PHASE_BACKGROUND;

        invocation->n_error = request_check(&invocation->in, unseen, &invocation->error);
        if (invocation->n_error > 0) {
                invocation->ending = ENDING_ERROR;
                return;
        }
        buf_set(&invocation->state, invocation->in.state);
        buf_set(&invocation->global_metadata, invocation->in.metadata);
}

static void check_size(struct invocation *invocation) {
        const char *what;
        bool measured = invocation->hook && !invocation->in.direct;
        uint64_t size = measured ? payload_size_beyond(invocation->in.payload, &what) : 0;
        CLEANUP_BUF struct buf message = {0};

        if (size == 0 || invocation->ending != ENDING_NONE)
                return;
        buf_printf(&message, "%s size %llu exceeds limit of %d bytes", what, (unsigned long long)size, PAYLOAD_SIZE_MAX);
        mp_put_str(&invocation->error, "type");
        mp_put_str(&invocation->error, "PayloadSizeError");
        mp_put_str(&invocation->error, "message");
        mp_put_strn(&invocation->error, message.data, message.len);
        invocation->n_error = 2;
        invocation->ending = ENDING_ERROR;
}

/* Return: whether the call names no plugin, or one that there is. */
static bool names_a_plugin(const struct generation *generation, const struct request *in) {
        if (in->plugin.len == 0)
                return true;
        for (size_t i = 0; i < generation->config->n_plugins; i++)
                if (mp_eq_str(in->plugin, generation->config->plugins[i].name))
                        return true;
        return false;
}

struct invocation *invocation_new(struct generation *generation, const struct request *in, struct mp params, struct buf *memory,
                                  size_t n_turns) {
        struct invocation *invocation = calloc(1, sizeof(*invocation) + n_turns * sizeof(struct turn));

        if (!invocation)
                return NULL;
        invocation->generation = generation_ref(generation);
        invocation->hook = generation_hook(generation, in->hook);
        invocation->later = event_new(generation->base, -1, 0, on_later, invocation);
        invocation->started_usec = clock_now_usec();
        invocation->deadline_usec = USEC_INFINITY;
        if (in->timeout_ms)
                invocation->deadline_usec = invocation->started_usec + MIN(in->timeout_ms, UINT32_MAX) * USEC_PER_MSEC;
        buf_share(&invocation->params, memory, params.data, params.len);
        if (!invocation->later || buf_error(&invocation->params))
                return invocation_free(invocation);
        invocation->in = *in;
        if (invocation->params.data != params.data)
                (void)request_parse(buf_mp(&invocation->params), &invocation->in); /* the same bytes again, now ours */
        if (generation->daemon->strip_headers > 0 && invocation->in.extensions.len > 0) {
                extensions_put_stripped(&invocation->stripped, invocation->in.extensions);
                if (buf_error(&invocation->stripped))
                        return invocation_free(invocation);
                invocation->in.extensions = buf_mp(&invocation->stripped);
        }
        return invocation;
}

bool invocation_start(struct invocation **ret, struct generation *generation, struct mp params, struct buf *memory,
                      invocation_done on_done, void *data, struct refusal *ret_refusal) {
        struct invocation *invocation;
        const struct hook *hook;
        struct request in;
        const char *wrong = request_parse(params, &in);

        if (wrong) {
                *ret_refusal = (struct refusal){"bad_request", wrong};
                return false;
        }
        if (!names_a_plugin(generation, &in)) {
                *ret_refusal = (struct refusal){"unknown_plugin", "plugin: no plugin has that name"};
                return false;
        }
        hook = generation_hook(generation, in.hook);
        invocation = invocation_new(generation, &in, params, memory, hook ? hook->phase_start[PHASE_MAX_] : 0);
        if (!invocation) {
                *ret_refusal = (struct refusal){"limit", "out of memory"};
                return false;
        }
        invocation->on_done = on_done;
        invocation->data = data;
        select_turns(invocation);
        if (invocation->in.direct && invocation->n_turns == 0) {
                invocation_free(invocation);
                *ret_refusal = (struct refusal){"unknown_plugin", "plugin: it does not run on this hook"};
                return false;
        }
        check_caller(invocation);
        check_size(invocation);
        *ret = invocation;
        invocation->starting = true;
        advance(invocation);
        invocation->starting = false;
        return true;
}

struct invocation *invocation_free(struct invocation *invocation) {
        if (!invocation)
                return NULL;
        withdraw_running(invocation);
        for (size_t i = 0; i < invocation->n_turns; i++) {
                step_done(&invocation->turns[i].step);
                buf_done(&invocation->turns[i].context);
        }
        if (invocation->later)
                event_free(invocation->later);
        buf_done(&invocation->params);
        buf_done(&invocation->stripped);
        buf_done(&invocation->payload);
        buf_done(&invocation->payload_type);
        buf_done(&invocation->state);
        buf_done(&invocation->global_metadata);
        buf_done(&invocation->start_state);
        buf_done(&invocation->start_metadata);
        buf_done(&invocation->metadata);
        buf_done(&invocation->extensions);
        buf_done(&invocation->denial_metadata);
        buf_done(&invocation->records);
        buf_done(&invocation->violation);
        buf_done(&invocation->error);
        buf_done(&invocation->direct);
        generation_unref(invocation->generation);
        free(invocation);
        return NULL;
}
