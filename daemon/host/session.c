/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session owns its calls, and each call its invocation; freeing the session frees them all, which withdraws what workers have under
 * way. An answer is written the moment its invocation is done, into the connection's output, in whatever order that is.
 *
 * What a host holds is charged to its user's account (host/quota.h): the connection, each call in flight with its bytes, and the
 * connection's buffers, whoever fills them. A host with too many calls in flight is told so by an error for each call beyond; one that does not read its answers is cut off by the
 * connection's limit; neither delays anybody else.
 */

#include "host/session.h"

#include <sys/resource.h>

#include "base/core.h"
#include "base/timer.h"
#include "host/decisions.h"
#include "host/quota.h"
#include "wire/conn.h"

#define FRAMES_IN_FLIGHT 4      /* the most that one host may have in memory, in longest messages */
#define DESCRIPTORS_RESERVED 64 /* for workers, and for the control socket */

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
        struct account *account;
        size_t bytes, bytes_max; /* of the calls in flight; at the maximum no more is read */
        size_t memory;           /* of the connection's buffers */
        struct peer peer;
        bool wants_generation; /* it is told when another one serves */
        bool wants_core;       /* it is told where to wait (base/core.h) */
        unsigned told_core;
};

struct hosts {
        struct event_base *base;
        struct generation *const *current;
        TAILQ_HEAD(, session) sessions;
        struct accounts accounts;
        struct refusals refused, forbidden; /* connections; requests */
        struct hosts_counts counts;
        struct decisions *decisions;
        bool stopping, drained;
        struct event *idle_check, *drain_timer;
        void (*idle)(void *data);
        void *data;
};

/* The limits of the serving generation. */
static void update_totals(struct hosts *hosts) {
        const struct daemon_config *config = (*hosts->current)->daemon;

        hosts->accounts.total[QUOTA_CONNECTIONS] = config->connections;
        hosts->accounts.total[QUOTA_CALLS] = config->calls_total;
        hosts->accounts.total[QUOTA_BYTES] = config->bytes_total;
        hosts->accounts.rate = config->connect_rate;
}

/* ---- Calls ---- */

static void discharge(struct session *session, size_t bytes) {
        account_give(session->account, QUOTA_CALLS, 1);
        account_give(session->account, QUOTA_BYTES, bytes);
}

