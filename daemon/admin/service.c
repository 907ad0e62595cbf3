/* SPDX-License-Identifier: Apache-2.0 */

/*
 * At most two generations are alive on purpose: `current` and, during a start or a reload, `next`. Those that were replaced drain by
 * themselves; they are kept in a list so that a stop can wait for them, and the end of the process can end them.
 *
 * A reload has one exit, end_reload(), on every path: it tells systemd READY=1 and each waiter the result.
 */

#include "admin/service.h"

#include <stdio.h>

#include "admin/progress.h"
#include "base/core.h"
#include "base/notify.h"
#include "config/diag.h"

struct service {
        struct event_base *base;
        struct service_args args;
        const struct service_handler *handler;
        void *data;

        struct config_source source;
        struct config_load *load; /* under way */
        struct generation *current, *next;
        struct progress *progress;        /* of `next` */
        struct diags diags;               /* of the files of `next` */
        char *socket_path, *control_path; /* where the process listens since its start */
        TAILQ_HEAD(, generation) retired;
        bool reloading, again, stopping;
        TAILQ_HEAD(waiter_list, reload_waiter) waiters, later_waiters;
        struct event *run_again;
        usec_t started_usec;
};

static void log_diags(const struct diags *diags) {
        for (size_t i = 0; i < diags->n; i++)
                log_write(diags->items[i].severity == DIAG_ERROR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, NULL, "%s",
                          diags->items[i].text);
}

/* ---- Generations ---- */

static void on_settled(void *data, struct generation *generation);
static void on_changed(void *data, struct generation *generation);
static void on_gone(void *data, struct generation *generation);

static const struct generation_handler generation_handler = {.settled = on_settled, .changed = on_changed, .gone = on_gone};

/* Starts `next` with what was loaded, if it was (`r`). Return: 0 or a negative errno. */
static int start_next(struct service *service, int r, struct daemon_config *daemon, struct plugins_config *plugins) {
        log_diags(&service->diags);
        if (r < 0)
                return r;
        r = generation_new(&service->next, service->base, service->current, daemon, plugins, &service->args.layout,
                           &generation_handler, service);
        if (r == 0)
                progress_begin(service->progress, service->next, service->current ? "reloading: " : "");
        return r;
}

/* What was `next` serves now. */
static void make_current(struct service *service) {
        progress_end(service->progress);
        service->current = TAKE(service->next);
        log_set_level(service->current->daemon->log_level);
        core_set(service->current->daemon->one_core > 0);
        log_set_generation(service->current->number);
}

static struct generation *drop_next(struct service *service) {
        progress_end(service->progress);
        return TAKE(service->next);
}

static void retire(struct service *service, struct generation *generation) {
        TAILQ_INSERT_TAIL(&service->retired, generation, link);
        generation_retire(generation);
}

/* Hosts ask again for hooks and plugins when they see another number. */
static void on_changed(void *data, struct generation *generation) {
        struct service *service = data;

        generation->number++;
        if (service->next && service->next->number <= generation->number)
                service->next->number = generation->number + 1;
        log_notice("generation %llu serves, with what the server of an external plugin says of it",
                   (unsigned long long)generation->number);
        service->handler->on_changed(service->data);
}

static void on_gone(void *data, struct generation *generation) {
        struct service *service = data;

        log_debug("generation %llu has ended", (unsigned long long)generation->number);
        TAILQ_REMOVE(&service->retired, generation, link);
        if (TAILQ_EMPTY(&service->retired) && service->stopping)
                service->handler->on_gone(service->data);
}

/* ---- Reload ---- */

