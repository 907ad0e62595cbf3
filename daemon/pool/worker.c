/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker can fail in two ways at once: its socket closes and its process ends, in either order. Only the end of the process
 * counts: a closed socket or a broken protocol kills the process, and on_child_exit() is the one place where calls in flight get
 * STEP_CRASHED, with the reason that was noted first.
 *
 * A call whose time is over is answered for at once, and the plugin is asked to let go of it (`cancel`). One that awaits does so in
 * microseconds and the worker lives on, with its other calls; one that is stuck is killed with its worker when the grace is
 * over. A call that was given up is kept in `calls` without a step, so that its id is known, its place is not given away, and what the
 * worker may still say of it reaches nobody.
 */

#include "pool/worker.h"

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/lines.h"
#include "wire/conn.h"

#define CANCEL_GRACE_USEC (200 * USEC_PER_MSEC)
#define EXIT_GRACE_USEC (100 * USEC_PER_MSEC)
#define STOP_GRACE_USEC (3 * USEC_PER_SEC)
#define OUTPUT_BYTES ((size_t)64 << 20) /* what may wait in memory for a worker that does not read; a single call may be longer */
#define CONTROL_BYTES 65536             /* on top: for cancel, shutdown and the like */
#define OUTPUT_LINES 200
#define REASON_BYTES 256

#define ID_INIT 0
#define ID_FIRST_CALL 2
#define ID_SHUTDOWN 1

struct worker_call {
        TAILQ_ENTRY(worker_call) link;
        struct worker *worker;
        struct step *step; /* NULL: given up */
        uint32_t id;
        bool in_grace; /* its time is over */
        struct event timer;
};

struct worker {
        struct event_base *base;
        const struct worker_spec *spec;
        const struct worker_handler *handler;
        void *data;

        enum worker_state state;
        bool was_stopped;
        struct child *child;
        struct conn *conn;
        struct lines *output;
        usec_t output_since_usec; /* the second in which output_lines are counted */
        unsigned output_lines;
        struct event *timer; /* of starting and stopping */
        usec_t started_usec, ready_usec, last_given_usec;

        TAILQ_HEAD(, worker_call) calls;
        unsigned n_calls, n_given_up;
        uint64_t n_total, n_stray; /* stray: answers to no call in flight */
        uint32_t next_id;
        char reason[REASON_BYTES]; /* why it ends; empty: it was not us */
};

static struct log_scope scope(const struct worker *worker) {
        return (struct log_scope){worker->spec->plugin, worker_pid(worker)};
}

