/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session owns its calls, and each call its invocation; freeing the session frees them all, which withdraws what workers have under
 * way. An answer is written the moment its invocation is done, into the connection's output, in whatever order that is.
 *
 * A host with too many calls in flight is told so by an error for each call beyond; one that does not read its answers is cut off by the
 * connection's limit; neither delays anybody else.
 */

#include "host/session.h"

#include <sys/socket.h>

#include "wire/conn.h"

#define FRAMES_IN_FLIGHT 4 /* the most that one host may have in memory, in longest messages */

struct call {
        TAILQ_ENTRY(call) link;
        struct session *session;
        struct invocation *invocation;
        uint32_t msgid;
        size_t bytes; /* of its parameters */
};

struct session {
        TAILQ_ENTRY(session) link;
        struct hosts *hosts;
        struct conn *conn;
        TAILQ_HEAD(, call) calls;
        unsigned n_calls;
        size_t bytes, bytes_max; /* of the calls in flight; at the maximum no more is read */
        pid_t pid;               /* of the peer when it connected; for the log */
        uid_t uid;
};

struct hosts {
        struct event_base *base;
        struct generation *const *current;
        TAILQ_HEAD(, session) sessions;
        struct hosts_counts counts;
        bool stopping, drained;
        struct event *idle_check, *drain_timer;
        void (*idle)(void *data);
        void *data;
};

/* ---- Calls ---- */

static void call_free(struct call *call) {
        struct session *session = call->session;

        (void)invocation_free(call->invocation);
        TAILQ_REMOVE(&session->calls, call, link);
        session->n_calls--;
        session->bytes -= call->bytes;
        if (session->bytes < session->bytes_max)
                conn_resume(session->conn);
        session->hosts->counts.calls_active--;
        free(call);
        if (session->hosts->stopping && session->hosts->counts.calls_active == 0)
                event_active(session->hosts->idle_check, EV_TIMEOUT, 0);
}

static struct call *find_call(struct session *session, uint32_t msgid) {
        struct call *call;

        TAILQ_FOREACH(call, &session->calls, link)
                if (call->msgid == msgid)
                        return call;
        return NULL;
}

static void on_invocation_done(void *data, struct invocation *invocation) {
        struct call *call = data;
        struct session *session = call->session;
        struct buf *out = conn_output(session->conn);
        size_t before = out->len;

        session->hosts->counts.calls_failed += invocation_failed(invocation);
        invocation_put_response(invocation, out, call->msgid);
        /* An answer that does not fit beside those that wait is an error of its call, as long as the error fits. */
        if (buf_error(out) == -EMSGSIZE) {
                out->len = before;
                out->error = 0;
                rpc_put_limit_error(out, call->msgid, "the answer is too long for what waits to be read", "output", before,
                                    out->limit, "limits.output_bytes");
        }
        call_free(call);
        conn_flush(session->conn);
}

static void on_invoke(struct session *session, struct generation *generation, const struct rpc_msg *msg) {
        struct buf *out = conn_output(session->conn);
        struct hosts *hosts = session->hosts;
        struct call *call;
        struct refusal refusal;

        hosts->counts.calls_total++;
        if (session->n_calls >= generation->daemon->calls) {
                hosts->counts.calls_failed++;
                rpc_put_limit_error(out, msg->id, "too many calls of this connection are in flight", "calls", session->n_calls,
                                    generation->daemon->calls, "limits.calls_per_connection");
                return;
        }
        call = calloc(1, sizeof(*call));
        if (!call) {
                rpc_put_protocol_error(out, msg->id, "limit", "out of memory");
                return;
        }
        call->session = session;
        call->msgid = msg->id;
        if (!invocation_start(&call->invocation, generation, msg->params, on_invocation_done, call, &refusal)) {
                hosts->counts.calls_failed++;
                rpc_put_protocol_error(out, msg->id, refusal.code, "%s", refusal.message);
                free(call);
                return;
        }
        call->bytes = msg->params.len;
        TAILQ_INSERT_TAIL(&session->calls, call, link);
        session->n_calls++;
        session->bytes += call->bytes;
        if (session->bytes >= session->bytes_max)
                conn_pause(session->conn);
        hosts->counts.calls_active++;
}

/* Answers a call in the place of its invocation, which is withdrawn. */
static void call_abandon(struct call *call, const char *code, const char *message) {
        rpc_put_protocol_error(conn_output(call->session->conn), call->msgid, code, "%s", message);
        call_free(call);
}

static void on_cancel(struct session *session, struct mp params) {
        struct call *call;
        struct mp value;
        struct mp_cur cur;
        uint64_t msgid;

        if (!mp_map_get(params, "msgid", &value))
                return;
        cur = mp_cur(value);
        if (!mp_read_uint(&cur, &msgid) || msgid > UINT32_MAX || !(call = find_call(session, (uint32_t)msgid)))
                return;
        call_abandon(call, "cancelled", "the call was cancelled by its host");
}

/* ---- Sessions ---- */

static void session_free(struct session *session) {
        struct call *call;

        while ((call = TAILQ_FIRST(&session->calls)))
                call_free(call);
        (void)conn_free(session->conn);
        TAILQ_REMOVE(&session->hosts->sessions, session, link);
        session->hosts->counts.connected--;
        free(session);
}

static void end_session(struct session *session, const char *reason) {
        if (reason)
                log_warning("host pid %d uid %u: disconnected: %s", (int)session->pid, (unsigned)session->uid, reason);
        session_free(session);
}

