/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP is libevent's (evhttp); ours is the text. It is made anew for each request, family by family as OpenMetrics 1.0 wants it, each
 * being written by one function for one plugin. There may be thousands of plugins, so the text is written in pieces, one in a turn of the loop; a
 * scrape keeps its generation alive as a call does.
 */

#include "admin/metrics.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/loop.h"
#include "config.h"
#include "host/listener.h"

#define REQUEST_BYTES 4096 /* headers and body */
#define TIMEOUT_SECONDS 10
#define PIECE 500 /* of a family, for one plugin each */

struct metrics {
        struct event_base *base;
        const struct service *service;
        struct hosts *hosts;
        struct evhttp *http;
        struct listener *listener; /* of the Unix socket */
        struct evhttp_bound_socket *port;
        LIST_HEAD(, scrape) scrapes;
};

/* A request that is being answered. */
struct scrape {
        LIST_ENTRY(scrape) link;
        struct evhttp_request *request;
        struct generation *generation;
        size_t family, plugin; /* which are next */
        struct event *go_on;
};

struct family {
        const char *name, *type, *suffix, *help;
        void (*put)(struct evbuffer *out, const struct family *family, const struct plugin *plugin);
        size_t offset; /* in struct pool_figures */
};

/* ---- The text ---- */

static void put_family(struct evbuffer *out, const char *name, const char *type, const char *help) {
        (void)evbuffer_add_printf(out, "# TYPE cpexd_%s %s\n# HELP cpexd_%s %s\n", name, type, name, help);
}

/* A label's value: backslash, quote and newline are escaped. */
static void put_label(struct evbuffer *out, const char *name, const char *value) {
        (void)evbuffer_add_printf(out, "%s=\"", name);
        for (; *value; value++) {
                if (*value == '\\' || *value == '"' || *value == '\n')
                        (void)evbuffer_add(out, "\\", 1);
                (void)evbuffer_add(out, *value == '\n' ? "n" : value, 1);
        }
        (void)evbuffer_add(out, "\"", 1);
}

/* "cpexd_NAME{plugin="…"" with the brace open. */
static void put_sample(struct evbuffer *out, const char *name, const struct plugin *plugin) {
        (void)evbuffer_add_printf(out, "cpexd_%s{", name);
        put_label(out, "plugin", plugin->entry->name);
}

static double seconds(uint64_t usec) {
        return (double)usec / (double)USEC_PER_SEC;
}

static void put_calls(struct evbuffer *out, const struct family *family, const struct plugin *plugin) {
        const struct step_stats *stats = pool_stats(plugin->pool);

        (void)family;
        for (enum step_cause cause = 0; cause < STEP_CAUSE_MAX_; cause++) {
                put_sample(out, "plugin_calls_total", plugin);
                (void)evbuffer_add_printf(out, ",outcome=\"%s\"} %llu\n", step_cause_name(cause),
                                          (unsigned long long)stats->by_cause[cause]);
        }
}

static void put_durations(struct evbuffer *out, const struct family *family, const struct plugin *plugin) {
        const struct step_stats *stats = pool_stats(plugin->pool);
        uint64_t n = 0;

        (void)family;
        for (size_t bucket = 0; bucket < STEP_BUCKETS; bucket++) {
                n += stats->in_bucket[bucket];
                put_sample(out, "plugin_duration_seconds_bucket", plugin);
                if (step_bucket_usec[bucket] == USEC_INFINITY)
                        (void)evbuffer_add_printf(out, ",le=\"+Inf\"} %llu\n", (unsigned long long)n);
                else
                        (void)evbuffer_add_printf(out, ",le=\"%g\"} %llu\n", seconds(step_bucket_usec[bucket]),
                                                  (unsigned long long)n);
        }
        put_sample(out, "plugin_duration_seconds_count", plugin);
        (void)evbuffer_add_printf(out, "} %llu\n", (unsigned long long)n);
        put_sample(out, "plugin_duration_seconds_sum", plugin);
        (void)evbuffer_add_printf(out, "} %.6f\n", seconds(stats->total_usec));
}

