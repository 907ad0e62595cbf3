/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The plugins are looked at now and then, rather than each telling of every step: most starts are over before the first look, and then
 * there is nothing to say. Each plugin's steps have limits of their own (isolation.startup_timeout, and that of building a venv), so
 * asking for more time here lets nothing hang for ever; and a loop that is stuck does not ask.
 */

#include "admin/progress.h"

#include <stdio.h>

#include "base/notify.h"

#define LOOK_USEC (200 * USEC_PER_MSEC)
#define EXTEND_USEC (30 * USEC_PER_SEC)
#define TEXT_BYTES 256

struct progress {
        const struct generation *generation;
        const char *before;
        struct event *look;
        usec_t extended_usec;
        char text[TEXT_BYTES]; /* as last told */
};

static const char *step_of(const struct plugin *plugin) {
        if (plugin->entry->isolation.socket)
                return "connecting to the server";
        return pool_python(plugin->pool) ? "starting workers" : "building venv";
}

/* "reloading: building venv of pii (2 of 5)": the first plugin that is not ready, and how many were before it. */
static void describe(const struct progress *progress, char text[TEXT_BYTES]) {
        const struct generation *generation = progress->generation;
        const struct plugin *waiting = NULL;
        size_t n_settled = 0;

        for (size_t i = 0; i < generation->n_plugins; i++) {
                if (pool_state(generation->plugins[i].pool) != POOL_STARTING)
                        n_settled++;
                else if (!waiting)
                        waiting = &generation->plugins[i];
        }
        text[0] = 0;
        if (waiting)
                (void)snprintf(text, TEXT_BYTES, "%s%s of %.100s (%zu of %zu)", progress->before, step_of(waiting),
                               waiting->entry->name, n_settled + 1, generation->n_plugins);
}

static void extend(struct progress *progress) {
        progress->extended_usec = clock_now_usec();
        notify_extend(EXTEND_USEC);
}

static void on_look(evutil_socket_t fd, short what, void *data) {
        struct progress *progress = data;
        char text[TEXT_BYTES];

        (void)fd;
        (void)what;
        describe(progress, text);
        if (text[0] && !str_eq(text, progress->text)) {
                memcpy(progress->text, text, sizeof(text));
                notify_status("%s", text);
        }
        if (clock_now_usec() - progress->extended_usec > EXTEND_USEC / 3)
                extend(progress);
}

int progress_new(struct progress **ret, struct event_base *base) {
        struct progress *progress = calloc(1, sizeof(*progress));

        if (!progress)
                return -ENOMEM;
        progress->look = event_new(base, -1, EV_PERSIST, on_look, progress);
        if (!progress->look) {
                free(progress);
                return -ENOMEM;
        }
        *ret = progress;
        return 0;
}

void progress_begin(struct progress *progress, const struct generation *generation, const char *before) {
        const struct timeval interval = usec_to_timeval(LOOK_USEC);

        progress->generation = generation;
        progress->before = before;
        progress->text[0] = 0;
        extend(progress);
        (void)event_add(progress->look, &interval);
}

void progress_end(struct progress *progress) {
        (void)event_del(progress->look);
        progress->generation = NULL;
}

struct progress *progress_free(struct progress *progress) {
        if (!progress)
                return NULL;
        event_free(progress->look);
        free(progress);
        return NULL;
}
