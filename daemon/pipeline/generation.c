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

#include "base/loop.h"
#include "config/merged.h"
#include "config/paths.h"
#include "pipeline/turn.h"

#define BEGUN_A_TURN 8   /* plugins */
#define PREPARING_MAX 32 /* plugins whose venvs are looked for, or built, at a time: each takes a process, or several */

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
        struct plugin *plugins, **listeners;
        struct hook *hooks;
};

/* ---- The table of hooks ---- */

/* A plugin that listens to a hook. */
struct listener {
        const char *hook;
        struct plugin *plugin;
};

/* By hook, then as they are called: phase by phase in order of priority, ties in file order. */
static int compare_listeners(const void *a, const void *b) {
        const struct listener *x = a, *y = b;
        const struct plugin_entry *x_entry = x->plugin->entry, *y_entry = y->plugin->entry;
        int order = strcmp(x->hook, y->hook);

        if (order == 0)
                order = (int)phase_of(x_entry->mode) - (int)phase_of(y_entry->mode);
        if (order == 0)
                order = (x_entry->priority > y_entry->priority) - (x_entry->priority < y_entry->priority);
        return order ? order : (x->plugin > y->plugin) - (x->plugin < y->plugin);
}

static const struct hook_policy *find_policy(const struct plugins_config *config, const char *hook) {
        for (size_t i = 0; i < config->n_policies; i++)
                if (str_eq(config->policies[i].hook, hook))
                        return &config->policies[i];
        return NULL;
}

/* The hook of the first of `listeners`. `plugins`: theirs, in the same order. Return: how many of them are its. */
static size_t fill_hook(struct hook *hook, const struct plugins_config *config, const struct listener *listeners, size_t n,
                        struct plugin **plugins) {
        size_t i = 0;

        hook->name = listeners->hook;
        hook->policy = find_policy(config, hook->name);
        hook->plugins = plugins;
        for (enum phase phase = 0; phase <= PHASE_MAX_; phase++) {
                hook->phase_start[phase] = i;
                for (; i < n && str_eq(listeners[i].hook, hook->name) && phase_of(listeners[i].plugin->entry->mode) == phase; i++)
                        plugins[i] = listeners[i].plugin;
        }
        return i;
}

/* A hook listed twice counts twice. */
static size_t collect_listeners(const struct generation *generation, struct listener *ret) {
        size_t n = 0;

        for (size_t i = 0; i < generation->n_plugins; i++) {
                struct plugin *plugin = &generation->plugins[i];
                const struct strlist *hooks = &plugin->entry->hooks;

                for (size_t j = 0; j < hooks->n; j++, n++)
                        if (ret)
                                ret[n] = (struct listener){hooks->items[j], plugin};
        }
        return n;
}

static int build_hooks(struct generation *generation) {
        size_t n = collect_listeners(generation, NULL), n_hooks = 0;
        CLEANUP_FREE struct listener *listeners = calloc(n, sizeof(*listeners));

        if (n == 0)
                return 0;
        generation->listeners = calloc(n, sizeof(struct plugin *));
        if (!listeners || !generation->listeners)
                return -ENOMEM;
        (void)collect_listeners(generation, listeners);
        qsort(listeners, n, sizeof(*listeners), compare_listeners);
        for (size_t i = 0; i < n; i++)
                n_hooks += i == 0 || !str_eq(listeners[i - 1].hook, listeners[i].hook);
        generation->hooks = calloc(n_hooks, sizeof(*generation->hooks));
        if (!generation->hooks)
                return -ENOMEM;
        for (size_t i = 0; i < n; generation->n_hooks++)
                i += fill_hook(&generation->hooks[generation->n_hooks], generation->config, &listeners[i], n - i,
                               &generation->listeners[i]);
        return 0;
}

static int compare_seats(const void *a, const void *b) {
        return strcmp(((const struct plugin_seat *)a)->name, ((const struct plugin_seat *)b)->name);
}