/* "2 plugins, generation 1; cannot start: a, b" */
static void describe(const struct generation *generation, struct buf *text) {
        CLEANUP_BUF struct buf failed = {0};
        size_t n = 0;

        for (size_t i = 0; i < generation->n_plugins; i++)
                if (pool_state(generation->plugins[i].pool) == POOL_FAILED)
                        buf_printf(&failed, "%s%s", n++ > 0 ? ", " : "; cannot start: ", generation->plugins[i].entry->name);
        buf_printf(text, "%zu plugin%s, generation %llu%.*s", generation->n_plugins - n, plural(generation->n_plugins - n),
                   (unsigned long long)generation->number, (int)failed.len, failed.len > 0 ? (const char *)failed.data : "");
}

static void end_reload(struct service *service, const struct reload_result *result) {
        CLEANUP_BUF struct buf what = {0};
        struct reload_waiter *waiter;

        service->reloading = false;
        describe(service->current, &what);
        notify_status("serving %.*s", (int)what.len, (const char *)what.data);
        notify_ready();
        while ((waiter = TAILQ_FIRST(&service->waiters))) {
                TAILQ_REMOVE(&service->waiters, waiter, link);
                waiter->waits = WAITS_NOT;
                waiter->on_done(waiter, result);
        }
        TAILQ_CONCAT(&service->waiters, &service->later_waiters, link);
        TAILQ_FOREACH(waiter, &service->waiters, link)
                waiter->waits = WAITS_NOW;
        if (service->again)
                event_active(service->run_again, EV_TIMEOUT, 0);
}

static void refuse(struct service *service, const char *reason) {
        unsigned long long number = service->current->number;
        char message[1024];

        (void)snprintf(message, sizeof(message), "the new configuration is refused: %s; generation %llu keeps serving", reason,
                       number);
        log_error("%s", message);
        end_reload(service, &(struct reload_result){
                                    .refused = true,
                                    .message = message,
                                    .diags = &service->diags,
                                    .generation = number,
                            });
}

/* Return: why a plugin refuses `next`, NULL if it does not. With fail_on_plugin_error any failure does; else only that of a
 * plugin which served before, or is new beside one that serves. */
static const char *fatal_reason(const struct service *service, const struct plugin *plugin) {
        const struct plugin *before = service->current ? generation_plugin(service->current, plugin->entry->name) : NULL;
        bool strict = service->next->config->fail_on_plugin_error;
        bool failed_before = !service->current || (before && pool_state(before->pool) == POOL_FAILED);

        if (pool_state(plugin->pool) == POOL_FAILED && (strict || !failed_before))
                return pool_error(plugin->pool) ? pool_error(plugin->pool) : "unknown reason";
        return strict ? pool_missing_hook(plugin->pool) : NULL;
}

enum fate { FATE_NOT_THERE, FATE_RESTARTED, FATE_KEPT };

/* The names in `of` of the plugins that have this fate in `in`. */
static void put_names(struct buf *buf, const char *key, const struct generation *of, const struct generation *in,
                      enum fate fate) {
        size_t array, n = 0;

        mp_put_str(buf, key);
        array = mp_array_begin(buf);
        for (size_t i = 0; i < of->n_plugins; i++) {
                const struct plugin *there = generation_plugin(in, of->plugins[i].entry->name);

                if (fate == (!there ? FATE_NOT_THERE : there->kept ? FATE_KEPT : FATE_RESTARTED)) {
                        mp_put_str(buf, of->plugins[i].entry->name);
                        n++;
                }
        }
        mp_array_end(buf, array, n);
}

/* What comes out only when the plugins have started is said with what was found in the files. */
static void add_warnings(struct diags *diags, const struct generation *generation) {
        const struct plugins_config *config = generation->config;
        struct report report = {.diags = diags, .file = generation->daemon->plugins_name};

        if (config->rendered.len > 0) {
                report.source = (const char *)config->text.data;
                report.source_len = config->text.len;
        }
        for (size_t i = 0; i < generation->n_plugins; i++) {
                const struct plugin_entry *entry = generation->plugins[i].entry;
                const char *missing = pool_missing_hook(generation->plugins[i].pool);

                if (missing)
                        report_add(&report, DIAG_WARNING, NULL, (struct place){entry->line, entry->column}, "plugin \"%s\": %s",
                                   entry->name, missing);
        }
}