static void put_waiting(struct evbuffer *out, const struct family *family, const struct plugin *plugin) {
        (void)family;
        put_sample(out, "plugin_wait_seconds_total", plugin);
        (void)evbuffer_add_printf(out, "} %.6f\n", seconds(pool_stats(plugin->pool)->waited_usec));
}

static void put_figure(struct evbuffer *out, const struct family *family, const struct plugin *plugin) {
        struct pool_figures figures = pool_figures(plugin->pool);
        char name[64];

        (void)snprintf(name, sizeof(name), "%s%s", family->name, family->suffix);
        put_sample(out, name, plugin);
        (void)evbuffer_add_printf(out, "} %llu\n", (unsigned long long)*(uint64_t *)((char *)&figures + family->offset));
}

static const struct family families[] = {
        {"plugin_calls", "counter", "_total", "Calls of a plugin by what came of them.", put_calls, 0},
        {"plugin_duration_seconds", "histogram", "", "From handing a call to the plugin's pool to its outcome.", put_durations,
         0},
        {"plugin_wait_seconds", "counter", "_total", "Time that calls have waited for a worker.", put_waiting, 0},
#define FIGURE(member, type, suffix, help) \
        { "plugin_" #member, type, suffix, help, put_figure, offsetof(struct pool_figures, member) }
        FIGURE(up, "gauge", "", "Whether the plugin has a worker that is ready."),
        FIGURE(workers, "gauge", "", "Workers that are ready."),
        FIGURE(calls_active, "gauge", "", "Calls in the hands of workers."),
        FIGURE(queue, "gauge", "", "Calls that wait for a worker."),
        FIGURE(memory_bytes, "gauge", "", "Resident memory of the workers."),
        FIGURE(restarts, "counter", "_total", "Workers that ended unasked."),
        FIGURE(late_answers, "counter", "_total", "Answers that came too late, or to no call in flight."),
};

static void put_one(struct evbuffer *out, const char *name, const char *type, const char *help, const char *suffix,
                    uint64_t value) {
        put_family(out, name, type, help);
        (void)evbuffer_add_printf(out, "cpexd_%s%s %llu\n", name, suffix, (unsigned long long)value);
}

static void put_daemon(struct evbuffer *out, const struct metrics *metrics, const struct generation *generation) {
        struct hosts_counts counts = hosts_counts(metrics->hosts);
        struct loop_figures figures = loop_figures();

        (void)evbuffer_add_printf(out, "# TYPE cpexd info\n# HELP cpexd Which cpexd this is.\ncpexd_info{version=\"%s\"} 1\n",
                                  CPEXD_VERSION);
        put_one(out, "generation", "gauge", "The configuration that serves.", "", generation->number);
        put_one(out, "uptime_seconds", "gauge", "Since cpexd was started.", "",
                service_uptime_usec(metrics->service) / USEC_PER_SEC);
        put_one(out, "hosts", "gauge", "Connected hosts.", "", counts.connected);
        put_one(out, "calls_active", "gauge", "Calls of hosts in flight.", "", counts.calls_active);
        put_one(out, "calls", "counter", "Calls of hosts.", "_total", counts.calls_total);
        put_one(out, "forbidden_requests", "counter", "Requests that their callers may not make.", "_total",
                hosts_forbidden(metrics->hosts)->total);
        put_one(out, "calls_failed", "counter", "Calls of hosts that were answered with an error.", "_total",
                counts.calls_failed);
        put_family(out, "loop_longest_stall_seconds", "gauge", "The longest that the event loop was busy at a stretch.");
        (void)evbuffer_add_printf(out, "cpexd_loop_longest_stall_seconds %.6f\n", seconds(figures.longest_usec));
        put_one(out, "loop_stalls", "counter", "How often it was busy for more than 50 ms at a stretch.", "_total",
                figures.n_long);
        put_one(out, "decisions_dropped", "counter", "Decisions that could not be written (decisions.path).", "_total",
                counts.decisions_dropped);
}

/* ---- HTTP ---- */

/* Return: whether that was all. */
static bool put_piece(struct evbuffer *out, struct scrape *scrape) {
        const struct generation *generation = scrape->generation;

        for (unsigned n = 0; n < PIECE && scrape->family < ELEMENTS(families); n++) {
                const struct family *family = &families[scrape->family];

                if (scrape->plugin == 0)
                        put_family(out, family->name, family->type, family->help);
                if (scrape->plugin < generation->n_plugins)
                        family->put(out, family, &generation->plugins[scrape->plugin]);
                if (++scrape->plugin >= generation->n_plugins) {
                        scrape->plugin = 0;
                        scrape->family++;
                }
        }
        return scrape->family == ELEMENTS(families);
}

static void scrape_free(struct scrape *scrape) {
        LIST_REMOVE(scrape, link);
        if (scrape->go_on)
                event_free(scrape->go_on);
        generation_unref(scrape->generation);
        free(scrape);
}

/* It goes with its request. */
static void on_lost(struct evhttp_connection *connection, void *data) {
        (void)connection;
        scrape_free(data);
}

static void on_go_on(evutil_socket_t fd, short what, void *data) {
        struct scrape *scrape = data;
        struct evhttp_request *request = scrape->request;
        struct evbuffer *out = evhttp_request_get_output_buffer(request);

        (void)fd;
        (void)what;
        if (!put_piece(out, scrape)) {
                loop_next_turn(scrape->go_on);
                return;
        }
        (void)evbuffer_add_printf(out, "# EOF\n");
        evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
        scrape_free(scrape);
        evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

static void on_metrics(struct evhttp_request *request, void *data) {
        struct scrape *scrape = calloc(1, sizeof(*scrape));
        struct metrics *metrics = data;

        if (scrape)
                scrape->go_on = evtimer_new(metrics->base, on_go_on, scrape);
        if (!scrape || !scrape->go_on) {
                free(scrape);
                evhttp_send_error(request, HTTP_SERVUNAVAIL, "out of memory");
                return;
        }
        scrape->request = request;
        scrape->generation = generation_ref(service_newest(metrics->service));
        LIST_INSERT_HEAD(&metrics->scrapes, scrape, link);
        evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_lost, scrape);
        (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                                "application/openmetrics-text; version=1.0.0; charset=utf-8");
        put_daemon(evhttp_request_get_output_buffer(request), metrics, scrape->generation);
        on_go_on(-1, EV_TIMEOUT, scrape);
}

static void on_health(struct evhttp_request *request, void *data) {
        const struct metrics *metrics = data;
        enum service_state state = service_state(metrics->service);
        bool serves = state == SERVICE_RUNNING || state == SERVICE_RELOADING;

        (void)evbuffer_add_printf(evhttp_request_get_output_buffer(request), serves ? "ok\n" : "not serving\n");
        evhttp_send_reply(request, serves ? HTTP_OK : HTTP_SERVUNAVAIL, NULL, NULL);
}

/* ---- Sockets ---- */

static void on_resume(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)evconnlistener_enable(data);
}

