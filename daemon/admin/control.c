/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A method is a row of a table. Most answer at once; reload and venv.build answer later, and then the `pending` that
 * stands for the request is what they hold: an administrator who disconnects takes it along.
 */

#include "admin/control.h"

#include "admin/logs.h"
#include "admin/venvs.h"
#include "config.h"
#include "config/explain.h"
#include "wire/conn.h"

#define CONNECTIONS_MAX 64
#define PENDING_MAX 16 /* requests of one administrator that wait for their answer */
#define FRAME_BYTES ((size_t)1 << 20)
#define OUTPUT_BYTES ((size_t)64 << 20)

struct admin;

/* A request whose answer comes later. */
struct pending {
        TAILQ_ENTRY(pending) link;
        struct admin *admin;
        uint32_t msgid;
        struct reload_waiter waiter;
        struct venv_build *build;
        struct logs_query query; /* with `follow`: it waits for lines of the log */
};

struct admin {
        TAILQ_ENTRY(admin) link;
        struct control *control;
        struct conn *conn;
        struct peer peer;
        TAILQ_HEAD(, pending) pending;
        unsigned n_pending;
};

struct control {
        struct event_base *base;
        struct service *service;
        struct hosts *hosts;
        TAILQ_HEAD(, admin) admins;
        unsigned n_admins;
        struct logs *logs;
        bool building; /* one venv.build at a time: each may use all cores */
};

/* ---- Later answers ---- */

static struct pending *pending_new(struct admin *admin, uint32_t msgid) {
        struct pending *pending = admin->n_pending < PENDING_MAX ? calloc(1, sizeof(*pending)) : NULL;

        if (!pending) {
                rpc_put_protocol_error(conn_output(admin->conn), msgid, "limit", "too many requests of this connection are open");
                return NULL;
        }
        admin->n_pending++;
        pending->admin = admin;
        pending->msgid = msgid;
        TAILQ_INSERT_TAIL(&admin->pending, pending, link);
        return pending;
}

static void pending_free(struct pending *pending) {
        service_forget(pending->admin->control->service, &pending->waiter);
        if (pending->build)
                pending->admin->control->building = false;
        pending->build = venv_build_free(pending->build);
        TAILQ_REMOVE(&pending->admin->pending, pending, link);
        pending->admin->n_pending--;
        logs_query_done(&pending->query);
        free(pending);
}

/* ---- reload ---- */

static void put_diagnostics(struct buf *out, const char *key, const struct diags *diags) {
        mp_put_str(out, key);
        mp_put_array(out, diags->n);
        for (size_t i = 0; i < diags->n; i++)
                mp_put_str(out, diags->items[i].text);
}

static void put_refusal(struct buf *out, uint32_t msgid, const struct reload_result *result) {
        rpc_put_error(out, msgid);
        mp_put_map(out, 4);
        mp_put_str(out, "code");
        mp_put_str(out, "config");
        mp_put_str(out, "type");
        mp_put_str(out, "ProtocolError");
        mp_put_str(out, "message");
        mp_put_str(out, result->message);
        mp_put_str(out, "details");
        mp_put_map(out, 2);
        mp_put_str(out, "generation");
        mp_put_uint(out, result->generation);
        put_diagnostics(out, "diagnostics", result->diags);
        rpc_put_error_end(out);
}

static void on_reloaded(struct reload_waiter *waiter, const struct reload_result *result) {
        struct pending *pending = CONTAINER_OF(waiter, struct pending, waiter);
        struct conn *conn = pending->admin->conn;
        struct buf *out = conn_output(conn);

        if (result->refused) {
                put_refusal(out, pending->msgid, result);
        } else {
                rpc_put_result(out, pending->msgid);
                mp_put_map(out, 3);
                mp_put_str(out, "generation");
                mp_put_uint(out, result->generation);
                mp_put_str(out, "changed");
                mp_put_raw(out, result->changed);
                put_diagnostics(out, "warnings", result->diags);
        }
        pending_free(pending);
        conn_flush(conn);
}

static void method_reload(struct admin *admin, const struct rpc_msg *msg) {
        struct pending *pending = pending_new(admin, msg->id);

        if (!pending)
                return;
        pending->waiter.on_done = on_reloaded;
        service_reload(admin->control->service, &pending->waiter);
}

/* ---- venv.build, venv.verify ---- */

