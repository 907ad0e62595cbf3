/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A method is a row of a table. Most answer at once; reload and venv.build answer later, and then the `pending` that
 * stands for the request is what they hold: an administrator who disconnects takes it along.
 */

#include "admin/control.h"

#include "admin/logs.h"
#include "admin/status.h"
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
        bool upgrade;            /* it waits for that */
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
        struct upgrade *upgrade;
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

/* `marked`: warnings are told from mistakes, as the log does. */
static void put_diagnostics(struct buf *out, const char *key, const struct diags *diags, bool marked) {
        mp_put_str(out, key);
        mp_put_array(out, diags->n);
        for (size_t i = 0; i < diags->n; i++) {
                const struct diag *diag = &diags->items[i];
                CLEANUP_BUF struct buf text = {0};

                if (marked && diag->severity != DIAG_ERROR)
                        buf_append_str(&text, "warning: ");
                buf_append_str(&text, diag->text);
                if (buf_error(&text) == 0)
                        mp_put_text(out, text.data, text.len);
                else
                        mp_put_str(out, diag->text);
        }
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
        put_diagnostics(out, "diagnostics", result->diags, true);
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
                put_diagnostics(out, "warnings", result->diags, false);
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

/* ---- upgrade ---- */

static void method_upgrade(struct admin *admin, const struct rpc_msg *msg) {
        struct pending *pending = pending_new(admin, msg->id);

        if (!pending)
                return;
        pending->upgrade = true;
        upgrade_start(admin->control->upgrade);
}

/* Calls `put` for each who waits for an upgrade, which is then answered. */
static void answer_upgrade(struct control *control, void (*put)(struct buf *out, uint32_t msgid, const void *data),
                           const void *data) {
        struct pending *pending, *next;
        struct admin *admin;

        TAILQ_FOREACH(admin, &control->admins, link) {
                for (pending = TAILQ_FIRST(&admin->pending); pending; pending = next) {
                        next = TAILQ_NEXT(pending, link);
                        if (!pending->upgrade)
                                continue;
                        put(conn_output(admin->conn), pending->msgid, data);
                        pending_free(pending);
                }
                conn_flush(admin->conn);
        }
}

static void put_upgraded(struct buf *out, uint32_t msgid, const void *data) {
        const struct upgrade_result *result = data;

        rpc_put_result(out, msgid);
        mp_put_map(out, 5);
        mp_put_str(out, "from");
        mp_put_strn(out, result->from.data, result->from.len);
        mp_put_str(out, "to");
        mp_put_str(out, CPEXD_VERSION);
        mp_put_str(out, "workers");
        mp_put_uint(out, result->workers);
        mp_put_str(out, "hosts");
        mp_put_uint(out, result->hosts);
        mp_put_str(out, "calls");
        mp_put_uint(out, result->calls);
}

void control_upgraded(struct control *control, const struct upgrade_result *result) {
        answer_upgrade(control, put_upgraded, result);
}

static void put_upgrade_refused(struct buf *out, uint32_t msgid, const void *why) {
        rpc_put_protocol_error(out, msgid, "upgrade", "%s", (const char *)why);
}

void control_upgrade_refused(struct control *control, const char *why) {
        answer_upgrade(control, put_upgrade_refused, why);
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
static bool get_name(struct admin *admin, const struct rpc_msg *msg, char **ret) {
        struct mp value;

        *ret = NULL;
        if (!mp_map_get(msg->params, "plugin", &value) || mp_is_nil(value))
                return true;
        *ret = mp_dup_str(value);
        if (!*ret)
                rpc_put_protocol_error(conn_output(admin->conn), msg->id, "bad_request", "plugin: must be a string");
        return *ret != NULL;
}

static void put_unknown(struct buf *out, uint32_t id, const char *plugin) {
        rpc_put_protocol_error(out, id, "unknown_plugin", "no plugin is called \"%.128s\"", plugin);
}

static bool get_plugin(struct admin *admin, const struct rpc_msg *msg, char **ret) {
        CLEANUP_FREE char *plugin = NULL;

        if (!get_name(admin, msg, &plugin))
                return false;
        if (plugin && !generation_plugin(service_newest(admin->control->service), plugin)) {
                put_unknown(conn_output(admin->conn), msg->id, plugin);
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
                put_unknown(out, msg->id, query.plugin);
        } else if (!query.follow || logs_has_news(control->logs, &query)) {
                put_logs(admin, msg->id, &query);
        } else if ((pending = pending_new(admin, msg->id))) {
                pending->query = query;
                query.plugin = NULL;
        }
}

/* ---- explain ---- */

/* Return: the plugin of that name, or the first of the group that has it; NULL: there is none. */
static const struct plugin *plugin_or_first_of_group(const struct generation *generation, const char *name) {
        const struct plugin *found = generation_plugin(generation, name);

        for (size_t i = 0; i < generation->n_plugins && !found; i++)
                if (str_eq(generation->plugins[i].entry->isolation.group, name))
                        found = &generation->plugins[i];
        return found;
}

static void method_explain(struct admin *admin, const struct rpc_msg *msg) {
        const struct generation *generation = service_newest(admin->control->service);
        struct buf *out = conn_output(admin->conn);
        CLEANUP_FREE char *plugin = NULL;
        const struct plugin *found;
        size_t map, n;

        if (!get_name(admin, msg, &plugin))
                return;
        if (!plugin) {
                rpc_put_protocol_error(out, msg->id, "bad_request", "plugin: is missing");
                return;
        }
        found = plugin_or_first_of_group(generation, plugin);
        if (!found) {
                put_unknown(out, msg->id, plugin);
                return;
        }
        rpc_put_result(out, msg->id);
        map = mp_map_begin(out);
        n = pool_put_box(found->pool, out);
        mp_put_str(out, "settings");
        explain_put(found->entry, generation->daemon, generation->config, out);
        mp_map_end(out, map, n + 1);
}

/* ---- status ---- */

static void method_status(struct admin *admin, const struct rpc_msg *msg) {
        rpc_put_result(conn_output(admin->conn), msg->id);
        status_put(admin->control->service, admin->control->hosts, conn_output(admin->conn));
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
        {"upgrade", true, method_upgrade},
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

static const struct conn_limits limits = {.frame_bytes = FRAME_BYTES, .output_bytes = OUTPUT_BYTES};

/* Return: one without a connection, which takes over the peer; NULL: no memory. */
static struct admin *admin_new(struct control *control, struct peer *peer) {
        struct admin *admin = calloc(1, sizeof(*admin));

        if (!admin)
                return NULL;
        admin->control = control;
        admin->peer = *peer;
        *peer = (struct peer){0};
        TAILQ_INIT(&admin->pending);
        TAILQ_INSERT_TAIL(&control->admins, admin, link);
        control->n_admins++;
        return admin;
}

void control_accept(struct control *control, int fd) {
        CLEANUP(peer_done) struct peer peer = {0};
        struct admin *admin;

        if (peer_read(&peer, fd) < 0 || control->n_admins >= (peer.trusted ? CONNECTIONS_MAX : CONNECTIONS_MAX / 2)) {
                log_warning("control socket: a connection was refused: %u are open", control->n_admins);
                (void)fd_close(fd);
                return;
        }
        admin = admin_new(control, &peer);
        if (!admin) {
                log_warning("control socket: a connection was refused: out of memory");
                (void)fd_close(fd);
                return;
        }
        if (conn_new(&admin->conn, control->base, fd, &limits, &handler, admin) < 0) {
                log_warning("control socket: a connection was refused: out of memory");
                admin_free(admin);
        }
}

int control_new(struct control **ret, struct event_base *base, struct service *service, struct hosts *hosts,
                struct upgrade *upgrade) {
        struct control *control = calloc(1, sizeof(*control));

        if (!control)
                return -ENOMEM;
        control->base = base;
        control->service = service;
        control->hosts = hosts;
        control->upgrade = upgrade;
        TAILQ_INIT(&control->admins);
        if (logs_new(&control->logs, base, service, on_lines, control) < 0) {
                free(control);
                return -ENOMEM;
        }
        *ret = control;
        return 0;
}

/* ---- Carrying them across an upgrade ---- */

const char *control_obstacle(const struct control *control) {
        return control->building ? "venvs are being built or verified (cpexctl venv)" : NULL;
}

/* All that an administrator can be waiting for by now is the upgrade, and lines of the log. */
static const struct carried pending_members[] = {
        CARRIED(UINT, struct pending, msgid),        CARRIED(BOOL, struct pending, upgrade),
        CARRIED(STR, struct pending, query.plugin),  CARRIED(BOOL, struct pending, query.has_after),
        CARRIED(BOOL, struct pending, query.follow), CARRIED(UINT, struct pending, query.after),
        CARRIED(UINT, struct pending, query.lines),
};

void control_save(const struct control *control, struct carry *carry) {
        const struct pending *pending;
        const struct admin *admin;

        mp_put_map(&carry->out, 2);
        mp_put_str(&carry->out, "logs");
        logs_save(control->logs, carry);
        mp_put_str(&carry->out, "admins");
        mp_put_array(&carry->out, control->n_admins);
        TAILQ_FOREACH(admin, &control->admins, link) {
                mp_put_map(&carry->out, 2);
                mp_put_str(&carry->out, "conn");
                conn_save(admin->conn, carry);
                mp_put_str(&carry->out, "pending");
                mp_put_array(&carry->out, admin->n_pending);
                TAILQ_FOREACH(pending, &admin->pending, link) {
                        mp_put_map(&carry->out, ELEMENTS(pending_members));
                        carry_put(carry, pending_members, ELEMENTS(pending_members), pending);
                }
        }
}

static int admin_adopt(struct control *control, struct mp saved) {
        struct carry_items items = carry_items(mp_map_value(saved, "pending"));
        struct admin *admin = admin_new(control, &(struct peer){0});
        struct mp item;
        int r = admin ? conn_adopt(&admin->conn, control->base, mp_map_value(saved, "conn"), &limits, &handler, admin) : -ENOMEM;

        r = r < 0 ? r : peer_read(&admin->peer, conn_fd(admin->conn));
        while (r == 0 && carry_next(&items, &item)) {
                struct pending *pending = pending_new(admin, 0);

                r = pending ? carry_get(item, pending_members, ELEMENTS(pending_members), pending) : -ENOMEM;
        }
        return r;
}

int control_adopt(struct control *control, struct mp saved) {
        struct carry_items admins = carry_items(mp_map_value(saved, "admins"));
        int r = logs_adopt(control->logs, mp_map_value(saved, "logs"));
        struct mp item;

        while (r == 0 && carry_next(&admins, &item))
                r = admin_adopt(control, item);
        return r;
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