/* Without descriptors an accepting socket stays readable, and the loop would spin. */
static void on_accept_error(struct evconnlistener *accepting, void *data) {
        const struct timeval pause = {.tv_usec = 100 * 1000};

        (void)data;
        (void)evconnlistener_disable(accepting);
        (void)event_base_once(evconnlistener_get_base(accepting), -1, EV_TIMEOUT, on_resume, accepting, &pause);
}

static void on_connection(void *data, int fd) {
        (void)data;
        (void)fd_close(fd); /* never: evhttp accepts on a copy of the descriptor */
}

/* Serves the listener's socket. */
static int serve_path(struct metrics *metrics) {
        CLEANUP_FD int fd = fcntl(listener_fd(metrics->listener), F_DUPFD_CLOEXEC, 0);
        struct evhttp_bound_socket *bound = fd < 0 ? NULL : evhttp_accept_socket_with_handle(metrics->http, fd);

        if (!bound)
                return -ENOMEM;
        (void)TAKE_FD(fd);
        evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), on_accept_error);
        return 0;
}

/* Return: 0, or -ENOMEM where there is no such socket, which `bound` then is not. */
static int serve_port(struct metrics *metrics, struct evhttp_bound_socket *bound) {
        if (!bound)
                return -ENOMEM;
        metrics->port = bound;
        evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), on_accept_error);
        return 0;
}

/* Return: metrics that nobody can ask for yet; NULL: no memory. */
static struct metrics *make(struct event_base *base, const struct service *service, struct hosts *hosts) {
        struct metrics *metrics = calloc(1, sizeof(*metrics));