static void on_built(void *data, const struct buf *results) {
        struct pending *pending = data;
        struct conn *conn = pending->admin->conn;

        if (buf_error(results)) {
                rpc_put_protocol_error(conn_output(conn), pending->msgid, "limit", "out of memory");
        } else {
                rpc_put_result(conn_output(conn), pending->msgid);
                mp_put_raw(conn_output(conn), (struct mp){results->data, results->len});
        }
        pending_free(pending);
        conn_flush(conn);
}

/* Return: false when the request is answered with an error. */
static bool get_plugin(struct admin *admin, const struct rpc_msg *msg, char **ret) {
        struct buf *out = conn_output(admin->conn);
        CLEANUP_FREE char *plugin = NULL;
        struct mp value;

        if (!mp_map_get(msg->params, "plugin", &value) || mp_is_nil(value))
                return true;
        plugin = mp_dup_str(value);
        if (!plugin) {
                rpc_put_protocol_error(out, msg->id, "bad_request", "plugin: must be a string");
                return false;
        }
        if (!generation_plugin(service_newest(admin->control->service), plugin)) {
                rpc_put_protocol_error(out, msg->id, "unknown_plugin", "no plugin is called \"%.128s\"", plugin);
                return false;
        }
        *ret = TAKE(plugin);
        return true;
}

static void start_venvs(struct admin *admin, const struct rpc_msg *msg, bool verify) {
        struct control *control = admin->control;
        CLEANUP_FREE char *plugin = NULL;
        struct pending *pending;

        if (!get_plugin(admin, msg, &plugin))
                return;
        if (control->building) {
                rpc_put_protocol_error(conn_output(admin->conn), msg->id, "limit",
                                       "venvs are being built or verified already; wait for that to end");
                return;
        }
        pending = pending_new(admin, msg->id);
        if (!pending)
                return;
        if (venv_build_start(&pending->build, control->base, service_newest(control->service), plugin, verify, on_built,
                             pending) < 0) {
                rpc_put_protocol_error(conn_output(admin->conn), msg->id, "limit", "out of memory");
                pending_free(pending);
                return;
        }
        control->building = true;
}

static void method_venv_build(struct admin *admin, const struct rpc_msg *msg) {
        start_venvs(admin, msg, false);
}

static void method_venv_verify(struct admin *admin, const struct rpc_msg *msg) {
        start_venvs(admin, msg, true);
}

static void method_venv_list(struct admin *admin, const struct rpc_msg *msg) {
        rpc_put_result(conn_output(admin->conn), msg->id);
        venvs_put_list(service_newest(admin->control->service), conn_output(admin->conn));
}

/* ---- logs ---- */

static void put_logs(struct admin *admin, uint32_t msgid, const struct logs_query *query) {
        rpc_put_result(conn_output(admin->conn), msgid);
        logs_put(admin->control->logs, query, conn_output(admin->conn));
}

static bool may_administer(const struct admin *admin) {
        return access_allows(&service_newest(admin->control->service)->daemon->access.admin, &admin->peer, NULL);
}

/* A reload may have taken the right away meanwhile. */
static void answer_follower(struct pending *pending) {
        static const char method[] = "logs";
        struct admin *admin = pending->admin;

        if (may_administer(admin))
                put_logs(admin, pending->msgid, &pending->query);
        else
                refusals_forbid(hosts_forbidden(admin->control->hosts), "control socket", &admin->peer, pending->msgid,
                                (struct mp){(const uint8_t *)method, strlen(method)}, "access.admin", conn_output(admin->conn));
        pending_free(pending);
        conn_flush(admin->conn);
}

/* Those who wait for lines have them, as far as there are any for them. */
static void on_lines(void *data) {
        struct control *control = data;
        struct pending *pending, *next;
        struct admin *admin;

        TAILQ_FOREACH(admin, &control->admins, link)
                for (pending = TAILQ_FIRST(&admin->pending); pending; pending = next) {
                        next = TAILQ_NEXT(pending, link);
                        if (pending->query.follow && logs_has_news(control->logs, &pending->query))
                                answer_follower(pending);
                }
}

