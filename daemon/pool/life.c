/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What happens to a worker is an event, and what an event means is said by one table, states × events; an empty cell is an event
 * that means nothing there. The one event that means the same in all states is the end of the process: a closed socket or a
 * broken protocol only leads to it, so on_end() (worker.c) is the one place where calls in flight get STEP_CRASHED, with the
 * reason noted first.
 *
 * A plugin server has no process. For it killing is closing the connection, and the end comes on the next turn of the loop. One that is stuck with
 * a call may well answer the others, so it is given no more and is left when they have ended.
 */

#include "pool/life.h"

#include <stdio.h>

#include "base/timer.h"

#define EXIT_GRACE_USEC (100 * USEC_PER_MSEC)
#define STOP_GRACE_USEC (3 * USEC_PER_SEC)

/* Says why the worker is about to end, unless something has said so before. */
void worker_note(struct worker *worker, const char *format, ...) {
        va_list args;

        if (worker->reason[0])
                return;
        va_start(args, format);
        (void)vsnprintf(worker->reason, sizeof(worker->reason), format, args);
        va_end(args);
}

void worker_arm(struct worker *worker, usec_t usec) {
        timer_start(worker->timer, usec);
}

void worker_close_conn(struct worker *worker) {
        worker->conn = worker->calls.conn = conn_free(worker->conn);
}

static void request(struct worker *worker, uint32_t id, const char *method, struct mp params) {
        struct buf *out = conn_output(worker->conn);

        rpc_put_request(out, id, method);
        mp_put_raw(out, params);
        conn_flush(worker->conn);
}

/* ---- What is done about events ---- */

/* With all that it has forked. */
void worker_end_zygote(struct worker *worker) {
        if (worker->zygote)
                worker_happen(worker->zygote, ON_BROKEN);
}

/* One that does not end for that is killed again. */
static void kill_it(struct worker *worker) {
        if (worker->process) {
                if (!process_kill(worker->process))
                        worker_end_zygote(worker);
                worker_arm(worker, EXIT_GRACE_USEC);
                return;
        }
        (void)event_del(worker->timer);
        worker_close_conn(worker);
        event_active(worker->end, EV_TIMEOUT, 0);
}

static void kill_late(struct worker *worker) {
        worker_note(worker, "%s within %.3g s (isolation.startup_timeout)",
                    worker->process ? "the plugin did not initialize" : "its server did not answer",
                    (double)worker->spec->startup_timeout_usec / (double)USEC_PER_SEC);
        kill_it(worker);
}

static void kill_stuck(struct worker *worker) {
        worker_note(worker, "it was killed because a call did not end in time and did not yield to cancellation");
        kill_it(worker);
}

static void kill_deaf(struct worker *worker) {
        worker_note(worker, "it was killed because it closed its connection to the daemon");
        kill_it(worker);
}

static void kill_slow(struct worker *worker) {
        worker_note(worker, "it was killed because it did not stop in time");
        kill_it(worker);
}

static void kill_unneeded(struct worker *worker) {
        worker_note(worker, "it was no longer needed");
        kill_it(worker);
}

/* The status of a process that ends says more than its closed socket. */
static void await_exit(struct worker *worker) {
        if (worker->process) {
                worker_arm(worker, EXIT_GRACE_USEC);
                return;
        }
        worker_note(worker, "the plugin server closed the connection");
        kill_it(worker);
}

void worker_send_load(struct worker *worker) {
        request(worker, ID_LOAD, worker->process ? "load" : "hello", worker->spec->members[worker->member].load);
        worker_arm(worker, worker->spec->startup_timeout_usec);
}

void worker_take_turn(struct worker *worker) {
        if (worker->member < worker->spec->n_members && worker->spec->members[worker->member].may_initialize)
                worker_happen(worker, ON_TURN);
}

static void tell_member(struct worker *worker) {
        if (worker->answer.len > 0)
                worker->handler->on_member(worker->data, worker, worker->answered, worker->answer);
}

