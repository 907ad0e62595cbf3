/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call that was given up is kept without a step, so that its id is known, its place is not given away, and what the plugin may
 * still say of it reaches nobody.
 */

#include "pool/calls.h"

#include "base/core.h"
#include "base/timer.h"

#define STACKS_USEC (5 * USEC_PER_MSEC) /* two of these, and what the clock is coarse by, are below 20 ms */

struct worker_call {
        TAILQ_ENTRY(worker_call) link;
        struct calls *calls;
        struct step *step; /* NULL: nobody waits for it */
        uint32_t id;
        bool behind; /* one before it in its chain has not been answered */
        enum { CALL_RUNNING, CALL_CANCELLED, CALL_ASKED, CALL_GRACE } phase;
        struct event timer;
};

static unsigned n_begun; /* of all connections, and not over: those that are not behind */

void calls_init(struct calls *calls, struct event_base *base, uint32_t first_id, const struct calls_handler *handler,
                void *data) {
        *calls = (struct calls){.base = base, .next_id = first_id, .handler = handler, .data = data};
        TAILQ_INIT(&calls->all);
}

static void call_remove(struct worker_call *call) {
        struct calls *calls = call->calls;

        (void)event_del(&call->timer);
        TAILQ_REMOVE(&calls->all, call, link);
        calls->n--;
        calls->n_given_up -= !call->step;
        calls->n_over -= call->phase > CALL_RUNNING;
        calls->n_behind -= call->behind;
        n_begun -= !call->behind;
        free(call);
}

/* Parts the call from its step, which gets its outcome or is withdrawn. Return: the step. */
static struct step *call_give_up(struct worker_call *call) {
        struct step *step = call->step;

        step->place = STEP_NOWHERE;
        step->call = NULL;
        call->step = NULL;
        call->calls->n_given_up++;
        return step;
}

static void send_cancel(struct worker_call *call) {
        struct conn *conn = call->calls->conn;
        struct buf *out;

        if (!conn)
                return;
        out = conn_output(conn);
        rpc_put_notification(out, "cancel");
        mp_put_map(out, 1);
        mp_put_str(out, "msgid");
        mp_put_uint(out, call->id);
        conn_flush(conn);
}

static void enter(struct worker_call *call, unsigned phase, usec_t usec) {
        call->calls->n_over += call->phase == CALL_RUNNING;
        call->phase = phase;
        timer_start(&call->timer, usec);
}

static struct worker_call *find(struct calls *calls, uint32_t id) {
        struct worker_call *call;

        TAILQ_FOREACH(call, &calls->all, link)
                if (call->id == id)
                        return call;
        return NULL;
}

/* Return: the next one of the chain, which waits for this one; NULL: there is none. */
static struct worker_call *find_behind(const struct worker_call *call) {
        struct worker_call *next = find(call->calls, call->id + 1);

        return next && next->behind ? next : NULL;
}

static void hand_back(struct step *step) {
        step->given_usec = step->submitted_usec = 0;
        step->on_returned(step);
}

/* This one does not end in time, or not at all, and what comes of the rest of its chain is nobody's business: those have not begun. Should the
 * worker have begun one by now, it is to let go of it. */
static void give_up_behind(struct worker_call *call) {
        while ((call = find_behind(call)))
                if (call->step) {
                        send_cancel(call);
                        hand_back(call_give_up(call));
                }
}

/* The one before it has been answered, and the worker goes on with this one. */
static void become_first(struct worker_call *call) {
        call->behind = false;
        call->calls->n_behind--;
}

static void begin(struct worker_call *call) {
        struct step *step = call->step;

        call->calls->n_total++;
        n_begun++;
        if (!step) {
                enter(call, CALL_GRACE, CANCEL_GRACE_USEC);
                return;
        }
        step->submitted_usec = step->given_usec = clock_now_usec();
        step->stats->n_calls++;
        timer_start(&call->timer, step_time_left(step, step->given_usec));
}

/* The worker does not. Return: NULL. */
static struct worker_call *drop_behind(struct worker_call *call) {
        struct worker_call *next;

        for (; call; call = next) {
                struct step *step = call->step ? call_give_up(call) : NULL;

                next = find_behind(call);
                call_remove(call);
                if (step)
                        hand_back(step);
        }
        return NULL;
}