static int build_names(struct generation *generation) {
        generation->by_name = calloc(MAX(generation->n_plugins, (size_t)1), sizeof(*generation->by_name));
        if (!generation->by_name)
                return -ENOMEM;
        for (size_t i = 0; i < generation->n_plugins; i++)
                generation->by_name[i] = (struct plugin_seat){generation->plugins[i].entry->name, i};
        qsort(generation->by_name, generation->n_plugins, sizeof(*generation->by_name), compare_seats);
        return 0;
}

/* Puts `plugins` in place of those there are, with their hooks. Takes them over, unless it fails. Return: 0 or -ENOMEM. */
static int replace_plugins(struct generation *generation, struct plugin *plugins) {
        struct outdated *old = calloc(1, sizeof(*old));
        size_t n_hooks = generation->n_hooks;

        if (!old)
                return -ENOMEM;
        *old = (struct outdated){generation->outdated, generation->plugins, generation->listeners, generation->hooks};
        generation->plugins = plugins;
        generation->listeners = NULL;
        generation->hooks = NULL;
        generation->n_hooks = 0;
        if (build_hooks(generation) == 0) {
                generation->outdated = old;
                return 0;
        }
        free(generation->listeners);
        generation->plugins = old->plugins;
        generation->listeners = old->listeners;
        generation->hooks = old->hooks;
        generation->n_hooks = n_hooks;
        free(old);
        return -ENOMEM;
}

static struct plugin *plugin_of(const struct generation *generation, const struct pool *pool) {
        struct plugin *plugin = generation->plugins;

        while (plugin->pool != pool)
                plugin++;
        return plugin;
}

/* `pool`, one of the generation before, serves on, and the plugin's own goes. */
static void keep_pool(struct generation *generation, struct plugin *plugin, struct pool *pool) {
        plugin->superseded = plugin->pool;
        generation->n_superseded++;
        plugin->pool = pool_ref(pool);
        plugin->kept = true;
        loop_next_turn(generation->later);
}

/* Return: the plugin in the generation before whose pool would do as well, NULL: there is none. */
static const struct plugin *find_before(const struct generation *generation, const struct plugin *plugin, struct mp report) {
        const struct plugin *before = generation->previous ? generation_plugin(generation->previous, plugin->entry->name) : NULL;

        return before && pool_serves_same(before->pool, plugin->pool, report) ? before : NULL;
}

static int on_reported(void *data, struct pool *pool, struct mp config) {
        struct generation *generation = data;
        CLEANUP_FREE struct plugin *plugins = calloc(generation->n_plugins, sizeof(*plugins));
        struct plugin_entry *merged = NULL;
        const struct plugin *before;
        struct plugin *plugin;
        int r = 0;

        if (!plugins)
                return -ENOMEM;
        memcpy(plugins, generation->plugins, generation->n_plugins * sizeof(*plugins));
        plugin = plugins + (plugin_of(generation, pool) - generation->plugins);
        before = find_before(generation, plugin, config);
        if (!before)
                r = plugin_entry_merged(&merged, plugin->entry, config);
        if (r < 0)
                return r;
        plugin->entry = before ? before->entry : merged;
        r = replace_plugins(generation, plugins);
        if (r < 0) {
                (void)plugin_entry_free(merged);
                return r;
        }
        plugins = NULL;
        if (before)
                keep_pool(generation, plugin, before->pool);
        else
                pool_take_entry(pool, merged);
        if (!generation->settled && !generation->retired)
                generation->changed(generation->data, generation);
        return before != NULL;
}

/* ---- Life ---- */