static void method_logs(struct admin *admin, const struct rpc_msg *msg) {
        CLEANUP(logs_query_done) struct logs_query query = {0};
        const struct control *control = admin->control;
        struct buf *out = conn_output(admin->conn);
        const char *wrong = logs_query_read(msg->params, &query);
        struct pending *pending;

        if (wrong) {
                rpc_put_protocol_error(out, msg->id, "bad_request", "%s", wrong);
        } else if (query.plugin && !logs_know(control->logs, query.plugin) &&
                   !generation_plugin(service_newest(control->service), query.plugin)) {
                rpc_put_protocol_error(out, msg->id, "unknown_plugin", "no plugin is called \"%.128s\"", query.plugin);
        } else if (!query.follow || logs_has_news(control->logs, &query)) {
                put_logs(admin, msg->id, &query);
        } else if ((pending = pending_new(admin, msg->id))) {
                pending->query = query;
                query.plugin = NULL;
        }
}

/* ---- explain ---- */

static void method_explain(struct admin *admin, const struct rpc_msg *msg) {
        const struct generation *generation = service_newest(admin->control->service);
        struct buf *out = conn_output(admin->conn);
        CLEANUP_FREE char *plugin = NULL;
        const struct plugin *found;
        size_t map, n;

        if (!get_plugin(admin, msg, &plugin))
                return;
        if (!plugin) {
                rpc_put_protocol_error(out, msg->id, "bad_request", "plugin: is missing");
                return;
        }
        found = generation_plugin(generation, plugin);
        rpc_put_result(out, msg->id);
        map = mp_map_begin(out);
        n = pool_put_box(found->pool, out);
        mp_put_str(out, "settings");
        explain_put(found->entry, generation->daemon, generation->config, out);
        mp_map_end(out, map, n + 1);
}

/* ---- status ---- */

static void put_calls(const struct control *control, struct buf *out) {
        struct hosts_counts counts = hosts_counts(control->hosts);

        mp_put_str(out, "hosts");
        mp_put_uint(out, counts.connected);
        mp_put_str(out, "calls");
        mp_put_map(out, 3);
        mp_put_str(out, "active");
        mp_put_uint(out, counts.calls_active);
        mp_put_str(out, "total");
        mp_put_uint(out, counts.calls_total);
        mp_put_str(out, "failed");
        mp_put_uint(out, counts.calls_failed);
}

/* The last bucket has none. */
static void put_bucket_ends(struct buf *out) {
        mp_put_str(out, "histogram_usec");
        mp_put_array(out, STEP_BUCKETS);
        for (size_t i = 0; i + 1 < STEP_BUCKETS; i++)
                mp_put_uint(out, step_bucket_usec[i]);
        mp_put_nil(out);
}

static void method_status(struct admin *admin, const struct rpc_msg *msg) {
        static const char *const states[] = {
                [SERVICE_STARTING] = "starting",
                [SERVICE_RUNNING] = "running",
                [SERVICE_RELOADING] = "reloading",
                [SERVICE_STOPPING] = "stopping",
        };
        struct service *service = admin->control->service;
        struct generation *generation = service_newest(service);
        struct buf *out = conn_output(admin->conn);

        rpc_put_result(out, msg->id);
        mp_put_map(out, 11);
        mp_put_str(out, "version");
        mp_put_str(out, CPEXD_VERSION);
        mp_put_str(out, "pid");
        mp_put_int(out, getpid());
        mp_put_str(out, "generation");
        mp_put_uint(out, generation->number);
        mp_put_str(out, "uptime_usec");
        mp_put_uint(out, service_uptime_usec(service));
        mp_put_str(out, "state");
        mp_put_str(out, states[service_state(service)]);
        mp_put_str(out, "plugins_path");
        mp_put_str(out, generation->config->path);
        mp_put_str(out, "socket");
        mp_put_str(out, generation->daemon->socket.path);
        put_calls(admin->control, out);
        put_bucket_ends(out);
        mp_put_str(out, "plugins");
        mp_put_array(out, generation->n_plugins);
        for (size_t i = 0; i < generation->n_plugins; i++)
                pool_put_status(generation->plugins[i].pool, out);
}

/* ---- Administrators ---- */

static const struct method {
        const char *name;
        bool changes; /* more than looking, or at what plugins print, which may be anything: access.admin */
        void (*run)(struct admin *admin, const struct rpc_msg *msg);
} methods[] = {
        {"status", false, method_status},
        {"reload", true, method_reload},
        {"explain", false, method_explain},
        {"venv.list", false, method_venv_list},
        {"venv.build", true, method_venv_build},
        {"venv.verify", true, method_venv_verify},
        {"logs", true, method_logs},
};