static void swap(struct service *service) {
        CLEANUP_BUF struct buf changed = {0};
        struct generation *old = service->current;

        mp_put_map(&changed, 4);
        put_names(&changed, "added", service->next, old, FATE_NOT_THERE);
        put_names(&changed, "removed", old, service->next, FATE_NOT_THERE);
        put_names(&changed, "restarted", old, service->next, FATE_RESTARTED);
        put_names(&changed, "kept", old, service->next, FATE_KEPT);
        if (!str_eq(service->socket_path, service->next->daemon->socket.path) ||
            !str_eq(service->control_path, service->next->daemon->control.path))
                log_warning("socket.path and control.path take effect at a restart, not at a reload");
        make_current(service);
        for (size_t i = 0; i < service->current->n_plugins; i++)
                pool_enable(service->current->plugins[i].pool);
        retire(service, old);
        add_warnings(&service->diags, service->current);
        log_notice("generation %llu serves", (unsigned long long)service->current->number);
        service->handler->on_changed(service->data);
        end_reload(service, &(struct reload_result){
                                    .diags = &service->diags,
                                    .generation = service->current->number,
                                    .changed = {changed.data, buf_error(&changed) ? 0 : changed.len},
                            });
}

static void serve_first(struct service *service) {
        CLEANUP_BUF struct buf what = {0};

        make_current(service);
        describe(service->current, &what);
        log_notice("ready: %.*s", (int)what.len, (const char *)what.data);
        service->handler->on_ready(service->data);
        end_reload(service, &(struct reload_result){.diags = &service->diags, .generation = service->current->number});
}

static void on_settled(void *data, struct generation *generation) {
        CLEANUP_BUF struct buf message = {0};
        struct service *service = data;
        const char *reason = NULL;

        if (service->stopping || generation != service->next)
                return;
        for (size_t i = 0; i < generation->n_plugins && !reason; i++) {
                reason = fatal_reason(service, &generation->plugins[i]);
                if (reason)
                        buf_printf(&message, "plugin \"%s\" cannot start: %s%c", generation->plugins[i].entry->name, reason, 0);
        }
        if (buf_error(&message))
                reason = "out of memory";
        else if (reason)
                reason = (const char *)message.data;

        if (!reason && !service->current) {
                serve_first(service);
        } else if (!reason) {
                swap(service);
        } else if (!service->current) {
                log_error("%s (fail_on_plugin_error)", reason);
                service->handler->on_refused(service->data);
        } else {
                retire(service, drop_next(service));
                refuse(service, reason);
        }
}

/* A file that lost its plugins, as one does that is being written, must not let everything pass. */
static bool has_lost_plugins(const struct service *service) {
        return service->current->n_plugins > 0 && service->next->config->n_plugins == 0 && !service->next->config->lists_plugins;
}

static void on_loaded(void *data, int r, struct daemon_config *daemon, struct plugins_config *plugins) {
        struct service *service = data;

        service->load = config_load_free(service->load);
        r = start_next(service, r, daemon, plugins);
        if (r == -EINVAL) {
                refuse(service, "it has mistakes");
        } else if (r < 0) {
                refuse(service, strerror(-r));
        } else if (has_lost_plugins(service)) {
                retire(service, drop_next(service));
                refuse(service, "it has no plugins; write `plugins: []` if that is meant");
        }
}

static void reload_now(struct service *service) {
        int r;

        service->reloading = true;
        notify_reloading();
        notify_status("reloading");
        log_notice("reloading");
        diags_done(&service->diags);
        r = config_load_start(&service->load, service->base, &service->source, &service->diags, on_loaded, service);
        if (r < 0)
                refuse(service, strerror(-r));
}

static void on_run_again(evutil_socket_t fd, short what, void *data) {
        struct service *service = data;

        (void)fd;
        (void)what;
        if (!service->again || service->reloading || service->stopping)
                return;
        service->again = false;
        reload_now(service);
}