static void free_superseded(struct generation *generation) {
        for (size_t i = 0; i < generation->n_plugins && generation->n_superseded > 0; i++)
                if (generation->plugins[i].superseded) {
                        generation->plugins[i].superseded = pool_free(generation->plugins[i].superseded);
                        generation->n_superseded--;
                }
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

/* Begins one of those that have not been begun, unless very many are looking for their venvs. Return: whether it did. */
static bool begin_next(struct generation *generation) {
        struct plugin *plugin = &generation->plugins[generation->n_begun];

        if (generation->n_begun == generation->n_plugins || generation->n_preparing >= PREPARING_MAX)
                return false;
        generation->n_begun++;
        plugin->preparing = pool_start(plugin->pool);
        generation->n_preparing += plugin->preparing;
        return true;
}

static void note_prepared(struct generation *generation, struct plugin *plugin) {
        generation->n_preparing -= plugin->preparing;
        plugin->preparing = false;
        loop_next_turn(generation->later);
}

static void close_last(struct generation *generation);

static void on_later(evutil_socket_t fd, short what, void *data) {
        struct generation *generation = data;

        (void)fd;
        (void)what;
        if (generation->closed_one) {
                generation->plugins[generation->n_open].pool = pool_free(generation->plugins[generation->n_open].pool);
                close_last(generation);
        }
        if (generation->refs == 0 && generation->n_open == 0) {
                generation->gone(generation->data, generation);
                (void)generation_destroy(generation);
                return;
        }
        free_superseded(generation);
        if (generation->retired)
                return;
        for (int i = 0; i < BEGUN_A_TURN && begin_next(generation); i++)
                loop_next_turn(generation->later);
        if (initialize_next(generation) && generation->settled) {
                void (*settled)(void *, struct generation *) = generation->settled;

                generation->settled = NULL;
                generation->previous = NULL;
                settled(generation->data, generation);
        }
}

static bool on_prepared(void *data, struct pool *pool) {
        struct generation *generation = data;
        struct plugin *plugin = plugin_of(generation, pool);
        const struct plugin *before = find_before(generation, plugin, (struct mp){0});

        note_prepared(generation, plugin);
        if (before)
                keep_pool(generation, plugin, before->pool);
        return before != NULL;
}

static void on_settled(void *data, struct pool *pool) {
        note_prepared(data, plugin_of(data, pool));
}

static void on_closed(void *data, struct pool *pool) {
        struct generation *generation = data;

        (void)pool;
        generation->n_open--;
        generation->closed_one = true;
        loop_next_turn(generation->later);
}

static void close_last(struct generation *generation) {
        struct pool **pool;

        generation->closed_one = false;
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

/* Return: the pool of the first plugin of that entry's group; NULL: this is the first, or in no group. */
static struct pool *find_fellow(const struct generation *generation, const struct plugin_entry *entry) {
        for (size_t i = 0; entry->isolation.group && i < generation->n_plugins; i++)
                if (str_eq(generation->plugins[i].entry->isolation.group, entry->isolation.group))
                        return generation->plugins[i].pool;
        return NULL;
}

static int make_plugins(struct generation *generation) {
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
                             generation->number, find_fellow(generation, plugin->entry), &pool_handler, generation) < 0)
                        return -ENOMEM;
                plugin->member = pool_member(plugin->pool);
                generation->n_plugins++;
        }
        generation->n_open = generation->n_plugins;
        return 0;
}

static int make(struct generation **ret, struct event_base *base, uint64_t number, const struct generation *previous,
                struct daemon_config *daemon, struct plugins_config *config, const struct pool_layout *layout,
                const struct generation_handler *handler, void *data) {
        struct generation *generation = calloc(1, sizeof(*generation));

        if (!generation) {
                daemon_config_free(daemon);
                plugins_config_free(config);
                return -ENOMEM;
        }
        generation->number = number;
        generation->previous = previous;
        generation->daemon = daemon;
        generation->config = config;
        generation->base = base;
        generation->layout = *layout;
        generation->layout.cache_dir = daemon->cache_dir;
        generation->layout.venv = &daemon->venv;
        generation->layout.project_root = config->project_root;
        generation->layout.frame_bytes = daemon->frame_bytes;
        generation->layout.values = daemon->values;
        generation->settled = handler->settled;
        generation->changed = handler->changed;
        generation->gone = handler->gone;
        generation->data = data;
        generation->refs = 1;
        TAILQ_INIT(&generation->background);
        generation->later = event_new(base, -1, 0, on_later, generation);
        if (!generation->later || make_plugins(generation) < 0 || build_names(generation) < 0 || build_hooks(generation) < 0) {
                (void)generation_destroy(generation);
                return -ENOMEM;
        }
        event_active(generation->later, EV_TIMEOUT, 0);
        *ret = generation;
        return 0;
}

