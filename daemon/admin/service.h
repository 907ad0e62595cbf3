/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The service: which generation serves, and how another takes its place.
 *
 * A reload reads both files into a new generation (a template that needs Jinja2 is rendered in a child meanwhile), starts its plugins beside the running ones, and when all have settled swaps one
 * pointer. A file with a mistake, or a plugin that cannot start though it could before, changes nothing. While a reload is
 * under way another request for one is remembered: it begins when the first has ended.
 */

#include "pipeline/generation.h"

#include "config/load.h"

struct service;

struct service_args {
        const char *config_path; /* cpexd.yaml; NULL: the defaults */
        struct config_overrides overrides;
        const char *renderer; /* daemon/config/render.py */
        struct pool_layout layout;
};

enum service_state { SERVICE_STARTING, SERVICE_RUNNING, SERVICE_RELOADING, SERVICE_STOPPING };

struct service_handler {
        void (*on_ready)(void *data);   /* the first generation serves */
        void (*on_refused)(void *data); /* the first one cannot serve: fail_on_plugin_error */
        void (*on_changed)(void *data); /* another generation serves */
        void (*on_gone)(void *data);    /* after service_stop(): all plugins have ended */
};

/* What came of a reload. */
struct reload_result {
        bool refused;
        const struct diags *diags; /* mistakes and warnings in the files */
        const char *message;       /* when refused: a sentence */
        uint64_t generation;       /* the one that serves now */
        struct mp changed;         /* map {added, removed, restarted, kept}: names; empty: there was no memory for it */
};

struct reload_waiter {
        TAILQ_ENTRY(reload_waiter) link;
        enum { WAITS_NOT, WAITS_NOW, WAITS_FOR_NEXT } waits; /* the service's */
        void (*on_done)(struct reload_waiter *waiter, const struct reload_result *result);
};

/* Loads the files and starts the first generation. Mistakes and warnings are logged.
 * Return: 0, -EINVAL when the files are refused, or another negative errno. */
int service_new(struct service **ret, struct event_base *base, const struct service_args *args,
                const struct service_handler *handler, void *data);

/* wire/carry.h. While service_obstacle() is a sentence, it cannot be saved. -EINVAL: the
 * configuration that served is refused, with its mistakes logged. */
const char *service_obstacle(const struct service *service);
void service_save(const struct service *service, struct carry *carry);
int service_adopt(struct service **ret, struct event_base *base, const struct service_args *args,
                  const struct service_handler *handler, void *data, struct mp saved);

/* `waiter` (NULL: nobody) hears the result once, from the loop, unless it is forgotten before. */
void service_reload(struct service *service, struct reload_waiter *waiter);
void service_forget(struct service *service, struct reload_waiter *waiter);

/* The stop begins: no reload starts or ends any more. */
void service_drain(struct service *service);

/* Lets the plugins end. No host may call any more. */
void service_stop(struct service *service);

/* Return: NULL. */
struct service *service_free(struct service *service);

enum service_state service_state(const struct service *service);
struct generation *const *service_current(const struct service *service);
/* The one that serves, or the first, while it starts. */
struct generation *service_newest(const struct service *service);
usec_t service_uptime_usec(const struct service *service);