void service_reload(struct service *service, struct reload_waiter *waiter) {
        bool busy = service->reloading || !service->current;

        if (waiter) {
                waiter->waits = busy ? WAITS_FOR_NEXT : WAITS_NOW;
                TAILQ_INSERT_TAIL(busy ? &service->later_waiters : &service->waiters, waiter, link);
        }
        service->again = true;
        if (!busy)
                event_active(service->run_again, EV_TIMEOUT, 0);
}

void service_forget(struct service *service, struct reload_waiter *waiter) {
        if (waiter->waits != WAITS_NOT)
                TAILQ_REMOVE(waiter->waits == WAITS_NOW ? &service->waiters : &service->later_waiters, waiter, link);
        waiter->waits = WAITS_NOT;
}

/* ---- Life ---- */

/* Return: a service without a generation; NULL: no memory. */
static struct service *make(struct event_base *base, const struct service_args *args, const struct service_handler *handler,
                            void *data) {
        struct service *service = calloc(1, sizeof(*service));

        if (!service)
                return NULL;
        service->base = base;
        service->args = *args;
        service->source = (struct config_source){args->config_path, &service->args.overrides, args->renderer};
        service->handler = handler;
        service->data = data;
        service->started_usec = clock_now_usec();
        TAILQ_INIT(&service->retired);
        TAILQ_INIT(&service->waiters);
        TAILQ_INIT(&service->later_waiters);
        service->run_again = event_new(base, -1, 0, on_run_again, service);
        if (!service->run_again || progress_new(&service->progress, base) < 0)
                return service_free(service);
        return service;
}

int service_new(struct service **ret, struct event_base *base, const struct service_args *args,
                const struct service_handler *handler, void *data) {
        struct service *service = make(base, args, handler, data);
        struct daemon_config *daemon = NULL;
        struct plugins_config *plugins = NULL;
        int r;

        if (!service)
                return -ENOMEM;
        r = config_load(&daemon, &plugins, &service->source, &service->diags);
        r = start_next(service, r, daemon, plugins);
        if (r == 0) {
                service->socket_path = strdup(service->next->daemon->socket.path);
                service->control_path = strdup(service->next->daemon->control.path);
                r = service->socket_path && service->control_path ? 0 : -ENOMEM;
        }
        if (r < 0) {
                (void)service_free(service);
                return r;
        }
        log_set_level(service->next->daemon->log_level);
        notify_status("preparing %zu plugin%s", service->next->n_plugins, plural(service->next->n_plugins));
        *ret = service;
        return 0;
}

/* ---- An upgrade ---- */

static const struct carried members[] = {
        CARRIED(STR, struct service, socket_path),
        CARRIED(STR, struct service, control_path),
        CARRIED(UINT, struct service, started_usec),
};

const char *service_obstacle(const struct service *service) {
        if (!service->current)
                return "the daemon is still starting";
        if (service->reloading || service->again || service->next || service->current->n_superseded > 0)
                return "a reload is under way";
        if (!TAILQ_EMPTY(&service->retired))
                return "the configuration before the last reload still has calls in flight";
        return NULL;
}

void service_save(const struct service *service, struct carry *carry) {
        const struct generation *current = service->current;

        mp_put_map(&carry->out, ELEMENTS(members) + 5);
        carry_put(carry, members, ELEMENTS(members), service);
        mp_put_str(&carry->out, "path");
        mp_put_str(&carry->out, current->daemon->path);
        mp_put_str(&carry->out, "text");
        mp_put_bin(&carry->out, current->daemon->text.data, current->daemon->text.len);
        mp_put_str(&carry->out, "plugins_text");
        mp_put_bin(&carry->out, current->config->text.data, current->config->text.len);
        mp_put_str(&carry->out, "plugins_rendered");
        mp_put_bin(&carry->out, current->config->rendered.data, current->config->rendered.len);
        mp_put_str(&carry->out, "generation");
        generation_save(current, carry);
}