static void time_out(struct worker_call *call) {
        const struct calls_handler *handler = call->calls->handler;
        struct step_outcome outcome = {.cause = STEP_TIMEOUT, .message = "the plugin did not answer in time"};
        CLEANUP_BUF struct buf details = {0};
        struct step *step = call_give_up(call);

        if (call->phase == CALL_ASKED)
                handler->put_details(call->calls->data, &details);
        if (buf_error(&details) == 0)
                outcome.details = (struct mp){details.data, details.len};
        enter(call, CALL_GRACE, CANCEL_GRACE_USEC);
        step_finish(step, &outcome);
}

/* A call that was withdrawn has until its time is over: the plugin may be busy with it in earnest, and has other calls. */
static void on_timer(evutil_socket_t fd, short what, void *data) {
        struct worker_call *call = data;
        struct calls *calls = call->calls;

        (void)fd;
        (void)what;
        if (call->phase == CALL_GRACE) {
                calls->handler->on_stuck(calls->data);
        } else if (!call->step) {
                enter(call, CALL_GRACE, CANCEL_GRACE_USEC);
        } else if (call->phase == CALL_CANCELLED) {
                calls->handler->ask_stacks(calls->data);
                enter(call, CALL_ASKED, STACKS_USEC);
        } else if (call->phase == CALL_ASKED) {
                time_out(call);
        } else {
                give_up_behind(call);
                send_cancel(call);
                if (calls->handler->ask_stacks)
                        enter(call, CALL_CANCELLED, STACKS_USEC);
                else
                        time_out(call);
        }
}

/* Return: a call that nobody waits for yet; NULL: no memory. */
static struct worker_call *call_new(struct calls *calls) {
        struct worker_call *call = calloc(1, sizeof(*call));

        if (!call)
                return NULL;
        call->calls = calls;
        evtimer_assign(&call->timer, calls->base, on_timer, call);
        TAILQ_INSERT_TAIL(&calls->all, call, link);
        calls->n++;
        calls->n_given_up++;
        n_begun++;
        return call;
}

static void call_take_step(struct worker_call *call, struct step *step) {
        call->step = step;
        call->calls->n_given_up--;
        step->place = STEP_GIVEN;
        step->call = call;
}

/* Return: the call of the first; NULL: no memory. */
static struct worker_call *make_calls(struct calls *calls, struct step *step) {
        struct worker_call *first = NULL;

        for (; step; step = step->then) {
                struct worker_call *call = call_new(calls);

                if (!call) {
                        return drop_behind(first);
                }
                call->id = calls->next_id++;
                call->behind = first != NULL;
                calls->n_behind += call->behind;
                n_begun -= call->behind;
                first = first ? first : call;
        }
        return first;
}

static void take_steps(struct worker_call *call, struct step *step) {
        for (struct step *next; step; step = next, call = find_behind(call)) {
                next = step->then;
                step->then = NULL;
                call->calls->n_total += !call->behind;
                call_take_step(call, step);
        }
}

int calls_give(struct calls *calls, struct step *step) {
        struct worker_call *call = make_calls(calls, step);
        struct buf *out = conn_output(calls->conn);
        const char *method = step->then ? "chain" : "invoke";

        if (!call)
                return -ENOMEM;
        take_steps(call, step);
        step->given_usec = clock_now_usec();
        timer_start(&call->timer, step_time_left(step, step->given_usec));

        if (n_begun > 1)
                core_spread();
        if (calls->waits_on_core)
                rpc_tell_core(out, &calls->told_core);
        rpc_put_request(out, call->id, method);
        mp_put_raw(out, (struct mp){step->params.data, step->params.len});
        conn_put_tail(calls->conn, &step->payload);
        conn_flush(calls->conn);
        buf_done(&step->params);
        return 0;
}

void calls_withdraw(struct step *step) {
        struct worker_call *call = step->call;

        (void)call_give_up(call);
        send_cancel(call);
}

static struct step_outcome judge(const struct rpc_msg *msg, uint64_t values_max) {
        struct step_outcome outcome = {.cause = STEP_ANSWERED, .answer = msg->result, .error = msg->error, .memory = msg->memory};
        struct mp_cur result = mp_cur(msg->result);
        uint64_t values = rpc_values(msg, values_max);

