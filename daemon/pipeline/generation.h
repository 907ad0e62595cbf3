/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A generation: one configuration with its pools, immutable but for the life in the pools, and for what the servers of external plugins add to
 * it: each of them once, when it is first reached.
 *
 * As in CPEX its plugins are initialized one after the other in file order, and shut down in reverse; that their venvs are built and
 * their classes loaded side by side nobody can tell. However many they are, nobody waits for that: a few of them are begun in a turn of the loop,
 * and one is closed in a turn. A generation is counted: each call in flight holds a reference, so that a call ends in the generation it began in. Who has made it retires it when
 * another takes over; it then lets its calls end, closes its pools and, from the loop, says that it is gone.
 */

#include <event2/event.h>

#include "pool/pool.h"

enum phase { PHASE_SEQUENTIAL, PHASE_TRANSFORM, PHASE_AUDIT, PHASE_CONCURRENT, PHASE_BACKGROUND, PHASE_MAX_ };

enum phase phase_of(enum plugin_mode mode); /* PHASE_MAX_ for a disabled plugin */

struct plugin {
        const struct plugin_entry *entry; /* that of the configuration; completed by the plugin's server it is the pool's */
        struct pool *pool;
        unsigned member;         /* which of its workers' plugins it is */
        struct pool *superseded; /* by one of the generation before, which serves on; to be freed */
        bool kept;               /* that is so */
        bool preparing;          /* it has no venv yet, and has not failed */
        char id[37];             /* a UUID, fresh in each generation, as CPEX's PluginRef has */
};

/* The plugins of one hook: of each phase in order of priority, ties in file order. */
struct hook {
        const char *name;
        const struct hook_policy *policy; /* NULL: none */
        struct plugin *const *plugins;    /* all, phase by phase */
        size_t phase_start[PHASE_MAX_ + 1];
};

/* Where in `plugins` the one of that name is. */
struct plugin_seat {
        const char *name;
        size_t index;
};

struct generation {
        uint64_t number;
        struct daemon_config *daemon;
        struct plugins_config *config;
        const struct generation *previous; /* until this one is settled */
        struct plugin *plugins;
        size_t n_plugins;            /* without the disabled ones, which are not even loaded */
        struct plugin_seat *by_name; /* n_plugins, sorted */
        struct hook *hooks;          /* by name, too */
        size_t n_hooks;
        struct plugin **listeners;           /* what the hooks point into */
        TAILQ_HEAD(, background) background; /* calls that nobody waits for */
        struct outdated *outdated;           /* plugins and hooks as they were: calls in flight may go by them */

        TAILQ_ENTRY(generation) link; /* the maker's */

        /* Its own. */
        struct event_base *base;
        struct event *later;
        struct pool_layout layout;
        size_t n_begun, n_settled,
                n_open; /* plugins that were told to start; before the one that initializes; that are not closed */
        size_t n_superseded;
        size_t n_preparing; /* of those begun: that have no venv yet */
        unsigned refs;
        bool retired, closed_one, destroying;
        void (*settled)(void *data, struct generation *generation);
        void (*changed)(void *data, struct generation *generation);
        void (*gone)(void *data, struct generation *generation);
        void *data;
};

struct generation_handler {
        /* Each pool has its workers or has failed. Called once, from the loop, unless retired before. */
        void (*settled)(void *data, struct generation *generation);
        /* After that, a server was reached for the first time: its plugin may have other hooks now. */
        void (*changed)(void *data, struct generation *generation);
        /* Retired, and the last call and the last worker have ended; the generation is freed after this. */
        void (*gone)(void *data, struct generation *generation);
};

/* Takes over both configurations in any case. `layout` is copied; its strings must outlive the generation. A plugin that is in `previous`
 * (NULL: none) as it is here shares its pool, with workers that know nothing of generations. Return: 0 or -ENOMEM. */
int generation_new(struct generation **ret, struct event_base *base, const struct generation *previous,
                   struct daemon_config *daemon, struct plugins_config *config, const struct pool_layout *layout,
                   const struct generation_handler *handler, void *data);

/* wire/carry.h: one that serves. Calls come back one by one, from their owners. */
void generation_save(const struct generation *generation, struct carry *carry);
int generation_adopt(struct generation **ret, struct event_base *base, struct daemon_config *daemon,
                     struct plugins_config *config, const struct pool_layout *layout, const struct generation_handler *handler,
                     void *data, struct mp saved);

struct generation *generation_ref(struct generation *generation);
void generation_unref(struct generation *generation);

/* Gives up the maker's reference. */
void generation_retire(struct generation *generation);

/* Kills all that is left, calls nobody. Only for the end of the process. Return: NULL. */
struct generation *generation_destroy(struct generation *generation);

/* Return: the plugin that the map of a carried call names; NULL: there is none. */
const struct plugin *generation_adopted_plugin(const struct generation *generation, struct mp saved);

/* Return: the hook of that name, NULL when no plugin listens to it. */
const struct hook *generation_hook(const struct generation *generation, struct mp name);
const struct plugin *generation_plugin(const struct generation *generation, const char *name);