static void on_request(struct session *session, const struct rpc_msg *msg) {
        struct generation *generation = *session->hosts->current;
        struct buf *out = conn_output(session->conn);

        if (session->hosts->stopping)
                rpc_put_protocol_error(out, msg->id, "stopping", "the daemon is stopping");
        else if (rpc_method_is(msg, "invoke"))
                on_invoke(session, generation, msg);
        else if (!host_method(generation, msg, out))
                rpc_put_protocol_error(out, msg->id, "unknown_method",
                                       "no such method on this socket; there are hello, ping, hooks, plugins and invoke");
}

static void on_message(void *data, const struct rpc_msg *msg) {
        struct session *session = data;

        if (msg->kind == RPC_RESPONSE) {
                end_session(session, "it sent a response, but was asked nothing");
                return;
        }
        if (msg->kind == RPC_NOTIFICATION) {
                if (rpc_method_is(msg, "cancel"))
                        on_cancel(session, msg->params);
        } else if (find_call(session, msg->id)) {
                end_session(session, "it used a message id that is still open");
                return;
        } else {
                on_request(session, msg);
        }
        conn_flush(session->conn);
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        end_session(data, end == CONN_CLOSED ? NULL : reason);
}

static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close};

void hosts_accept(struct hosts *hosts, int fd) {
        const struct generation *generation = *hosts->current;
        const struct conn_limits limits = {
                .frame_bytes = generation->daemon->frame_bytes,
                .output_bytes = generation->daemon->output_bytes,
        };
        struct session *session;
        struct ucred peer = {.pid = 0, .uid = (uid_t)-1};
        socklen_t len = sizeof(peer);

        (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
        if (hosts->counts.connected >= generation->daemon->connections) {
                log_warning("host pid %d uid %u: refused: %u hosts are connected, which is the limit (limits.connections)",
                            (int)peer.pid, (unsigned)peer.uid, hosts->counts.connected);
                (void)fd_close(fd);
                return;
        }
        session = calloc(1, sizeof(*session));
        if (!session) {
                (void)fd_close(fd);
                return;
        }
        session->hosts = hosts;
        session->bytes_max = FRAMES_IN_FLIGHT * limits.frame_bytes;
        session->pid = peer.pid;
        session->uid = peer.uid;
        TAILQ_INIT(&session->calls);
        if (conn_new(&session->conn, hosts->base, fd, &limits, &handler, session) < 0) {
                free(session);
                return;
        }
        TAILQ_INSERT_TAIL(&hosts->sessions, session, link);
        hosts->counts.connected++;
}

/* ---- All of them ---- */

/* Every call is answered; is every answer on its way, too? Looked at again soon when not. */
static void on_idle_check(evutil_socket_t fd, short what, void *data) {
        struct timeval soon = {.tv_usec = 10 * 1000};
        struct hosts *hosts = data;
        struct session *session;

        (void)fd;
        (void)what;
        if (hosts->counts.calls_active > 0)
                return;
        TAILQ_FOREACH(session, &hosts->sessions, link)
                if (conn_pending(session->conn) > 0 && !hosts->drained) {
                        (void)event_add(hosts->idle_check, &soon);
                        return;
                }
        if (hosts->idle) {
                void (*idle)(void *data) = hosts->idle;

                hosts->idle = NULL;
                idle(hosts->data);
        }
}

/* The time is over: for calls, and for hosts that do not read their answers. */
static void on_drain_timer(evutil_socket_t fd, short what, void *data) {
        struct hosts *hosts = data;
        struct session *session;
        struct call *call;

        (void)fd;
        (void)what;
        hosts->drained = true;
        TAILQ_FOREACH(session, &hosts->sessions, link) {
                while ((call = TAILQ_FIRST(&session->calls)))
                        call_abandon(call, "stopping", "the daemon stopped before the call ended (drain_timeout)");
                conn_flush(session->conn);
        }
        event_active(hosts->idle_check, EV_TIMEOUT, 0);
}

int hosts_new(struct hosts **ret, struct event_base *base, struct generation *const *current) {
        struct hosts *hosts = calloc(1, sizeof(*hosts));

        if (!hosts)
                return -ENOMEM;
        hosts->base = base;
        hosts->current = current;
        TAILQ_INIT(&hosts->sessions);
        hosts->idle_check = evtimer_new(base, on_idle_check, hosts);
        hosts->drain_timer = evtimer_new(base, on_drain_timer, hosts);
        if (!hosts->idle_check || !hosts->drain_timer) {
                (void)hosts_free(hosts);
                return -ENOMEM;
        }
        *ret = hosts;
        return 0;
}

void hosts_stop(struct hosts *hosts, usec_t drain_usec, void (*idle)(void *data), void *data) {
        struct timeval drain = usec_to_timeval(drain_usec);

        hosts->stopping = true;
        hosts->idle = idle;
        hosts->data = data;
        (void)event_add(hosts->drain_timer, &drain);
        event_active(hosts->idle_check, EV_TIMEOUT, 0);
}

struct hosts *hosts_free(struct hosts *hosts) {
        struct session *session;

        if (!hosts)
                return NULL;
        hosts->stopping = false;
        while ((session = TAILQ_FIRST(&hosts->sessions)))
                session_free(session);
        if (hosts->idle_check)
                event_free(hosts->idle_check);
        if (hosts->drain_timer)
                event_free(hosts->drain_timer);
        free(hosts);
        return NULL;
}

struct hosts_counts hosts_counts(const struct hosts *hosts) {
        return hosts->counts;
}