        if (!metrics || !(metrics->http = evhttp_new(base))) {
                free(metrics);
                return NULL;
        }
        metrics->base = base;
        metrics->service = service;
        metrics->hosts = hosts;
        evhttp_set_allowed_methods(metrics->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
        evhttp_set_max_headers_size(metrics->http, REQUEST_BYTES);
        evhttp_set_max_body_size(metrics->http, REQUEST_BYTES);
        evhttp_set_timeout(metrics->http, TIMEOUT_SECONDS);
        (void)evhttp_set_cb(metrics->http, "/metrics", on_metrics, metrics);
        (void)evhttp_set_cb(metrics->http, "/healthz", on_health, metrics);
        return metrics;
}

int metrics_new(struct metrics **ret, struct event_base *base, const struct service *service, struct hosts *hosts,
                const struct daemon_config *config) {
        struct metrics *metrics;
        int r = 0;

        if (!config->metrics.path && config->metrics_port == 0) {
                *ret = NULL;
                return 0;
        }
        metrics = make(base, service, hosts);
        if (!metrics)
                return -ENOMEM;
        if (config->metrics.path) {
                r = listener_new(&metrics->listener, base, &config->metrics, -1, on_connection, metrics);
                r = r < 0 ? r : serve_path(metrics);
        }
        if (r < 0) {
                log_error("%s: cannot serve metrics: %s (metrics.path)", config->metrics.path, strerror(-r));
        } else if (config->metrics_port > 0) {
                errno = 0;
                r = serve_port(metrics,
                               evhttp_bind_socket_with_handle(metrics->http, "127.0.0.1", (uint16_t)config->metrics_port));
                if (r < 0) {
                        r = errno ? -errno : -EADDRINUSE;
                        log_error("127.0.0.1:%u: cannot serve metrics: %s (metrics.port)", config->metrics_port, strerror(-r));
                }
        }
        if (r < 0) {
                (void)metrics_free(metrics);
                return r;
        }
        *ret = metrics;
        return 0;
}

/* ---- An upgrade ---- */

struct held {
        int port;
};
static const struct carried members[] = {CARRIED(FD, struct held, port)};

void metrics_save(const struct metrics *metrics, struct carry *carry) {
        struct held held = {-1};

        if (!metrics) {
                mp_put_nil(&carry->out);
                return;
        }
        if (metrics->port)
                held.port = evhttp_bound_socket_get_fd(metrics->port);
        mp_put_map(&carry->out, ELEMENTS(members) + (metrics->listener != NULL));
        carry_put(carry, members, ELEMENTS(members), &held);
        if (metrics->listener) {
                mp_put_str(&carry->out, "listener");
                listener_save(metrics->listener, carry);
        }
}

int metrics_adopt(struct metrics **ret, struct event_base *base, const struct service *service, struct hosts *hosts,
                  struct mp saved) {
        struct mp listener = mp_map_value(saved, "listener");
        struct metrics *metrics;
        struct held held = {-1};
        int r;

        if (mp_is_nil(saved))
                return 0;
        metrics = make(base, service, hosts);
        if (!metrics)
                return -ENOMEM;
        r = carry_get(saved, members, ELEMENTS(members), &held);
        if (r == 0 && listener.len > 0) {
                r = listener_adopt(&metrics->listener, base, listener, on_connection, metrics);
                r = r < 0 ? r : serve_path(metrics);
        }
        if (r == 0 && held.port >= 0)
                r = serve_port(metrics, evhttp_accept_socket_with_handle(metrics->http, held.port));
        if (r == 0)
                *ret = metrics;
        return r;
}

struct metrics *metrics_free(struct metrics *metrics) {
        if (!metrics)
                return NULL;
        while (!LIST_EMPTY(&metrics->scrapes)) {
                struct scrape *scrape = LIST_FIRST(&metrics->scrapes);

                evhttp_connection_set_closecb(evhttp_request_get_connection(scrape->request), NULL, NULL);
                scrape_free(scrape);
        }
        evhttp_free(metrics->http);
        (void)listener_free(metrics->listener);
        free(metrics);
        return NULL;
}
