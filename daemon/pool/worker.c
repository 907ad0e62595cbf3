/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where a worker comes from, and what it hears: of its process, over its connection, from its calls, and from its owner. Each
 * becomes an event of its life (life.c), or is passed on.
 */

#include "pool/life.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/utf8.h"

#define OUTPUT_BYTES ((size_t)64 << 20) /* what may wait in memory for a worker that does not read; a single call may be longer */
#define CONTROL_BYTES 65536             /* on top: for cancel, shutdown and the like */

#define worker_log(worker, level, ...)                                                \
        do {                                                                          \
                struct log_scope scope_ = {.plugin = (worker)->spec->process.plugin,  \
                                           .group = (worker)->spec->process.group,    \
                                           .worker = process_pid((worker)->process)}; \
                log_write(LOG_LEVEL_##level, &scope_, __VA_ARGS__);                   \
        } while (0)

static void on_end(struct worker *worker, const char *how) {
        struct step_outcome outcome = {.cause = STEP_CRASHED};
        CLEANUP_BUF struct buf details = {0};
        char message[REASON_BYTES + 64];

        worker_note(worker, "%s", how);
        outcome.message = message;
        if (worker->process)
                process_put_details(worker->process, &details);
        if (buf_error(&details) == 0)
                outcome.details = (struct mp){details.data, details.len};
        process_log_stacks(worker->process, outcome.details);
        (void)snprintf(message, sizeof(message), "the worker died during the call: %s", worker->reason);
        (void)event_del(worker->timer);
        worker_close_conn(worker);
        worker->state = WORKER_ENDING; /* nobody is to give it anything from inside the callbacks */
        calls_end(&worker->calls, &outcome);
        worker->handler->on_exit(worker->data, worker, worker->reason);
}

/* ---- Where events come from ---- */

static void on_process_exit(void *data, const char *how) {
        struct worker *worker = data;

        worker->put_off = process_was_put_off(worker->process);
        worker->refused = worker->refused || (process_was_refused(worker->process) && !worker->put_off);
        if (process_has_strayed(worker->process))
                worker_end_zygote(worker);
        on_end(worker, how);
}

/* What a zygote has loaded a worker that it forks need not load. */
static void on_process_started(void *data) {
        struct worker *worker = data;
        struct buf *out;

        if (worker->state != WORKER_STARTING || !worker->conn)
                return;
        out = conn_output(worker->conn);
        rpc_put_request(out, ID_LOAD, "forked");
        mp_put_map(out, 1);
        mp_put_str(out, "folder");
        mp_put_str(out, process_scratch(worker->process));
        conn_flush(worker->conn);
}

static const struct process_handler process_handler = {.on_started = on_process_started, .on_exit = on_process_exit};

static void on_end_event(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        on_end(data, "it ended");
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        worker_happen(data, ON_TIMER);
}

static void ask_stacks(void *data) {
        process_ask_stacks(((struct worker *)data)->process);
}

static void put_details(void *data, struct buf *buf) {
        struct worker *worker = data;

        process_put_details(worker->process, buf);
        if (buf_error(buf) == 0)
                process_log_stacks(worker->process, (struct mp){buf->data, buf->len});
}

static void on_stuck(void *data) {
        struct worker *worker = data;

        if (worker->process || calls_open(&worker->calls) == 0)
                worker_happen(worker, ON_STUCK);
        else
                worker->retiring = true;
}

static const struct calls_handler process_calls = {.ask_stacks = ask_stacks, .put_details = put_details, .on_stuck = on_stuck};
static const struct calls_handler server_calls = {.on_stuck = on_stuck};

/* Return: the first member from `from` on that has not failed. */
static unsigned next_member(const struct worker *worker, unsigned from) {
        while (from < worker->spec->n_members && worker_has_failed(worker, from))
                from++;
        return from;
}

void worker_settle_member(struct worker *worker, enum member_state state, struct mp answer) {
        unsigned n = worker->spec->n_members;
        bool loading = worker->state == WORKER_STARTING, more;

        worker->members.data[worker->member] = (uint8_t)state;
        worker->answered = worker->member;
        worker->member = loading ? worker->member + 1 : next_member(worker, worker->member + 1);
        more = worker->member < n;
        if (worker_n_failed(worker) == n) {
                worker_note(worker, "none of the plugins of its group can start");
                worker_happen(worker, ON_REFUSED);
                return;
        }
        if (loading && !more)
                worker->member = next_member(worker, 0);
        if (state == MEMBER_READY)
                worker->answer = answer;
        worker_happen(worker, more ? ON_MORE : ON_ANSWERED);
        worker->answer = (struct mp){0};
}

static void on_member_failed(struct worker *worker, struct mp error) {
        struct log_scope scope = {.plugin = worker->spec->process.members[worker->member],
                                  .worker = process_pid(worker->process)};
        struct mp message = mp_map_text(error, "message"), traceback = mp_map_text(mp_map_value(error, "details"), "traceback");
        char reason[REASON_BYTES];

        log_text(LOG_LEVEL_INFO, &scope, traceback.data, traceback.len);
        worker->refused = worker->state == WORKER_INITIALIZING && worker->spec->zygote;
        (void)snprintf(reason, sizeof(reason), "%s%.*s",
                       worker->refused ? "" : "the plugin failed to initialize: ", (int)utf8_fit(message.data, message.len, 200),
                       (const char *)message.data);
        if (worker->spec->n_members == 1)
                worker_note(worker, "%s", reason);
        else
                worker->handler->on_failed(worker->data, worker, worker->member, reason);
        worker_settle_member(worker, MEMBER_FAILED, (struct mp){0});
}

/* The answer to what the state waits for. A server's to the greeting may be an error: it need not know the method. */
static void on_state_answered(struct worker *worker, const struct rpc_msg *msg) {
        if (!mp_is_nil(msg->error) && worker->process)
                on_member_failed(worker, msg->error);
        else
                worker_settle_member(worker, worker->state == WORKER_STARTING ? MEMBER_LOADED : MEMBER_READY, msg->result);
}

/* Return: whether this is what the state has asked for, beside calls. One that is forked is asked nothing before it is known which process
 * it is. */
static bool is_awaited(const struct worker *worker, uint32_t id) {
        enum worker_state state = worker->state;

        if (worker->process && process_pid(worker->process) == 0)
                return false;
        return (state == WORKER_STARTING && id == ID_LOAD) || (state == WORKER_INITIALIZING && id == ID_INIT) ||
               (state == WORKER_STOPPING && id == ID_SHUTDOWN);
}

/* A call that was given up is still known until it is answered, so an answer to no call at all is a second one, or was made up: a
 * process that does that may as well answer in the place of another call. */
static void on_response(struct worker *worker, const struct rpc_msg *msg) {
        if (worker->state == WORKER_ENDING) /* nobody listens any more */
                return;
        if (is_awaited(worker, msg->id)) {
                if (msg->id != ID_SHUTDOWN) /* its exit counts */
                        on_state_answered(worker, msg);
        } else if (msg->id >= ID_FIRST_CALL && calls_answered(&worker->calls, msg, worker->spec->values)) {
                worker->handler->on_idle(worker->data, worker);
        } else {
                worker_note(worker, "it was killed because it answered what it was not asked, or had answered before (id %u)",
                            msg->id);
                worker_happen(worker, ON_BROKEN);
        }
}

static void on_message(void *data, const struct rpc_msg *msg) {
        struct worker *worker = data;

        if (msg->values > worker->spec->values && (msg->kind != RPC_RESPONSE || msg->id < ID_FIRST_CALL)) {
                worker_note(worker, "it was killed: a message has more values than the limit (limits.values)");
                worker_happen(worker, ON_BROKEN);
        } else if (msg->kind == RPC_RESPONSE) {
                on_response(worker, msg);
        } else if (msg->kind == RPC_REQUEST) {
                worker_note(worker, "it was killed because it sent a request, which workers never do");
                worker_happen(worker, ON_BROKEN);
        } else if (rpc_method_is(msg, "log")) {
                struct mp text = mp_map_text(msg->params, "message");

                worker_log(worker, INFO, "%.*s", (int)MIN(text.len, (size_t)2048), (const char *)text.data);
        } else if (rpc_method_is(msg, "started") && worker->process && !process_is_forked(worker->process)) {
                struct mp_cur pid = mp_cur(mp_map_value(msg->params, "pid"));
                uint64_t n;

                process_started(worker->process, mp_read_uint(&pid, &n) && n <= INT32_MAX ? (pid_t)n : 0);
        }
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        struct worker *worker = data;

        worker_close_conn(worker);
        if (end == CONN_BROKEN)
                worker_note(worker, "it was killed: %s", reason);
        worker_happen(worker, end == CONN_BROKEN ? ON_BROKEN : ON_CLOSED);
}

static const struct conn_handler conn_handler = {.on_message = on_message, .on_close = on_close};

/* ---- Life ---- */

static struct conn_limits limits_of(const struct worker *worker) {
        return (struct conn_limits){
                .frame_bytes = worker->spec->frame_bytes,
                .output_bytes = OUTPUT_BYTES + worker->spec->frame_bytes + CONTROL_BYTES,
        };
}

static int take_conn(struct worker *worker, int fd) {
        const struct conn_limits limits = limits_of(worker);
        int r = conn_new(&worker->conn, worker->base, fd, &limits, &conn_handler, worker);

        worker->calls.conn = worker->conn;
        return r;
}

static int start_process(struct worker *worker) {
        CLEANUP_FD int ours = -1, theirs = -1;
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        r = take_conn(worker, TAKE_FD(ours));
        if (r < 0)
                return r;
        if (worker->zygote) {
                const struct zygote zygote = {conn_fd(worker->zygote->conn), worker->zygote->process};

                return process_fork(&worker->process, worker->base, &worker->spec->process, &zygote, theirs, &process_handler,
                                    worker);
        }
        return process_start(&worker->process, worker->base, &worker->spec->process, theirs, &process_handler, worker);
}

/* Connecting a Unix socket takes no time: it works, or it fails, also when too many wait for the server to accept them. */
static int connect_to_server(struct worker *worker) {
        CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (fd < 0)
                return -errno;
        if (strlen(worker->spec->server) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        (void)strcpy(address.sun_path, worker->spec->server);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        return take_conn(worker, TAKE_FD(fd));
}

/* Return: a worker without process and connection; NULL: no memory. */
static struct worker *worker_new(struct event_base *base, const struct worker_spec *spec, const struct worker_handler *handler,
                                 void *data) {
        struct worker *worker = calloc(1, sizeof(*worker));

        if (!worker)
                return NULL;
        worker->base = base;
        worker->spec = spec;
        worker->handler = handler;
        worker->data = data;
        worker->started_usec = worker->last_given_usec = clock_now_usec();
        calls_init(&worker->calls, base, ID_FIRST_CALL, spec->server ? &server_calls : &process_calls, worker);
        worker->calls.waits_on_core = !spec->server;
        worker->timer = evtimer_new(base, on_timer, worker);
        worker->end = event_new(base, -1, 0, on_end_event, worker);
        for (unsigned i = 0; i < spec->n_members; i++)
                buf_append(&worker->members, &(uint8_t){MEMBER_NEW}, 1);
        return worker->timer && worker->end && buf_error(&worker->members) == 0 ? worker : worker_free(worker);
}

int worker_start(struct worker **ret, struct event_base *base, const struct worker_spec *spec, struct worker *zygote,
                 const struct worker_handler *handler, void *data) {
        struct worker *worker = worker_new(base, spec, handler, data);
        int r;

        if (!worker)
                return -ENOMEM;
        worker->zygote = zygote;
        r = spec->server ? connect_to_server(worker) : start_process(worker);
        if (r < 0) {
                (void)worker_free(worker);
                return r;
        }
        if (!zygote)
                worker_send_load(worker);
        worker_arm(worker, spec->startup_timeout_usec);
        *ret = worker;
        return 0;
}

void worker_set_zygote(struct worker *worker, struct worker *zygote) {
        worker->zygote = worker_is_forked(worker) ? zygote : NULL;
}

void worker_initialize(struct worker *worker) {
        if (worker->state == WORKER_LOADED)
                worker_take_turn(worker);
}

int worker_give(struct worker *worker, struct step *step) {
        int r;

        if (step_len(step) + MESSAGE_BYTES > worker->spec->frame_bytes)
                return -EMSGSIZE;
        r = calls_give(&worker->calls, step);
        if (r < 0)
                return r;
        worker->last_given_usec = step->given_usec;
        return 0;
}

void worker_retire(struct worker *worker) {
        worker->retiring = true;
}

void worker_stop(struct worker *worker) {
        worker->was_stopped = true;
        worker_happen(worker, ON_STOP);
}

struct worker *worker_free(struct worker *worker) {
        if (!worker)
                return NULL;
        worker->state = WORKER_ENDING;
        calls_end(&worker->calls, &(struct step_outcome){.cause = STEP_STOPPED, .message = "the daemon is stopping"});
        worker->process = process_free(worker->process);
        worker_close_conn(worker);
        if (worker->timer)
                event_free(worker->timer);
        if (worker->end)
                event_free(worker->end);
        buf_done(&worker->members);
        free(worker);
        return NULL;
}

/* ---- An upgrade ---- */

static const struct carried members[] = {
        CARRIED(UINT, struct worker, state),       CARRIED(UINT, struct worker, member),
        CARRIED(BOOL, struct worker, was_stopped), CARRIED(BOOL, struct worker, retiring),
        CARRIED(BOOL, struct worker, refused),     CARRIED(UINT, struct worker, started_usec),
        CARRIED(UINT, struct worker, ready_usec),  CARRIED(UINT, struct worker, last_given_usec),
        CARRIED(BYTES, struct worker, reason),     CARRIED(TIMER, struct worker, timer),
        CARRIED(BUF, struct worker, members),
};

void worker_save(const struct worker *worker, struct carry *carry) {
        size_t map = mp_map_begin(&carry->out), n = ELEMENTS(members) + 1;

        carry_put(carry, members, ELEMENTS(members), worker);
        mp_put_str(&carry->out, "calls");
        calls_save(&worker->calls, carry);
        if (worker->process) {
                /* Two names, for what knows but one of them cannot tell whose child it is. */
                mp_put_str(&carry->out, process_is_forked(worker->process) ? "forked" : "process");
                process_save(worker->process, carry);
                n++;
        }
        if (worker->conn) {
                mp_put_str(&carry->out, "conn");
                conn_save(worker->conn, carry);
                n++;
        }
        mp_map_end(&carry->out, map, n);
}

int worker_adopt(struct worker **ret, struct event_base *base, const struct worker_spec *spec, struct mp saved,
                 const struct worker_handler *handler, void *data) {
        struct mp process = mp_map_value(saved, "process"), conn = mp_map_value(saved, "conn");
        struct mp forked = mp_map_value(saved, "forked");
        struct worker *worker = worker_new(base, spec, handler, data);
        struct conn_limits limits;
        int r;

        if (!worker)
                return -ENOMEM;
        limits = limits_of(worker);
        buf_done(&worker->members);
        r = carry_get(saved, members, ELEMENTS(members), worker);
        if (r == 0 && (worker->state >= WORKER_STATE_MAX_ || worker->members.len != spec->n_members))
                r = -EBADMSG;
        if (r == 0 && process.len + forked.len > 0)
                r = process_adopt(&worker->process, base, &spec->process, forked.len > 0 ? forked : process, &process_handler,
                                  worker);
        if (r == 0 && conn.len > 0)
                r = conn_adopt(&worker->conn, base, conn, &limits, &conn_handler, worker);
        worker->calls.conn = worker->conn;
        r = r < 0 ? r : calls_adopt(&worker->calls, mp_map_value(saved, "calls"));
        if (r == 0)
                *ret = worker;
        return r;
}

int worker_adopt_step(struct worker *worker, struct step *step, uint32_t id) {
        return calls_adopt_step(&worker->calls, step, id);
}

enum worker_state worker_state(const struct worker *worker) {
        return worker->state;
}

bool worker_serves(const struct worker *worker, unsigned member) {
        return worker->state <= WORKER_READY && worker->members.data[member] == MEMBER_READY;
}

bool worker_has_failed(const struct worker *worker, unsigned member) {
        return worker->members.data[member] == MEMBER_FAILED;
}

unsigned worker_n_failed(const struct worker *worker) {
        unsigned n = 0;

        for (unsigned i = 0; i < worker->spec->n_members; i++)
                n += worker_has_failed(worker, i);
        return n;
}

pid_t worker_pid(const struct worker *worker) {
        return process_pid(worker->process);
}

unsigned worker_calls_active(const struct worker *worker) {
        return worker->calls.n - worker->calls.n_behind;
}

unsigned worker_calls_open(const struct worker *worker) {
        return calls_open(&worker->calls);
}

uint64_t worker_calls_total(const struct worker *worker) {
        return worker->calls.n_total;
}

uint64_t worker_answers_dropped(const struct worker *worker) {
        return worker->calls.n_late + worker->calls.n_stray;
}

uint64_t worker_memory_bytes(const struct worker *worker) {
        return worker->process ? process_memory_bytes(worker->process) : 0;
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

bool worker_was_refused(const struct worker *worker) {
        return worker->refused;
}

bool worker_is_forked(const struct worker *worker) {
        return worker->process && process_is_forked(worker->process);
}

bool worker_is_orphan(const struct worker *worker) {
        return worker_is_forked(worker) && !worker->zygote;
}

bool worker_was_put_off(const struct worker *worker) {
        return worker->put_off;
}

bool worker_accepts(const struct worker *worker, size_t len) {
        size_t pending;

        if (worker->state != WORKER_READY || worker_is_spent(worker) ||
            (worker->process && worker->calls.n_over + worker->calls.n_given_up > 0))
                return false;
        pending = conn_pending(worker->conn);
        return pending == 0 || pending + len <= OUTPUT_BYTES;
}

bool worker_is_spent(const struct worker *worker) {
        return worker->retiring || calls_spent(&worker->calls);
}
