/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call that was given up is kept without a step, so that its id is known, its place is not given away, and what the plugin may
 * still say of it reaches nobody.
 */

#include "pool/calls.h"

struct worker_call {
        TAILQ_ENTRY(worker_call) link;
        struct calls *calls;
        struct step *step; /* NULL: given up */
        uint32_t id;
        bool in_grace; /* its time is over */
        struct event timer;
};

void calls_init(struct calls *calls, struct event_base *base, uint32_t first_id, void (*on_stuck)(void *data), void *data) {
        *calls = (struct calls){.base = base, .next_id = first_id, .on_stuck = on_stuck, .data = data};
        TAILQ_INIT(&calls->all);
}

static void call_remove(struct worker_call *call) {
        struct calls *calls = call->calls;

        (void)event_del(&call->timer);
        TAILQ_REMOVE(&calls->all, call, link);
        calls->n--;
        if (!call->step)
                calls->n_given_up--;
        free(call);
}

/* Parts the call from its step, which gets its outcome or is withdrawn. Return: the step. */
static struct step *call_give_up(struct worker_call *call) {
        struct step *step = call->step;

        step->place = STEP_NOWHERE;
        step->worker = NULL;
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

/* A call's time is over, then its grace. A call that was withdrawn has until its time is over: the plugin may be busy with it in earnest,
 * and has other calls. */
static void on_timer(evutil_socket_t fd, short what, void *data) {
        struct timeval grace = usec_to_timeval(CANCEL_GRACE_USEC);
        struct worker_call *call = data;
        struct step *step;

        (void)fd;
        (void)what;
        if (call->in_grace) {
                call->calls->on_stuck(call->calls->data);
                return;
        }
        call->in_grace = true;
        (void)event_add(&call->timer, &grace);
        if (!call->step)
                return;
        send_cancel(call);
        step = call_give_up(call);
        step->on_done(step, &(struct step_outcome){.cause = STEP_TIMEOUT, .message = "the plugin did not answer in time"});
}

int calls_give(struct calls *calls, struct step *step) {
        struct worker_call *call = calloc(1, sizeof(*call));
        struct buf *out = conn_output(calls->conn);
        struct timeval timeout;

        if (!call)
                return -ENOMEM;
        call->calls = calls;
        call->step = step;
        call->id = calls->next_id++;
        TAILQ_INSERT_TAIL(&calls->all, call, link);
        calls->n++;
        calls->n_total++;
        step->place = STEP_GIVEN;
        step->call = call;

        timeout = usec_to_timeval(step_time_left(step, clock_now_usec()));
        evtimer_assign(&call->timer, calls->base, on_timer, call);
        (void)event_add(&call->timer, &timeout);

        rpc_put_request(out, call->id, "invoke");
        mp_put_raw(out, (struct mp){step->params.data, step->params.len});
        conn_flush(calls->conn);
        buf_done(&step->params);
        return 0;
}

void calls_withdraw(struct calls *calls, struct step *step) {
        struct worker_call *call = step->call;

        (void)calls;
        (void)call_give_up(call);
        send_cancel(call);
}

static struct worker_call *find(struct calls *calls, uint32_t id) {
        struct worker_call *call;

        TAILQ_FOREACH(call, &calls->all, link)
                if (call->id == id)
                        return call;
        return NULL;
}

bool calls_answered(struct calls *calls, const struct rpc_msg *msg) {
        struct step_outcome outcome = {.cause = STEP_ANSWERED, .answer = msg->result, .error = msg->error};
        struct worker_call *call = find(calls, msg->id);
        struct mp_cur result = mp_cur(msg->result);
        struct step *step;

        if (!call) {
                calls->n_stray++;
                return false;
        }
        step = call->step ? call_give_up(call) : NULL;
        call_remove(call);
        if (!mp_is_nil(msg->error))
                outcome.cause = STEP_RAISED;
        else if (mp_peek(&result) != MP_MAP)
                outcome = (struct step_outcome){.cause = STEP_MALFORMED, .message = "the worker's answer is not a map"};
        if (step)
                step->on_done(step, &outcome);
        return true;
}

void calls_end(struct calls *calls, enum step_cause cause, const char *message) {
        struct worker_call *call;

        while ((call = TAILQ_FIRST(&calls->all))) {
                struct step *step = call->step ? call_give_up(call) : NULL;

                call_remove(call);
                if (step)
                        step->on_done(step, &(struct step_outcome){.cause = cause, .message = message});
        }
}