#define worker_log(worker, level, ...)                              \
        do {                                                        \
                struct log_scope scope_ = scope(worker);            \
                log_write(LOG_LEVEL_##level, &scope_, __VA_ARGS__); \
        } while (0)

const char *worker_state_name(enum worker_state state) {
        static const char *const names[WORKER_STATE_MAX_] = {
                [WORKER_STARTING] = "starting",
                [WORKER_READY] = "ready",
                [WORKER_STOPPING] = "stopping",
        };

        return names[state];
}

/* ---- Calls ---- */

static void call_remove(struct worker_call *call) {
        struct worker *worker = call->worker;

        (void)event_del(&call->timer);
        TAILQ_REMOVE(&worker->calls, call, link);
        worker->n_calls--;
        if (!call->step)
                worker->n_given_up--;
        free(call);
}

/* Parts the call from its step, which gets its outcome or is withdrawn. Return: the step. */
static struct step *call_give_up(struct worker_call *call) {
        struct step *step = call->step;

        step->place = STEP_NOWHERE;
        step->worker = NULL;
        step->call = NULL;
        call->step = NULL;
        call->worker->n_given_up++;
        return step;
}

static void arm(struct worker *worker, usec_t usec) {
        struct timeval after = usec_to_timeval(usec);

        (void)event_add(worker->timer, &after);
}

static void worker_kill(struct worker *worker, const char *format, ...) PRINTF_LIKE(2, 3);
static void worker_kill(struct worker *worker, const char *format, ...) {
        va_list args;

        if (worker->reason[0] == 0) {
                va_start(args, format);
                (void)vsnprintf(worker->reason, sizeof(worker->reason), format, args);
                va_end(args);
        }
        child_kill_group(worker->child);
}

static void send_cancel(struct worker_call *call) {
        struct buf *out;

        if (!call->worker->conn)
                return;
        out = conn_output(call->worker->conn);
        rpc_put_notification(out, "cancel");
        mp_put_map(out, 1);
        mp_put_str(out, "msgid");
        mp_put_uint(out, call->id);
        conn_flush(call->worker->conn);
}

/* A call's time is over, then its grace. A call that was withdrawn has until its time is over: the plugin may be busy with it in earnest, and
 * the worker has other calls. */
static void on_call_timer(evutil_socket_t fd, short what, void *data) {
        struct worker_call *call = data;
        struct timeval grace = usec_to_timeval(CANCEL_GRACE_USEC);
        struct step *step;

        (void)fd;
        (void)what;
        if (call->in_grace) {
                worker_kill(call->worker, "it was killed because a call did not end in time and did not yield to cancellation");
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

int worker_give(struct worker *worker, struct step *step) {
        struct buf *out = conn_output(worker->conn);
        usec_t now = clock_now_usec();
        struct worker_call *call;
        struct timeval timeout;

        if (step->params.len + 64 > worker->spec->frame_bytes)
                return -EMSGSIZE;
        call = calloc(1, sizeof(*call));
        if (!call)
                return -ENOMEM;
        call->worker = worker;
        call->step = step;
        call->id = worker->next_id++;
        TAILQ_INSERT_TAIL(&worker->calls, call, link);
        worker->n_calls++;
        worker->n_total++;
        worker->last_given_usec = now;
        step->place = STEP_GIVEN;
        step->worker = worker;
        step->call = call;

        timeout = usec_to_timeval(step_time_left(step, now));
        evtimer_assign(&call->timer, worker->base, on_call_timer, call);
        (void)event_add(&call->timer, &timeout);

        rpc_put_request(out, call->id, "invoke");
        mp_put_raw(out, (struct mp){step->params.data, step->params.len});
        conn_flush(worker->conn);
        buf_done(&step->params);
        return 0;
}

void worker_withdraw(struct worker *worker, struct step *step) {
        struct worker_call *call = step->call;

        (void)worker;
        (void)call_give_up(call);
        send_cancel(call);
}

static struct worker_call *find_call(struct worker *worker, uint32_t id) {
        struct worker_call *call;

        TAILQ_FOREACH(call, &worker->calls, link)
                if (call->id == id)
                        return call;
        return NULL;
}

/* ---- What the worker says ---- */

static void on_init_answered(struct worker *worker, const struct rpc_msg *msg) {
        struct mp message, traceback, details;
        struct log_scope scope_ = scope(worker);

        if (worker->state != WORKER_STARTING)
                return;
        if (mp_is_nil(msg->error)) {
                (void)event_del(worker->timer);
                worker->state = WORKER_READY;
                worker->ready_usec = clock_now_usec();
                worker->handler->on_ready(worker->data, worker, msg->result);
                return;
        }
        message = mp_map_text(msg->error, "message");
        traceback = mp_map_get(msg->error, "details", &details) ? mp_map_text(details, "traceback") : (struct mp){0};
        log_text(LOG_LEVEL_INFO, &scope_, traceback.data, traceback.len);
        worker_kill(worker, "the plugin failed to initialize: %.*s", (int)MIN(message.len, (size_t)200),
                    (const char *)message.data);
}

static void on_call_answered(struct worker *worker, struct worker_call *call, const struct rpc_msg *msg) {
        struct step_outcome outcome = {.cause = STEP_ANSWERED, .answer = msg->result, .error = msg->error};
        struct step *step = call->step;

        if (step)
                (void)call_give_up(call);
        call_remove(call);
        if (step) {
                struct mp_cur result = mp_cur(msg->result);

                if (!mp_is_nil(msg->error))
                        outcome.cause = STEP_RAISED;
                else if (mp_peek(&result) != MP_MAP)
                        outcome = (struct step_outcome){.cause = STEP_MALFORMED, .message = "the worker's answer is not a map"};
                step->on_done(step, &outcome);
        }
        worker->handler->on_idle(worker->data, worker);
}

static void on_log(struct worker *worker, struct mp params) {
        struct mp text = mp_map_text(params, "message");

        worker_log(worker, INFO, "%.*s", (int)MIN(text.len, (size_t)2048), (const char *)text.data);
}

static void on_message(void *data, const struct rpc_msg *msg) {
        struct worker *worker = data;
        struct worker_call *call;

        if (msg->kind == RPC_REQUEST) {
                worker_kill(worker, "it was killed because it sent a request, which workers never do");
                return;
        }
        if (msg->kind == RPC_NOTIFICATION) {
                if (rpc_method_is(msg, "log"))
                        on_log(worker, msg->params);
                return;
        }
        if (msg->id == ID_INIT) {
                on_init_answered(worker, msg);
                return;
        }
        call = find_call(worker, msg->id);
        if (call)
                on_call_answered(worker, call, msg);
        else if (msg->id != ID_SHUTDOWN && worker->n_stray++ == 0)
                worker_log(worker, WARNING, "an answer to no call in flight (id %u) was dropped; further ones are only counted",
                           msg->id);
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        struct worker *worker = data;

        worker->conn = conn_free(worker->conn);
        if (end == CONN_BROKEN)
                worker_kill(worker, "it was killed: %s", reason);
        else if (worker->state != WORKER_STOPPING)
                arm(worker, EXIT_GRACE_USEC); /* the status of a process that ends says more than its closed socket */
}

/* What a plugin prints is its log, a bounded number of lines a second; what is beyond is counted. */
static void on_output(void *data, const char *line) {
        struct worker *worker = data;
        usec_t now = clock_now_usec();

        if (now - worker->output_since_usec >= USEC_PER_SEC) {
                if (worker->output_lines > OUTPUT_LINES)
                        worker_log(worker, WARNING, "%u more lines of output were not logged (at most %d a second are)",
                                   worker->output_lines - OUTPUT_LINES, OUTPUT_LINES);
                worker->output_since_usec = now;
                worker->output_lines = 0;
        }
        if (worker->output_lines++ < OUTPUT_LINES)
                worker_log(worker, INFO, "%s", line);
}

/* ---- Life ---- */

static void describe_exit(int status, char *text, size_t size) {
        if (WIFSIGNALED(status))
                (void)snprintf(text, size, "it was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
                (void)snprintf(text, size, "it exited with status %d", WEXITSTATUS(status));
}

/* Ends all calls; those that were not given up get this outcome. */
static void end_calls(struct worker *worker, enum step_cause cause, const char *message) {
        struct worker_call *call;

        while ((call = TAILQ_FIRST(&worker->calls))) {
                struct step *step = call->step ? call_give_up(call) : NULL;

                call_remove(call);
                if (step)
                        step->on_done(step, &(struct step_outcome){.cause = cause, .message = message});
        }
}

static void on_child_exit(void *data, int status) {
        struct worker *worker = data;
        char message[REASON_BYTES + 64];

        if (worker->reason[0] == 0)
                describe_exit(status, worker->reason, sizeof(worker->reason));
        (void)snprintf(message, sizeof(message), "the worker died during the call: %s", worker->reason);
        lines_drain(worker->output);
        (void)event_del(worker->timer);
        worker->conn = conn_free(worker->conn);
        worker->state = WORKER_STOPPING; /* nobody is to give it anything from inside the callbacks */
        end_calls(worker, STEP_CRASHED, message);
        worker->handler->on_exit(worker->data, worker, worker->reason);
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        struct worker *worker = data;

        (void)fd;
        (void)what;
        if (!worker->conn && worker->state != WORKER_STOPPING)
                worker_kill(worker, "it was killed because it closed its connection to the daemon");
        else if (worker->state == WORKER_STARTING)
                worker_kill(worker, "the plugin did not initialize within %.3g s (isolation.startup_timeout)",
                            (double)worker->spec->startup_timeout_usec / (double)USEC_PER_SEC);
        else
                worker_kill(worker, "it was killed because it did not stop in time");
}

static const struct conn_handler conn_handler = {.on_message = on_message, .on_close = on_close};

/* argv of the launcher (worker-shim/README.md). */
static int spawn(struct worker *worker, int socket_fd, int output_fd) {
        const struct worker_spec *spec = worker->spec;
        char parent[16], memory[32], files[32];
        const char *argv[20] = {spec->launcher, "--python",    spec->python, "--shim",     spec->shim_dir, "--ext", spec->ext_dir,
                                "--sdk",        spec->sdk_dir, "--name",     spec->plugin, "--parent",     parent};
        const struct child_spec child = {.argv = argv, .output = output_fd, .error = output_fd, .extra = socket_fd};
        size_t n = 13;

        (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
        if (spec->memory_bytes) {
                (void)snprintf(memory, sizeof(memory), "%llu", (unsigned long long)spec->memory_bytes);
                argv[n++] = "--rlimit-as";
                argv[n++] = memory;
        }
        if (spec->files) {
                (void)snprintf(files, sizeof(files), "%llu", (unsigned long long)spec->files);
                argv[n++] = "--rlimit-nofile";
                argv[n++] = files;
        }
        return child_spawn(&worker->child, worker->base, &child, on_child_exit, worker);
}

static int connect_to(struct worker *worker) {
        const struct conn_limits limits = {
                .frame_bytes = worker->spec->frame_bytes,
                .output_bytes = OUTPUT_BYTES + worker->spec->frame_bytes + CONTROL_BYTES,
        };
        CLEANUP_FD int ours = -1, theirs = -1, output_read = -1, output_write = -1;
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        r = child_pipe(&output_read, &output_write);
        r = r ? r : conn_new(&worker->conn, worker->base, TAKE_FD(ours), &limits, &conn_handler, worker);
        r = r ? r : lines_new(&worker->output, worker->base, TAKE_FD(output_read), on_output, worker);
        return r ? r : spawn(worker, theirs, output_write);
}

int worker_start(struct worker **ret, struct event_base *base, const struct worker_spec *spec,
                 const struct worker_handler *handler, void *data) {
        struct worker *worker = calloc(1, sizeof(*worker));
        int r;

        if (!worker)
                return -ENOMEM;
        worker->base = base;
        worker->spec = spec;
        worker->handler = handler;
        worker->data = data;
        worker->next_id = ID_FIRST_CALL;
        worker->started_usec = worker->last_given_usec = clock_now_usec();
        TAILQ_INIT(&worker->calls);
        worker->timer = evtimer_new(base, on_timer, worker);
        r = worker->timer ? connect_to(worker) : -ENOMEM;
        if (r < 0) {
                (void)worker_free(worker);
                return r;
        }
        rpc_put_request(conn_output(worker->conn), ID_INIT, "init");
        mp_put_raw(conn_output(worker->conn), spec->init);
        conn_flush(worker->conn);
        arm(worker, spec->startup_timeout_usec);
        *ret = worker;
        return 0;
}

void worker_stop(struct worker *worker) {
        struct buf *out;

        if (worker->state == WORKER_STOPPING)
                return;
        worker->was_stopped = true;
        if (worker->state == WORKER_STARTING || !worker->conn) {
                worker->state = WORKER_STOPPING;
                worker_kill(worker, "it was no longer needed");
                return;
        }
        worker->state = WORKER_STOPPING;
        out = conn_output(worker->conn);
        rpc_put_request(out, ID_SHUTDOWN, "shutdown");
        mp_put_map(out, 0);
        conn_flush(worker->conn);
        /* One that holds on to a call that was cancelled will not listen to this either. */
        arm(worker, worker->n_given_up > 0 ? CANCEL_GRACE_USEC : STOP_GRACE_USEC);
}

struct worker *worker_free(struct worker *worker) {
        if (!worker)
                return NULL;
        worker->state = WORKER_STOPPING;
        end_calls(worker, STEP_STOPPED, "the daemon is stopping");
        worker->child = child_free(worker->child);
        worker->conn = conn_free(worker->conn);
        worker->output = lines_free(worker->output);
        if (worker->timer)
                event_free(worker->timer);
        free(worker);
        return NULL;
}

enum worker_state worker_state(const struct worker *worker) {
        return worker->state;
}

pid_t worker_pid(const struct worker *worker) {
        return worker->child ? child_pid(worker->child) : 0;
}

unsigned worker_calls_active(const struct worker *worker) {
        return worker->n_calls;
}

unsigned worker_calls_open(const struct worker *worker) {
        return worker->n_calls - worker->n_given_up;
}

uint64_t worker_calls_total(const struct worker *worker) {
        return worker->n_total;
}

usec_t worker_started_usec(const struct worker *worker) {
        return worker->started_usec;
}

usec_t worker_last_given_usec(const struct worker *worker) {
        return worker->last_given_usec;
}

usec_t worker_ready_usec(const struct worker *worker) {
        return worker->ready_usec;
}

bool worker_was_stopped(const struct worker *worker) {
        return worker->was_stopped;
}

bool worker_accepts(const struct worker *worker, size_t len) {
        size_t pending;

        if (worker->state != WORKER_READY || !worker->conn || worker->n_given_up > 0 || worker->reason[0] ||
            worker_is_spent(worker))
                return false;
        pending = conn_pending(worker->conn);
        return pending == 0 || pending + len <= OUTPUT_BYTES;
}

bool worker_is_spent(const struct worker *worker) {
        return worker->next_id == UINT32_MAX;
}