static void become_loaded(struct worker *worker) {
        (void)event_del(worker->timer);
        tell_member(worker);
        worker_take_turn(worker);
}

static void send_init(struct worker *worker) {
        if (!worker->process) {
                worker_settle_member(worker, MEMBER_READY, mp_empty_map); /* a server has been initialized by whoever runs it */
                return;
        }
        request(worker, ID_INIT, worker->spec->zygote ? "zygote" : "init", worker->spec->members[worker->member].init);
        worker_arm(worker, worker->spec->startup_timeout_usec);
}

static void become_ready(struct worker *worker) {
        (void)event_del(worker->timer);
        worker->ready_usec = clock_now_usec();
        tell_member(worker);
        if (worker->state == WORKER_READY)
                worker->handler->on_ready(worker->data, worker);
}

static void send_shutdown(struct worker *worker) {
        if (!worker->process) {
                kill_unneeded(worker);
                return;
        }
        request(worker, ID_SHUTDOWN, "shutdown", mp_empty_map);
        /* One that holds on to a call that was cancelled will not listen to this either. */
        worker_arm(worker, worker->calls.n > 0 ? CANCEL_GRACE_USEC : STOP_GRACE_USEC);
}

static const struct cell {
        enum worker_state next;
        void (*act)(struct worker *worker);
} life[WORKER_STATE_MAX_][EVENT_KIND_MAX_] = {
        [WORKER_STARTING] =
                {
                        [ON_ANSWERED] = {WORKER_LOADED, become_loaded},
                        [ON_MORE] = {WORKER_STARTING, worker_send_load},
                        [ON_REFUSED] = {WORKER_ENDING, kill_it},
                        [ON_TIMER] = {WORKER_ENDING, kill_late},
                        [ON_CLOSED] = {WORKER_ENDING, await_exit},
                        [ON_BROKEN] = {WORKER_ENDING, kill_it},
                        [ON_STOP] = {WORKER_ENDING, kill_unneeded},
                },
        [WORKER_LOADED] =
                {
                        [ON_TURN] = {WORKER_INITIALIZING, send_init},
                        [ON_CLOSED] = {WORKER_ENDING, await_exit},
                        [ON_BROKEN] = {WORKER_ENDING, kill_it},
                        [ON_STOP] = {WORKER_ENDING, kill_unneeded},
                },
        [WORKER_INITIALIZING] =
                {
                        [ON_ANSWERED] = {WORKER_READY, become_ready},
                        [ON_MORE] = {WORKER_LOADED, become_loaded},
                        [ON_REFUSED] = {WORKER_ENDING, kill_it},
                        [ON_TIMER] = {WORKER_ENDING, kill_late},
                        [ON_CLOSED] = {WORKER_ENDING, await_exit},
                        [ON_BROKEN] = {WORKER_ENDING, kill_it},
                        [ON_STOP] = {WORKER_ENDING, kill_unneeded},
                },
        [WORKER_READY] =
                {
                        [ON_STUCK] = {WORKER_ENDING, kill_stuck},
                        [ON_CLOSED] = {WORKER_ENDING, await_exit},
                        [ON_BROKEN] = {WORKER_ENDING, kill_it},
                        [ON_STOP] = {WORKER_STOPPING, send_shutdown},
                },
        [WORKER_STOPPING] =
                {
                        [ON_TIMER] = {WORKER_ENDING, kill_slow},
                        [ON_STUCK] = {WORKER_ENDING, kill_stuck},
                        [ON_BROKEN] = {WORKER_ENDING, kill_it},
                },
        [WORKER_ENDING] =
                {
                        [ON_TIMER] = {WORKER_ENDING, kill_deaf},
                },
};

void worker_happen(struct worker *worker, enum event_kind event) {
        const struct cell *cell = &life[worker->state][event];

        if (!cell->act)
                return;
        worker->state = cell->next;
        cell->act(worker);
}