int generation_new(struct generation **ret, struct event_base *base, const struct generation *previous,
                   struct daemon_config *daemon, struct plugins_config *config, const struct pool_layout *layout,
                   const struct generation_handler *handler, void *data) {
        return make(ret, base, previous ? previous->number + 1 : 1, previous, daemon, config, layout, handler, data);
}

/* ---- An upgrade ---- */

static const struct carried plugin_members[] = {CARRIED(BYTES, struct plugin, id)};

void generation_save(const struct generation *generation, struct carry *carry) {
        mp_put_map(&carry->out, 3);
        mp_put_str(&carry->out, "number");
        mp_put_uint(&carry->out, generation->number);
        mp_put_str(&carry->out, "plugins");
        mp_put_map(&carry->out, generation->n_plugins);
        for (size_t i = 0; i < generation->n_plugins; i++) {
                const struct plugin *plugin = &generation->plugins[i];

                mp_put_str(&carry->out, plugin->entry->name);
                mp_put_map(&carry->out, ELEMENTS(plugin_members) + 1);
                carry_put(carry, plugin_members, ELEMENTS(plugin_members), plugin);
                mp_put_str(&carry->out, "pool");
                pool_save(plugin->pool, carry);
        }
        mp_put_str(&carry->out, "background");
        background_save(generation, carry);
}

/* What the server of an external plugin has said makes its entry what it was, before the pool is what it was. */
static int adopt_plugin(struct generation *generation, size_t i, struct mp saved) {
        struct mp pool = mp_map_value(saved, "pool");
        struct mp_cur cur = mp_cur(mp_map_value(pool, "report"));
        struct mp report = {0};
        int r = carry_get(saved, plugin_members, ELEMENTS(plugin_members), &generation->plugins[i]);

        (void)mp_read_bin(&cur, &report);
        if (r == 0 && report.len > 0 && on_reported(generation, generation->plugins[i].pool, report) < 0)
                r = -EBADMSG;
        return r < 0 ? r : pool_adopt(generation->plugins[i].pool, pool);
}

int generation_adopt(struct generation **ret, struct event_base *base, struct daemon_config *daemon,
                     struct plugins_config *config, const struct pool_layout *layout, const struct generation_handler *handler,
                     void *data, struct mp saved) {
        struct mp plugins = mp_map_value(saved, "plugins");
        struct mp_cur cur = mp_cur(mp_map_value(saved, "number"));
        struct generation *generation;
        uint64_t number = 0;
        int r;

        (void)mp_read_uint(&cur, &number);
        r = make(&generation, base, number, NULL, daemon, config, layout, handler, data);
        for (size_t i = 0; r == 0 && i < generation->n_plugins; i++)
                r = adopt_plugin(generation, i, mp_map_value(plugins, generation->plugins[i].entry->name));
        if (r < 0)
                return r;
        generation->n_begun = generation->n_settled = generation->n_plugins;
        generation->settled = NULL;
        r = background_adopt(generation, mp_map_value(saved, "background"));
        if (r == 0)
                *ret = generation;
        return r;
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
        free(generation->by_name);
        free(generation->hooks);
        free(generation->listeners);
        free(generation->plugins);
        while ((old = generation->outdated)) {
                generation->outdated = old->next;
                free(old->hooks);
                free(old->listeners);
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
        size_t low = 0, high = generation->n_hooks;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct hook *hook = &generation->hooks[middle];
                size_t len = strlen(hook->name);
                int order = memcmp(hook->name, name.data, MIN(len, name.len));

                if (order == 0 && len == name.len)
                        return hook;
                if (order < 0 || (order == 0 && len < name.len))
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

const struct plugin *generation_plugin(const struct generation *generation, const char *name) {
        const struct plugin_seat key = {.name = name}, *found;

        found = bsearch(&key, generation->by_name, generation->n_plugins, sizeof(key), compare_seats);
        return found ? &generation->plugins[found->index] : NULL;
}

const struct plugin *generation_adopted_plugin(const struct generation *generation, struct mp saved) {
        CLEANUP_FREE char *name = mp_dup_str(mp_map_value(saved, "plugin"));

        return name ? generation_plugin(generation, name) : NULL;
}
