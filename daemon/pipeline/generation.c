/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which plugins a hook has, and in which order, is worked out once, here, and not in each call: a call only leaves out those whose
 * conditions do not match or that were disabled.
 *
 * The server of an external plugin says only when it is reached what the plugin listens to. The table is then built anew beside the old one,
 * which stays until the generation ends: a call goes on by what it was begun with. This happens once for each such plugin.
 *
 * Retiring is asynchronous and ends in one place: when no reference is left the pools are closed, and when the last pool is closed
 * a last event frees everything, so that nothing is freed below a callback of its own.
 */

#include "pipeline/generation.h"

#include <stdio.h>
#include <sys/random.h>

#include "config/merged.h"
#include "config/paths.h"

enum phase phase_of(enum plugin_mode mode) {
        static const enum phase phases[PLUGIN_MODE_MAX_] = {
                [PLUGIN_SEQUENTIAL] = PHASE_SEQUENTIAL,
                [PLUGIN_TRANSFORM] = PHASE_TRANSFORM,
                [PLUGIN_AUDIT] = PHASE_AUDIT,
                [PLUGIN_CONCURRENT] = PHASE_CONCURRENT,
                [PLUGIN_FIRE_AND_FORGET] = PHASE_BACKGROUND,
                [PLUGIN_DISABLED] = PHASE_MAX_,
        };

        return phases[mode];
}

