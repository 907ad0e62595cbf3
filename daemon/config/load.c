/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexd.yaml is read at once; what it says is needed to find plugins.yaml. That one is read at once, too, unless it needs Jinja2: then the
 * load waits for the process that renders it. Whatever happens, the result comes from the loop, so that there is one way for it.
 */

#include "config/load.h"

#include <event2/event.h>

#include "config/diag.h"
#include "config/file.h"
#include "config/render.h"

#define RENDER_SECONDS 5

struct config_load {
        const struct config_source *source;
        struct diags *diags;
        size_t errors; /* in diags, before */
        struct daemon_config *daemon;
        struct plugins_config *plugins;
        struct buf text;     /* of plugins.yaml */
        struct place beyond; /* where in it what needs Jinja2 begins */
        struct render *render;
        struct event *done;
        int result;
        config_loaded callback;
        void *data;
};

static struct config_text text_of(const struct config_load *load) {
        return (struct config_text){load->text.data ? (const char *)load->text.data : "", load->text.len};
}

static void end(struct config_load *load, int r) {
        load->result = r;
        event_active(load->done, EV_TIMEOUT, 0);
}

static void on_done(evutil_socket_t fd, short what, void *data) {
        struct config_load *load = data;
        int r = load->result;

        (void)fd;
        (void)what;
        if (r == 0 && load->diags->errors > load->errors)
                r = -EINVAL;
        if (r < 0)
                load->callback(load->data, r, NULL, NULL);
        else
                load->callback(load->data, 0, TAKE(load->daemon), TAKE(load->plugins));
}

static void on_rendered(void *data, const struct render_result *result) {
        struct config_load *load = data;
        struct report report = {.diags = load->diags, .file = load->daemon->plugins_name};
        struct config_text rendered = {result->text, result->len};

        if (result->text) {
                end(load, plugins_config_parse_rendered(&load->plugins, load->daemon, rendered, text_of(load), load->diags));
                return;
        }
        report_add(&report, DIAG_ERROR, NULL, result->line > 0 ? (struct place){.line = result->line} : load->beyond, "%s",
                   result->error);
        end(load, report.error ? report.error : -EINVAL);
}

static int read_plugins(struct config_load *load) {
        struct report report = {.diags = load->diags, .file = load->daemon->plugins_name};
        int r = file_read(&load->text, load->daemon->plugins,
                          "create it (an empty file is a configuration without plugins), or name another with --plugins",
                          &report);

        if (report.error)
                r = report.error;
        return r < 0 ? r : plugins_config_parse(&load->plugins, load->daemon, text_of(load), &load->beyond, load->diags);
}

static int start(struct config_load *load, struct event_base *base) {
        const struct config_source *source = load->source;
        struct render_job job = {.script = source->renderer, .seconds = RENDER_SECONDS};
        int r;

        load->done = event_new(base, -1, 0, on_done, load);
        if (!load->done)
                return -ENOMEM;
        r = daemon_config_load(&load->daemon, source->path, source->overrides, load->diags);
        if (r == 0 && load->daemon->plugins)
                r = read_plugins(load);
        if (r == -EOPNOTSUPP) {
                job.python = load->daemon->template_python;
                job.text = text_of(load).text;
                job.len = load->text.len;
                return render_start(&load->render, base, &job, on_rendered, load);
        }
        end(load, r);
        return 0;
}

int config_load_start(struct config_load **ret, struct event_base *base, const struct config_source *source, struct diags *diags,
                      config_loaded callback, void *data) {
        struct config_load *load = calloc(1, sizeof(*load));
        int r;

        if (!load)
                return -ENOMEM;
        load->source = source;
        load->diags = diags;
        load->errors = diags->errors;
        load->callback = callback;
        load->data = data;
        r = start(load, base);
        if (r < 0) {
                (void)config_load_free(load);
                return r;
        }
        *ret = load;
        return 0;
}

struct config_load *config_load_free(struct config_load *load) {
        if (!load)
                return NULL;
        load->render = render_free(load->render);
        if (load->done)
                event_free(load->done);
        daemon_config_free(load->daemon);
        plugins_config_free(load->plugins);
        buf_done(&load->text);
        free(load);
        return NULL;
}

/* ---- Without a loop ---- */

struct outcome {
        int r;
        struct daemon_config *daemon;
        struct plugins_config *plugins;
};

static void on_loaded(void *data, int r, struct daemon_config *daemon, struct plugins_config *plugins) {
        *(struct outcome *)data = (struct outcome){r, daemon, plugins};
}

int config_load(struct daemon_config **ret_daemon, struct plugins_config **ret_plugins, const struct config_source *source,
                struct diags *diags) {
        struct event_base *base = event_base_new();
        struct outcome outcome = {.r = -ENOMEM};
        struct config_load *load = NULL;
        int r;

        if (!base)
                return -ENOMEM;
        r = config_load_start(&load, base, source, diags, on_loaded, &outcome);
        if (r == 0 && event_base_dispatch(base) < 0)
                r = -EIO;
        (void)config_load_free(load);
        event_base_free(base);
        if (r < 0 || outcome.r < 0)
                return r < 0 ? r : outcome.r;
        *ret_daemon = outcome.daemon;
        *ret_plugins = outcome.plugins;
        return 0;
}
