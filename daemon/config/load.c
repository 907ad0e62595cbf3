/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A file of 1 MiB takes longer to read than calls can wait, a slow disk longer still. Both files are therefore read, parsed and checked in a
 * thread, which knows nothing of the loop: what it needs and what it makes lies in the `work`, which is its own until it says through an
 * eventfd that it has ended. Where plugins.yaml needs Jinja2, the load then waits for the process that renders it, and has the result parsed in a
 * thread as well.
 *
 * Nobody waits for a thread: who frees the load leaves the work to it, which then frees it. Whatever happens, the result comes from the
 * loop.
 */

#include "config/load.h"

#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "base/core.h"
#include "config/diag.h"
#include "config/file.h"
#include "config/render.h"
#include "config/template.h"

#define RENDER_SECONDS 5

struct work {
        atomic_uint refs; /* the load's, and the thread's while there is one */
        int ended;        /* an eventfd */
        char *path;
        struct config_overrides overrides; /* its own copies */
        struct diags diags;
        struct daemon_config *daemon;
        struct plugins_config *plugins;
        struct buf text;     /* of plugins.yaml */
        struct buf rendered; /* what Jinja2 made of it */
        bool is_rendered;
        struct place beyond; /* where in the text what needs Jinja2 begins */
        int result;
};

struct config_load {
        struct event_base *base;
        const char *renderer;
        struct diags *diags;
        struct work *work;
        struct render *render;
        struct event *ended;
        config_loaded callback;
        void *data;
};

static struct config_text text_of(const struct buf *buf) {
        return (struct config_text){buf->data ? (const char *)buf->data : "", buf->len};
}

/* ---- The work ---- */

static void work_unref(struct work *work) {
        if (atomic_fetch_sub(&work->refs, 1) > 1)
                return;
        (void)fd_close(work->ended);
        free(work->path);
        free((char *)work->overrides.plugins);
        free((char *)work->overrides.socket);
        free((char *)work->overrides.control);
        diags_done(&work->diags);
        daemon_config_free(work->daemon);
        plugins_config_free(work->plugins);
        buf_done(&work->text);
        buf_done(&work->rendered);
        free(work);
}

static int copy_text(const char **ret, const char *text) {
        *ret = text ? strdup(text) : NULL;
        return text && !*ret ? -ENOMEM : 0;
}

static struct work *work_new(const struct config_source *source) {
        static const struct config_overrides none;
        const struct config_overrides *overrides = source->overrides ? source->overrides : &none;
        struct work *work = calloc(1, sizeof(*work));

        if (!work)
                return NULL;
        work->refs = 1;
        work->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (work->ended >= 0 && copy_text((const char **)&work->path, source->path) == 0 &&
            copy_text(&work->overrides.plugins, overrides->plugins) == 0 &&
            copy_text(&work->overrides.socket, overrides->socket) == 0 &&
            copy_text(&work->overrides.control, overrides->control) == 0)
                return work;
        work_unref(work);
        return NULL;
}

static int read_plugins(struct work *work) {
        struct report report = {.diags = &work->diags, .file = work->daemon->plugins_name};
        int r = file_read(&work->text, work->daemon->plugins,
                          "create it (an empty file is a configuration without plugins), or name another with --plugins",
                          &report);

        if (report.error)
                r = report.error;
        return r < 0 ? r : plugins_config_parse(&work->plugins, work->daemon, text_of(&work->text), &work->beyond, &work->diags);
}

static int work_do(struct work *work) {
        int r;

        if (work->is_rendered)
                return plugins_config_parse_rendered(&work->plugins, work->daemon, text_of(&work->rendered), text_of(&work->text),
                                                     &work->diags);
        r = daemon_config_load(&work->daemon, work->path, &work->overrides, &work->diags);
        return r == 0 && work->daemon->plugins ? read_plugins(work) : r;
}

static void *run(void *data) {
        const uint64_t one = 1;
        struct work *work = data;

        work->result = work_do(work);
        (void)!write(work->ended, &one, sizeof(one));
        work_unref(work);
        return NULL;
}

/* Signals are the loop's. Return: 0 or a negative errno. */
static int work_start(struct work *work, struct event *ended) {
        sigset_t all, before;
        pthread_t thread;
        int r;

        if (event_add(ended, NULL) < 0)
                return -ENOMEM;
        core_spread(); /* the thread may run where this one may */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        atomic_fetch_add(&work->refs, 1);
        r = pthread_create(&thread, NULL, run, work);
        if (r == 0)
                (void)pthread_detach(thread);
        else
                work_unref(work);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -r;
}

/* ---- The load ---- */

static void end(struct config_load *load, int r) {
        struct work *work = load->work;

        diags_done(load->diags);
        *load->diags = work->diags;
        work->diags = (struct diags){0};
        if (r == 0 && load->diags->errors > 0)
                r = -EINVAL;
        if (r < 0)
                load->callback(load->data, r, NULL, NULL);
        else
                load->callback(load->data, 0, TAKE(work->daemon), TAKE(work->plugins));
}

static void on_rendered(void *data, const struct render_result *result) {
        struct config_load *load = data;
        struct work *work = load->work;
        struct report report = {.diags = &work->diags, .file = work->daemon->plugins_name};
        struct place place;
        int r;

        if (result->text) {
                buf_append(&work->rendered, result->text, result->len);
                work->is_rendered = true;
                r = buf_error(&work->rendered);
                r = r < 0 ? r : work_start(work, load->ended);
                if (r < 0)
                        end(load, r);
                return;
        }
        if (template_is_unclosed(text_of(&work->text).text, work->text.len, &place) && place.line <= result->line) {
                report_add(&report, DIAG_ERROR, NULL, place, "this {{ is not closed with }} (%s)", result->error);
        } else {
                place = result->line > 0 ? (struct place){.line = result->line} : work->beyond;
                report_add(&report, DIAG_ERROR, NULL, place, "%s", result->error);
        }
        end(load, report.error ? report.error : -EINVAL);
}

static int start_rendering(struct config_load *load) {
        const struct work *work = load->work;
        const struct render_job job = {
                .script = load->renderer,
                .seconds = RENDER_SECONDS,
                .python = work->daemon->template_python,
                .text = text_of(&work->text).text,
                .len = work->text.len,
        };

        return render_start(&load->render, load->base, &job, on_rendered, load);
}

static void on_ended(evutil_socket_t fd, short what, void *data) {
        struct config_load *load = data;
        int r = load->work->result;
        bool renders = r == -EOPNOTSUPP;
        uint64_t n;

        (void)what;
        (void)!read(fd, &n, sizeof(n));
        if (renders)
                r = start_rendering(load);
        if (!renders || r < 0)
                end(load, r);
}

int config_load_start(struct config_load **ret, struct event_base *base, const struct config_source *source, struct diags *diags,
                      config_loaded callback, void *data) {
        struct config_load *load = calloc(1, sizeof(*load));
        int r = -ENOMEM;

        if (!load)
                return r;
        load->base = base;
        load->renderer = source->renderer;
        load->diags = diags;
        load->callback = callback;
        load->data = data;
        load->work = work_new(source);
        if (load->work)
                load->ended = event_new(base, load->work->ended, EV_READ, on_ended, load);
        if (load->ended)
                r = work_start(load->work, load->ended);
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
        if (load->ended)
                event_free(load->ended);
        if (load->work)
                work_unref(load->work);
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