/* Who may change may look. What is not in the table (NULL) is looking, too. */
static bool may(const struct admin *admin, const struct method *method) {
        const struct access *access = &service_newest(admin->control->service)->daemon->access;

        return may_administer(admin) || (!(method && method->changes) && access_allows(&access->status, &admin->peer, NULL));
}

static void admin_free(struct admin *admin) {
        struct pending *pending;

        while ((pending = TAILQ_FIRST(&admin->pending)))
                pending_free(pending);
        (void)conn_free(admin->conn);
        TAILQ_REMOVE(&admin->control->admins, admin, link);
        admin->control->n_admins--;
        peer_done(&admin->peer);
        free(admin);
}

static void on_request(struct admin *admin, const struct rpc_msg *msg) {
        const struct method *method = NULL;

        for (size_t i = 0; i < ELEMENTS(methods) && !method; i++)
                if (rpc_method_is(msg, methods[i].name))
                        method = &methods[i];
        if (!access_is_free(msg) && !may(admin, method))
                refusals_forbid(hosts_forbidden(admin->control->hosts), "control socket", &admin->peer, msg->id, msg->method,
                                method && method->changes ? "access.admin" : "access.status", conn_output(admin->conn));
        else if (method)
                method->run(admin, msg);
        else if (!host_method(service_newest(admin->control->service), msg, conn_output(admin->conn)))
                rpc_put_protocol_error(conn_output(admin->conn), msg->id, "unknown_method",
                                       "no such method on the control socket; invoke is on the host socket");
}

static void on_message(void *data, const struct rpc_msg *msg) {
        struct admin *admin = data;

        if (msg->kind == RPC_REQUEST && service_state(admin->control->service) != SERVICE_STOPPING)
                on_request(admin, msg);
        else if (msg->kind == RPC_REQUEST)
                rpc_put_protocol_error(conn_output(admin->conn), msg->id, "stopping", "the daemon is stopping");
        conn_flush(admin->conn);
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        if (end != CONN_CLOSED)
                log_warning("control socket: an administrator was disconnected: %s", reason);
        admin_free(data);
}

static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close};

void control_accept(struct control *control, int fd) {
        const struct conn_limits limits = {.frame_bytes = FRAME_BYTES, .output_bytes = OUTPUT_BYTES};
        CLEANUP(peer_done) struct peer peer = {0};
        struct admin *admin;

        if (peer_read(&peer, fd) < 0 || control->n_admins >= (peer.trusted ? CONNECTIONS_MAX : CONNECTIONS_MAX / 2)) {
                log_warning("control socket: a connection was refused: %u are open", control->n_admins);
                (void)fd_close(fd);
                return;
        }
        admin = calloc(1, sizeof(*admin));
        if (!admin) {
                log_warning("control socket: a connection was refused: out of memory");
                (void)fd_close(fd);
                return;
        }
        admin->peer = peer;
        peer = (struct peer){0};
        admin->control = control;
        TAILQ_INIT(&admin->pending);
        if (conn_new(&admin->conn, control->base, fd, &limits, &handler, admin) < 0) {
                log_warning("control socket: a connection was refused: out of memory");
                peer_done(&admin->peer);
                free(admin);
                return;
        }
        TAILQ_INSERT_TAIL(&control->admins, admin, link);
        control->n_admins++;
}

int control_new(struct control **ret, struct event_base *base, struct service *service, struct hosts *hosts) {
        struct control *control = calloc(1, sizeof(*control));

        if (!control)
                return -ENOMEM;
        control->base = base;
        control->service = service;
        control->hosts = hosts;
        TAILQ_INIT(&control->admins);
        if (logs_new(&control->logs, base, service, on_lines, control) < 0) {
                free(control);
                return -ENOMEM;
        }
        *ret = control;
        return 0;
}

void control_stop(struct control *control) {
        struct pending *pending;
        struct admin *admin;

        TAILQ_FOREACH(admin, &control->admins, link) {
                while ((pending = TAILQ_FIRST(&admin->pending))) {
                        rpc_put_protocol_error(conn_output(admin->conn), pending->msgid, "stopping", "the daemon is stopping");
                        pending_free(pending);
                }
                conn_flush(admin->conn);
        }
}

struct control *control_free(struct control *control) {
        struct admin *admin;

        if (!control)
                return NULL;
        while ((admin = TAILQ_FIRST(&control->admins)))
                admin_free(admin);
        (void)logs_free(control->logs);
        free(control);
        return NULL;
}