/* RFC 9562, version 4. */
static void make_uuid(char uuid[37]) {
        uint8_t b[16] = {0};

        (void)!getrandom(b, sizeof(b), 0);
        b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
        b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
        (void)snprintf(uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
                       b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

struct outdated {
        struct outdated *next;
        struct plugin *plugins;
        struct hook *hooks;
        size_t n_hooks;
};

/* ---- The table of hooks ---- */

static struct hook *find_hook(const struct generation *generation, const char *name, size_t len) {
        for (size_t i = 0; i < generation->n_hooks; i++)
                if (strlen(generation->hooks[i].name) == len && memcmp(generation->hooks[i].name, name, len) == 0)
                        return &generation->hooks[i];
        return NULL;
}

/* The plugins of `hook` in one phase, by priority; insertion keeps file order between equals. A hook listed twice counts twice. */
static size_t collect_phase(const struct generation *generation, const char *hook, enum phase phase, struct plugin **ret) {
        size_t n = 0;

        for (size_t i = 0; i < generation->n_plugins; i++) {
                struct plugin *plugin = &generation->plugins[i];

                if (phase_of(plugin->entry->mode) != phase)
                        continue;
                for (size_t j = 0; j < plugin->entry->hooks.n; j++) {
                        size_t at = n++;

                        if (!str_eq(plugin->entry->hooks.items[j], hook)) {
                                n--;
                                continue;
                        }
                        for (; at > 0 && ret[at - 1]->entry->priority > plugin->entry->priority; at--)
                                ret[at] = ret[at - 1];
                        ret[at] = plugin;
                }
        }
        return n;
}

static const struct hook_policy *find_policy(const struct plugins_config *config, const char *hook) {
        for (size_t i = 0; i < config->n_policies; i++)
                if (str_eq(config->policies[i].hook, hook))
                        return &config->policies[i];
        return NULL;
}

static int add_hook(struct generation *generation, const char *name, size_t n_names) {
        struct hook *hook = &generation->hooks[generation->n_hooks];
        size_t n = 0;

        hook->name = name;
        hook->policy = find_policy(generation->config, name);
        hook->plugins = calloc(n_names, sizeof(*hook->plugins));
        if (!hook->plugins)
                return -ENOMEM;
        for (enum phase phase = 0; phase < PHASE_MAX_; phase++) {
                hook->phase_start[phase] = n;
                n += collect_phase(generation, name, phase, hook->plugins + n);
        }
        hook->phase_start[PHASE_MAX_] = n;
        generation->n_hooks++;
        return 0;
}

static int build_hooks(struct generation *generation) {
        size_t n_names = 0;

        for (size_t i = 0; i < generation->n_plugins; i++)
                n_names += generation->plugins[i].entry->hooks.n;
        if (n_names == 0)
                return 0;
        generation->hooks = calloc(n_names, sizeof(*generation->hooks));
        if (!generation->hooks)
                return -ENOMEM;
        for (size_t i = 0; i < generation->n_plugins; i++) {
                const struct strlist *names = &generation->plugins[i].entry->hooks;

                for (size_t j = 0; j < names->n; j++)
                        if (!find_hook(generation, names->items[j], strlen(names->items[j])) &&
                            add_hook(generation, names->items[j], n_names) < 0)
                                return -ENOMEM;
        }
        return 0;
}

static void free_hooks(struct hook *hooks, size_t n) {
        for (size_t i = 0; i < n; i++)
                free(hooks[i].plugins);
        free(hooks);
}

/* Puts `plugins` in place of those there are, with their hooks. Takes them over, unless it fails. Return: 0 or -ENOMEM. */
static int replace_plugins(struct generation *generation, struct plugin *plugins) {
        struct outdated *old = calloc(1, sizeof(*old));

        if (!old)
                return -ENOMEM;
        *old = (struct outdated){generation->outdated, generation->plugins, generation->hooks, generation->n_hooks};
        generation->plugins = plugins;
        generation->hooks = NULL;
        generation->n_hooks = 0;
        if (build_hooks(generation) == 0) {
                generation->outdated = old;
                return 0;
        }
        free_hooks(generation->hooks, generation->n_hooks);
        generation->plugins = old->plugins;
        generation->hooks = old->hooks;
        generation->n_hooks = old->n_hooks;
        free(old);
        return -ENOMEM;
}

static int on_reported(void *data, struct pool *pool, struct mp config) {
        struct generation *generation = data;
        CLEANUP_FREE struct plugin *plugins = calloc(generation->n_plugins, sizeof(*plugins));
        struct plugin *plugin = plugins;
        int r;

        if (!plugins)
                return -ENOMEM;
        memcpy(plugins, generation->plugins, generation->n_plugins * sizeof(*plugins));
        while (plugin->pool != pool)
                plugin++;
        r = plugin_entry_merged(&plugin->merged, plugin->entry, config);
        if (r < 0)
                return r;
        plugin->entry = plugin->merged;
        r = replace_plugins(generation, plugins);
        if (r < 0) {
                (void)plugin_entry_free(plugin->merged);
                return r;
        }
        plugins = NULL;
        pool_take_entry(pool, plugin->entry);
        if (!generation->settled && !generation->retired)
                generation->changed(generation->data, generation);
        return 0;
}

/* ---- Life ---- */

static void free_superseded(struct generation *generation) {
        for (size_t i = 0; i < generation->n_plugins; i++)
                generation->plugins[i].superseded = pool_free(generation->plugins[i].superseded);
}

/* Each in its turn. A plugin may have failed before: its venv could not be built, or its class not be loaded. Return: whether all are
 * settled. */
static bool initialize_next(struct generation *generation) {
        for (; generation->n_settled < generation->n_plugins; generation->n_settled++) {
                struct pool *pool = generation->plugins[generation->n_settled].pool;

                pool_initialize(pool);
                if (pool_state(pool) == POOL_STARTING)
                        return false;
        }
        return true;
}

static void on_later(evutil_socket_t fd, short what, void *data) {
        struct generation *generation = data;

        (void)fd;
        (void)what;
        if (generation->retired && generation->n_open == 0) {
                generation->gone(generation->data, generation);
                (void)generation_destroy(generation);
                return;
        }
        free_superseded(generation);
        if (!generation->retired && initialize_next(generation) && generation->settled) {
                void (*settled)(void *, struct generation *) = generation->settled;

                generation->settled = NULL;
                generation->previous = NULL;
                settled(generation->data, generation);
        }
}

static bool on_prepared(void *data, struct pool *pool) {
        struct generation *generation = data;
        const struct plugin *before;
        struct plugin *plugin = generation->plugins;

        while (plugin->pool != pool)
                plugin++;
        before = generation->previous ? generation_plugin(generation->previous, plugin->entry->name) : NULL;
        if (!before || !pool_serves_same(before->pool, pool))
                return false;
        plugin->superseded = pool;
        plugin->pool = pool_ref(before->pool);
        plugin->kept = true;
        event_active(generation->later, EV_TIMEOUT, 0);
        return true;
}

static void on_settled(void *data, struct pool *pool) {
        struct generation *generation = data;

        (void)pool;
        event_active(generation->later, EV_TIMEOUT, 0);
}

static void close_last(struct generation *generation);

static void on_closed(void *data, struct pool *pool) {
        struct generation *generation = data;

        (void)pool;
        generation->n_open--;
        close_last(generation);
}

static void close_last(struct generation *generation) {
        struct pool **pool;

        for (; generation->n_open > 0; generation->n_open--) {
                pool = &generation->plugins[generation->n_open - 1].pool;
                if (pool_close(*pool, on_closed, generation))
                        return;
                *pool = NULL; /* it serves another generation */
        }
        event_active(generation->later, EV_TIMEOUT, 0);
}

static const struct pool_handler pool_handler = {.superseded = on_prepared, .settled = on_settled, .reported = on_reported};

/* The requirements that come with cpexd lie beside the shim. */
static int settle_requirements(struct plugin_entry *entry, const char *shim_dir) {
        char *path;

        if (!entry->requirements_file)
                return 0;
        path = path_join(shim_dir, entry->requirements_file);
        if (!path)
                return -ENOMEM;
        free(entry->requirements_file);
        entry->requirements_file = path;
        return 0;
}

static int start_plugins(struct generation *generation) {
        struct plugins_config *config = generation->config;

        generation->plugins = calloc(MAX(config->n_plugins, 1), sizeof(*generation->plugins));
        if (!generation->plugins)
                return -ENOMEM;
        for (size_t i = 0; i < config->n_plugins; i++) {
                struct plugin *plugin = &generation->plugins[generation->n_plugins];

                if (config->plugins[i].mode == PLUGIN_DISABLED)
                        continue;
                if (settle_requirements(&config->plugins[i], generation->layout.shim_dir) < 0)
                        return -ENOMEM;
                plugin->entry = &config->plugins[i];
                make_uuid(plugin->id);
                if (pool_new(&plugin->pool, generation->base, generation->config, plugin->entry, &generation->layout,
                             generation->number, &pool_handler, generation) < 0)
                        return -ENOMEM;
                generation->n_plugins++;
        }
        generation->n_open = generation->n_plugins;
        return 0;
}

int generation_new(struct generation **ret, struct event_base *base, const struct generation *previous,
                   struct daemon_config *daemon, struct plugins_config *config, const struct pool_layout *layout,
                   const struct generation_handler *handler, void *data) {
        struct generation *generation = calloc(1, sizeof(*generation));

        if (!generation) {
                daemon_config_free(daemon);
                plugins_config_free(config);
                return -ENOMEM;
        }
        generation->number = (previous ? previous->number : 0) + 1;
        generation->previous = previous;
        generation->daemon = daemon;
        generation->config = config;
        generation->base = base;
        generation->layout = *layout;
        generation->layout.cache_dir = daemon->cache_dir;
        generation->layout.project_root = config->project_root;
        generation->layout.frame_bytes = daemon->frame_bytes;
        generation->settled = handler->settled;
        generation->changed = handler->changed;
        generation->gone = handler->gone;
        generation->data = data;
        generation->refs = 1;
        generation->later = event_new(base, -1, 0, on_later, generation);
        if (!generation->later || start_plugins(generation) < 0 || build_hooks(generation) < 0) {
                (void)generation_destroy(generation);
                return -ENOMEM;
        }
        event_active(generation->later, EV_TIMEOUT, 0);
        *ret = generation;
        return 0;
}

struct generation *generation_ref(struct generation *generation) {
        generation->refs++;
        return generation;
}

void generation_unref(struct generation *generation) {
        if (--generation->refs == 0 && !generation->destroying)
                close_last(generation);
}

void generation_retire(struct generation *generation) {
        generation->retired = true;
        generation->previous = NULL;
        generation_unref(generation);
}

struct generation *generation_destroy(struct generation *generation) {
        struct outdated *old;

        if (!generation)
                return NULL;
        generation->destroying = true; /* the last background calls may give up their references below */
        free_superseded(generation);
        for (size_t i = 0; i < generation->n_plugins; i++)
                (void)pool_free(generation->plugins[i].pool);
        for (size_t i = 0; i < generation->n_plugins; i++)
                (void)plugin_entry_free(generation->plugins[i].merged);
        free_hooks(generation->hooks, generation->n_hooks);
        free(generation->plugins);
        while ((old = generation->outdated)) {
                generation->outdated = old->next;
                free_hooks(old->hooks, old->n_hooks);
                free(old->plugins);
                free(old);
        }
        if (generation->later)
                event_free(generation->later);
        daemon_config_free(generation->daemon);
        plugins_config_free(generation->config);
        free(generation);
        return NULL;
}

const struct hook *generation_hook(const struct generation *generation, struct mp name) {
        return find_hook(generation, (const char *)name.data, name.len);
}

const struct plugin *generation_plugin(const struct generation *generation, const char *name) {
        for (size_t i = 0; i < generation->n_plugins; i++)
                if (str_eq(generation->plugins[i].entry->name, name))
                        return &generation->plugins[i];
        return NULL;
}