static struct config_text text_in(struct mp saved, const char *key) {
        struct mp_cur cur = mp_cur(mp_map_value(saved, key));
        struct mp text = {0};

        (void)mp_read_bin(&cur, &text);
        return (struct config_text){text.len > 0 ? (const char *)text.data : "", text.len};
}

/* The configuration as it was applied, whatever the files say by now. */
static int parse_saved(struct service *service, struct mp saved, struct daemon_config **ret_daemon,
                       struct plugins_config **ret_plugins) {
        struct config_text text = text_in(saved, "text"), plugins = text_in(saved, "plugins_text");
        struct config_text rendered = text_in(saved, "plugins_rendered");
        CLEANUP_FREE char *path = mp_dup_str(mp_map_value(saved, "path"));
        struct daemon_config *daemon;
        struct place beyond;
        int r = daemon_config_parse(&daemon, path, text.text, text.len, &service->args.overrides, &service->diags);

        if (r < 0)
                return r;
        if (rendered.len > 0)
                r = plugins_config_parse_rendered(ret_plugins, daemon, rendered, plugins, &service->diags);
        else
                r = plugins_config_parse(ret_plugins, daemon, plugins, &beyond, &service->diags);
        if (r == 0)
                *ret_daemon = daemon;
        else
                daemon_config_free(daemon);
        return r;
}

int service_adopt(struct service **ret, struct event_base *base, const struct service_args *args,
                  const struct service_handler *handler, void *data, struct mp saved) {
        struct service *service = make(base, args, handler, data);
        struct daemon_config *daemon = NULL;
        struct plugins_config *plugins = NULL;
        int r = service ? carry_get(saved, members, ELEMENTS(members), service) : -ENOMEM;

        if (r < 0)
                return r;
        r = parse_saved(service, saved, &daemon, &plugins);
        for (size_t i = 0; r < 0 && i < service->diags.n; i++)
                if (service->diags.items[i].severity == DIAG_ERROR)
                        log_error("%s", service->diags.items[i].text);
        if (r < 0)
                return r;
        r = generation_adopt(&service->next, base, daemon, plugins, &service->args.layout, &generation_handler, service,
                             mp_map_value(saved, "generation"));
        if (r < 0)
                return r;
        make_current(service);
        *ret = service;
        return 0;
}

void service_drain(struct service *service) {
        service->stopping = true;
        service->load = config_load_free(service->load);
        progress_end(service->progress);
}

void service_stop(struct service *service) {
        struct generation *current = TAKE(service->current), *next = drop_next(service);

        service->stopping = true;
        if (current)
                retire(service, current);
        if (next)
                retire(service, next);
        if (TAILQ_EMPTY(&service->retired))
                service->handler->on_gone(service->data);
}

struct service *service_free(struct service *service) {
        struct generation *generation;

        if (!service)
                return NULL;
        while ((generation = TAILQ_FIRST(&service->retired))) {
                TAILQ_REMOVE(&service->retired, generation, link);
                (void)generation_destroy(generation);
        }
        (void)config_load_free(service->load);
        service->progress = progress_free(service->progress);
        (void)generation_destroy(service->next);
        (void)generation_destroy(service->current);
        if (service->run_again)
                event_free(service->run_again);
        diags_done(&service->diags);
        free(service->socket_path);
        free(service->control_path);
        free(service);
        return NULL;
}

enum service_state service_state(const struct service *service) {
        if (service->stopping)
                return SERVICE_STOPPING;
        if (!service->current)
                return SERVICE_STARTING;
        return service->reloading ? SERVICE_RELOADING : SERVICE_RUNNING;
}

struct generation *const *service_current(const struct service *service) {
        return &service->current;
}

struct generation *service_newest(const struct service *service) {
        return service->current ? service->current : service->next;
}

usec_t service_uptime_usec(const struct service *service) {
        return clock_now_usec() - service->started_usec;
}