static void call_free(struct call *call) {
        struct session *session = call->session;

        (void)invocation_free(call->invocation);
        TAILQ_REMOVE(&session->calls, call, link);
        session->n_calls--;
        session->bytes -= call->bytes;
        discharge(session, call->bytes);
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
        CLEANUP_BUF struct buf tail = {0};
        size_t before;

        if (session->wants_core)
                rpc_tell_core(out, &session->told_core);
        before = out->len;
        session->hosts->counts.calls_failed += invocation_failed(invocation);
        decisions_add(session->hosts->decisions, invocation, &(struct decision_host){session->peer.uid, session->peer.pid});
        invocation_put_response(invocation, out, call->msgid, &tail);
        conn_put_tail(session->conn, &tail);
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

/* Charges a call. Return: whether it is within all limits; if not, the error is written. */
static bool charge_call(struct session *session, const struct generation *generation, const struct rpc_msg *msg) {
        struct buf *out = conn_output(session->conn);
        struct account *account = session->account;

        if (session->n_calls >= generation->daemon->calls) {
                rpc_put_limit_error(out, msg->id, "too many calls of this connection are in flight", "calls", session->n_calls,
                                    generation->daemon->calls, "limits.calls_per_connection");
        } else if (!account_take(account, QUOTA_CALLS, 1)) {
                rpc_put_limit_error(out, msg->id, "too many calls of this user are in flight", "calls",
                                    account->held[QUOTA_CALLS], account_limit(account, QUOTA_CALLS), "limits.calls");
        } else if (!account_take(account, QUOTA_BYTES, msg->params.len)) {
                account_give(account, QUOTA_CALLS, 1);
                rpc_put_limit_error(out, msg->id, "the calls and answers of this user take too much memory", "bytes",
                                    account->held[QUOTA_BYTES], account_limit(account, QUOTA_BYTES), "limits.bytes");
        } else {
                return true;
        }
        session->hosts->counts.calls_failed++;
        return false;
}

static void call_enter(struct call *call) {
        struct session *session = call->session;

        TAILQ_INSERT_TAIL(&session->calls, call, link);
        session->n_calls++;
        session->bytes += call->bytes;
        if (session->bytes >= session->bytes_max)
                conn_pause(session->conn);
        session->hosts->counts.calls_active++;
}

static void on_invoke(struct session *session, struct generation *generation, const struct rpc_msg *msg) {
        struct buf *out = conn_output(session->conn);
        struct hosts *hosts = session->hosts;
        struct call *call;
        struct refusal refusal;

        hosts->counts.calls_total++;
        core_on_call(session, hosts->counts.calls_active == 0);
        if (!charge_call(session, generation, msg))
                return;
        call = calloc(1, sizeof(*call));
        if (!call) {
                discharge(session, msg->params.len);
                rpc_put_protocol_error(out, msg->id, "limit", "out of memory");
                return;
        }
        call->session = session;
        call->msgid = msg->id;
        if (!invocation_start(&call->invocation, generation, msg->params, msg->memory, on_invocation_done, call, &refusal)) {
                hosts->counts.calls_failed++;
                discharge(session, msg->params.len);
                rpc_put_protocol_error(out, msg->id, refusal.code, "%s", refusal.message);
                free(call);
                return;
        }
        call->bytes = msg->params.len;
        call_enter(call);
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
        account_give(session->account, QUOTA_CONNECTIONS, 1);
        account_give(session->account, QUOTA_BYTES, session->memory);
        account_close(session->account);
        peer_done(&session->peer);
        free(session);
}

static void end_session(struct session *session, const char *reason) {
        if (reason)
                log_warning("host pid %d uid %u: disconnected: %s", (int)session->peer.pid, (unsigned)session->peer.uid, reason);
        session_free(session);
}

/* Answers what the host may not do. Return: whether it may. */
static bool may(struct session *session, const struct generation *generation, const struct rpc_msg *msg) {
        const bool invoke = rpc_method_is(msg, "invoke");
        const struct mp hook = mp_map_text(msg->params, "hook"); /* of several the last; but then the request is refused */

        if (access_is_free(msg) || access_allows(&generation->daemon->access.invoke, &session->peer, invoke ? &hook : NULL))
                return true;
        session->hosts->counts.calls_total += invoke;
        session->hosts->counts.calls_failed += invoke;
        refusals_forbid(&session->hosts->forbidden, "host", &session->peer, msg->id, invoke ? hook : msg->method, "access.invoke",
                        conn_output(session->conn));
        return false;
}

/* `notifications` of hello: which it wants to have. */
static bool asks_for(struct mp params, const char *notification) {
        struct mp_cur cur = mp_cur(mp_map_value(params, "notifications"));
        struct mp item;
        uint32_t n;

        if (!mp_read_array(&cur, &n))
                return false;
        for (; n > 0 && mp_read_any(&cur, &item); n--)
                if (mp_eq_str(item, notification))
                        return true;
        return false;
}

/* Refuses what would take too long to look through. Return: whether it was. */
static bool refuse_values(struct session *session, const struct generation *generation, const struct rpc_msg *msg) {
        const unsigned most = generation->daemon->values;
        const bool invoke = rpc_method_is(msg, "invoke");
        uint64_t values = rpc_values(msg, most);

        if (values <= most)
                return false;
        session->hosts->counts.calls_total += invoke;
        session->hosts->counts.calls_failed += invoke;
        rpc_put_limit_error(conn_output(session->conn), msg->id, "the message has too many values", "values", values, most,
                            "limits.values");
        return true;
}

static void on_request(struct session *session, const struct rpc_msg *msg) {
        struct generation *generation = *session->hosts->current;
        struct buf *out = conn_output(session->conn);

        update_totals(session->hosts);
        if (refuse_values(session, generation, msg))
                return;
        if (rpc_method_is(msg, "hello")) {
                session->wants_generation = asks_for(msg->params, "generation");
                session->wants_core = asks_for(msg->params, "core");
        }
        if (session->hosts->stopping)
                rpc_put_protocol_error(out, msg->id, "stopping", "the daemon is stopping");
        else if (!may(session, generation, msg))
                return;
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
        if (msg->kind == RPC_NOTIFICATION && msg->values > (*session->hosts->current)->daemon->values) {
                end_session(session, "a notification has more values than the limit (limits.values)");
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

static const char *on_memory(void *data, size_t bytes) {
        struct session *session = data;

        if (bytes > session->memory && !account_take(session->account, QUOTA_BYTES, bytes - session->memory))
                return "the calls and answers of its user take too much memory (limits.bytes)";
        if (bytes < session->memory)
                account_give(session->account, QUOTA_BYTES, session->memory - bytes);
        session->memory = bytes;
        return NULL;
}

static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close, .on_memory = on_memory};

/* Descriptors count up from the lowest that is free. Return: whether so few are left that they had better go to workers. */
static bool is_scarce(int fd) {
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + DESCRIPTORS_RESERVED >= limit.rlim_cur;
}

static void refuse_without_memory(struct hosts *hosts, const struct peer *peer) {
        refusals_add(&hosts->refused, "host", peer, "out of memory", "of the machine, or of the service");
}

/* Return: the account, charged with the connection; NULL when it is refused. */
static struct account *admit(struct hosts *hosts, int fd, const struct peer *peer) {
        struct account *account = account_open(&hosts->accounts, peer->uid);

        if (!account) {
                refuse_without_memory(hosts, peer);
                return NULL;
        }
        if (!account_connects(account, clock_now_usec()))
                refusals_add(&hosts->refused, "host", peer, "it connects too often", "limits.connection_rate");
        else if (is_scarce(fd))
                refusals_add(&hosts->refused, "host", peer, "too few descriptors are left",
                             "the limit of open files, RLIMIT_NOFILE");
        else if (!account_take(account, QUOTA_CONNECTIONS, 1))
                refusals_add(&hosts->refused, "host", peer, "too many hosts are connected", "limits.connections");
        else
                return account;
        account_close(account);
        return NULL;
}

static struct conn_limits limits_of(const struct generation *generation) {
        return (struct conn_limits){
                .frame_bytes = generation->daemon->frame_bytes,
                .output_bytes = generation->daemon->output_bytes,
        };
}

/* Return: a session without a connection, which takes over the peer and, where there is one, the account; NULL: no memory. */
static struct session *session_new(struct hosts *hosts, struct account *account, struct peer *peer) {
        struct session *session = calloc(1, sizeof(*session));

        if (!session)
                return NULL;
        session->hosts = hosts;
        session->account = account;
        session->bytes_max = FRAMES_IN_FLIGHT * limits_of(*hosts->current).frame_bytes;
        session->peer = *peer;
        *peer = (struct peer){0};
        TAILQ_INIT(&session->calls);
        TAILQ_INSERT_TAIL(&hosts->sessions, session, link);
        hosts->counts.connected++;
        return session;
}

void hosts_accept(struct hosts *hosts, int fd) {
        const struct conn_limits limits = limits_of(*hosts->current);
        CLEANUP(peer_done) struct peer peer = {0};
        struct session *session;
        struct account *account;

        update_totals(hosts);
        account = peer_read(&peer, fd) == 0 ? admit(hosts, fd, &peer) : NULL;
        session = account ? session_new(hosts, account, &peer) : NULL;
        if (!session) {
                if (account) {
                        refuse_without_memory(hosts, &peer);
                        account_give(account, QUOTA_CONNECTIONS, 1);
                        account_close(account);
                }
                (void)fd_close(fd);
                return;
        }
        if (conn_new(&session->conn, hosts->base, fd, &limits, &handler, session) < 0) {
                refuse_without_memory(hosts, &session->peer);
                session_free(session);
        }
}

/* ---- An upgrade ---- */

static const struct carried call_members[] = {CARRIED(UINT, struct call, msgid), CARRIED(UINT, struct call, bytes)};
static const struct carried session_members[] = {
        CARRIED(BOOL, struct session, wants_generation),
        CARRIED(BOOL, struct session, wants_core),
        CARRIED(UINT, struct session, told_core),
};
static const struct carried members[] = {
        CARRIED(UINT, struct hosts, counts.calls_total),
        CARRIED(UINT, struct hosts, counts.calls_failed),
        CARRIED(UINT, struct hosts, refused.total),
        CARRIED(UINT, struct hosts, forbidden.total),
};

static void session_save(const struct session *session, struct carry *carry) {
        const struct call *call;

        mp_put_map(&carry->out, ELEMENTS(session_members) + 2);
        carry_put(carry, session_members, ELEMENTS(session_members), session);
        mp_put_str(&carry->out, "conn");
        conn_save(session->conn, carry);
        mp_put_str(&carry->out, "calls");
        mp_put_array(&carry->out, session->n_calls);
        TAILQ_FOREACH(call, &session->calls, link) {
                mp_put_map(&carry->out, ELEMENTS(call_members) + 1);
                carry_put(carry, call_members, ELEMENTS(call_members), call);
                mp_put_str(&carry->out, "invocation");
                invocation_save(call->invocation, carry);
        }
}

void hosts_save(const struct hosts *hosts, struct carry *carry) {
        const struct session *session;

        mp_put_map(&carry->out, ELEMENTS(members) + 2);
        carry_put(carry, members, ELEMENTS(members), hosts);
        mp_put_str(&carry->out, "decisions");
        decisions_save(hosts->decisions, carry);
        mp_put_str(&carry->out, "sessions");
        mp_put_array(&carry->out, hosts->counts.connected);
        TAILQ_FOREACH(session, &hosts->sessions, link)
                session_save(session, carry);
}

static int call_adopt(struct session *session, struct mp saved) {
        struct call *call = calloc(1, sizeof(*call));
        int r = call ? carry_get(saved, call_members, ELEMENTS(call_members), call) : -ENOMEM;

        if (r < 0)
                return r;
        call->session = session;
        account_hold(session->account, QUOTA_CALLS, 1);
        account_hold(session->account, QUOTA_BYTES, call->bytes);
        r = invocation_adopt(&call->invocation, *session->hosts->current, mp_map_value(saved, "invocation"), on_invocation_done,
                             call);
        if (r == 0)
                call_enter(call);
        return r;
}

static int session_adopt(struct hosts *hosts, struct mp saved) {
        const struct conn_limits limits = limits_of(*hosts->current);
        struct carry_items calls = carry_items(mp_map_value(saved, "calls"));
        struct session *session = session_new(hosts, NULL, &(struct peer){0});
        struct mp item;
        int r = session ? conn_adopt(&session->conn, hosts->base, mp_map_value(saved, "conn"), &limits, &handler, session)
                        : -ENOMEM;

        r = r < 0 ? r : carry_get(saved, session_members, ELEMENTS(session_members), session);
        r = r < 0 ? r : peer_read(&session->peer, conn_fd(session->conn));
        if (r < 0)
                return r;
        session->account = account_open(&hosts->accounts, session->peer.uid);
        if (!session->account)
                return -ENOMEM;
        session->memory = conn_memory(session->conn);
        account_hold(session->account, QUOTA_CONNECTIONS, 1);
        account_hold(session->account, QUOTA_BYTES, session->memory);
        while (r == 0 && carry_next(&calls, &item))
                r = call_adopt(session, item);
        return r;
}

int hosts_adopt(struct hosts *hosts, struct mp saved) {
        struct carry_items sessions = carry_items(mp_map_value(saved, "sessions"));
        int r = carry_get(saved, members, ELEMENTS(members), hosts);
        struct mp item;

        r = r < 0 ? r : decisions_adopt(hosts->decisions, mp_map_value(saved, "decisions"));
        update_totals(hosts);
        while (r == 0 && carry_next(&sessions, &item))
                r = session_adopt(hosts, item);
        return r;
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
        if (!hosts->idle_check || !hosts->drain_timer || decisions_new(&hosts->decisions, base, current) < 0) {
                (void)hosts_free(hosts);
                return -ENOMEM;
        }
        *ret = hosts;
        return 0;
}

void hosts_tell_generation(struct hosts *hosts) {
        struct session *session;

        TAILQ_FOREACH(session, &hosts->sessions, link) {
                if (!session->wants_generation)
                        continue;
                rpc_put_notification(conn_output(session->conn), "generation");
                mp_put_map(conn_output(session->conn), 1);
                mp_put_str(conn_output(session->conn), "generation");
                mp_put_uint(conn_output(session->conn), (*hosts->current)->number);
                conn_flush(session->conn);
        }
}

void hosts_stop(struct hosts *hosts, usec_t drain_usec, void (*idle)(void *data), void *data) {
        hosts->stopping = true;
        hosts->idle = idle;
        hosts->data = data;
        timer_start(hosts->drain_timer, drain_usec);
        event_active(hosts->idle_check, EV_TIMEOUT, 0);
}

struct hosts *hosts_free(struct hosts *hosts) {
        struct session *session;

        if (!hosts)
                return NULL;
        hosts->stopping = false;
        while ((session = TAILQ_FIRST(&hosts->sessions)))
                session_free(session);
        accounts_done(&hosts->accounts);
        (void)decisions_free(hosts->decisions);
        if (hosts->idle_check)
                event_free(hosts->idle_check);
        if (hosts->drain_timer)
                event_free(hosts->drain_timer);
        free(hosts);
        return NULL;
}

struct hosts_counts hosts_counts(const struct hosts *hosts) {
        struct hosts_counts counts = hosts->counts;

        counts.decisions_dropped = decisions_dropped(hosts->decisions);
        return counts;
}

struct refusals *hosts_forbidden(struct hosts *hosts) {
        return &hosts->forbidden;
}