        if (values > values_max)
                outcome = (struct step_outcome){.cause = STEP_OVERSIZE,
                                                .message = "its answer has more values than a message may have",
                                                .value = values,
                                                .maximum = values_max,
                                                .setting = "limits.values"};
        else if (!mp_is_nil(msg->error))
                outcome.cause = STEP_RAISED;
        else if (mp_peek(&result) != MP_MAP)
                outcome = (struct step_outcome){.cause = STEP_MALFORMED, .message = "the worker's answer is not a map"};
        return outcome;
}

/* A chain goes on when the outcome is told: it may be the end of the hook call, which then withdraws the rest. */
bool calls_answered(struct calls *calls, const struct rpc_msg *msg, uint64_t values_max) {
        struct step_outcome outcome = judge(msg, values_max);
        struct worker_call *call = find(calls, msg->id), *next;
        struct step *step;

        if (!call || call->behind) {
                calls->n_stray++;
                return false;
        }
        next = find_behind(call);
        if (next && outcome.cause == STEP_ANSWERED && answer_leaves_input(msg->error, msg->result))
                become_first(next);
        else
                next = drop_behind(next);
        if (call->phase > CALL_RUNNING) {
                outcome = (struct step_outcome){.cause = STEP_TIMEOUT, .message = "the plugin did not answer in time"};
                calls->n_late++;
        }
        step = call->step ? call_give_up(call) : NULL;
        call_remove(call);
        if (step)
                step_finish(step, &outcome);
        if (next)
                begin(next);
        return true;
}

void calls_end(struct calls *calls, const struct step_outcome *outcome) {
        struct worker_call *call;

        while ((call = TAILQ_FIRST(&calls->all))) {
                struct step *step = call->step ? call_give_up(call) : NULL;

                (void)drop_behind(find_behind(call));
                call_remove(call);
                if (step)
                        step_finish(step, outcome);
        }
}

/* ---- An upgrade ---- */

static const struct carried members[] = {
        CARRIED(UINT, struct calls, n_total), CARRIED(UINT, struct calls, n_stray),   CARRIED(UINT, struct calls, n_late),
        CARRIED(UINT, struct calls, next_id), CARRIED(UINT, struct calls, told_core),
};

static const struct carried call_members[] = {
        CARRIED(UINT, struct worker_call, id),
        CARRIED(BOOL, struct worker_call, behind),
        CARRIED(UINT, struct worker_call, phase),
        CARRIED(EVENT, struct worker_call, timer),
};

void calls_save(const struct calls *calls, struct carry *carry) {
        const struct worker_call *call;

        mp_put_map(&carry->out, ELEMENTS(members) + 1);
        carry_put(carry, members, ELEMENTS(members), calls);
        mp_put_str(&carry->out, "all");
        mp_put_array(&carry->out, calls->n);
        TAILQ_FOREACH(call, &calls->all, link) {
                mp_put_map(&carry->out, ELEMENTS(call_members));
                carry_put(carry, call_members, ELEMENTS(call_members), call);
        }
}

int calls_adopt(struct calls *calls, struct mp saved) {
        struct carry_items items = carry_items(mp_map_value(saved, "all"));
        int r = carry_get(saved, members, ELEMENTS(members), calls);
        struct mp item;

        while (r == 0 && carry_next(&items, &item)) {
                struct worker_call *call = call_new(calls);

                r = call ? carry_get(item, call_members, ELEMENTS(call_members), call) : -ENOMEM;
                if (r == 0) {
                        calls->n_over += call->phase > CALL_RUNNING;
                        calls->n_behind += call->behind;
                        n_begun -= call->behind;
                }
        }
        return r;
}

int calls_adopt_step(struct calls *calls, struct step *step, uint32_t id) {
        struct worker_call *call = find(calls, id);

        if (!call || call->step)
                return -EBADMSG;
        call_take_step(call, step);
        return 0;
}

void *calls_owner(const struct step *step, uint32_t *ret_id) {
        *ret_id = step->call->id;
        return step->call->calls->data;
}
