/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The model is plain data: whoever loads it fills it in once, a generation reads it, and the functions here take it down again. Every
 * destructor accepts a half-filled object, for a loader that fails on the way hands over what it has.
 */

#include "config/model.h"

static const char *const mode_names[PLUGIN_MODE_MAX_] = {
        [PLUGIN_SEQUENTIAL] = "sequential", [PLUGIN_TRANSFORM] = "transform", [PLUGIN_AUDIT] = "audit",
        [PLUGIN_CONCURRENT] = "concurrent", [PLUGIN_DISABLED] = "disabled",   [PLUGIN_FIRE_AND_FORGET] = "fire_and_forget",
};

static const char *const on_error_names[ON_ERROR_MAX_] = {
        [ON_ERROR_FAIL] = "fail",
        [ON_ERROR_IGNORE] = "ignore",
        [ON_ERROR_DISABLE] = "disable",
};

const char *plugin_mode_name(enum plugin_mode mode) {
        return mode_names[mode];
}

const char *on_error_name(enum on_error on_error) {
        return on_error_names[on_error];
}

void strlist_done(struct strlist *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i]);
        free(list->items);
        *list = (struct strlist){0};
}

bool strlist_has(const struct strlist *list, const char *item) {
        for (size_t i = 0; i < list->n; i++)
                if (str_eq(list->items[i], item))
                        return true;
        return false;
}

int strlist_append(struct strlist *list, const char *text) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        if ((list->n & (list->n - 1)) == 0) {
                char **grown = realloc(list->items, MAX(list->n * 2, (size_t)1) * sizeof(*grown));

                if (!grown) {
                        free(copy);
                        return -ENOMEM;
                }
                list->items = grown;
        }
        list->items[list->n++] = copy;
        return 0;
}

int strlist_append_all(struct strlist *list, const struct strlist *more) {
        for (size_t i = 0; i < more->n; i++)
                if (strlist_append(list, more->items[i]) < 0)
                        return -ENOMEM;
        return 0;
}

int strlist_append_option(struct strlist *list, const char *option, const char *value) {
        return strlist_append(list, option) == 0 && strlist_append(list, value) == 0 ? 0 : -ENOMEM;
}

int strlist_append_options(struct strlist *list, const char *option, const struct strlist *values) {
        for (size_t i = 0; i < values->n; i++)
                if (strlist_append_option(list, option, values->items[i]) < 0)
                        return -ENOMEM;
        return 0;
}

static void condition_done(struct plugin_condition *condition) {
        strlist_done(&condition->server_ids);
        strlist_done(&condition->tenant_ids);
        strlist_done(&condition->tools);
        strlist_done(&condition->prompts);
        strlist_done(&condition->resources);
        strlist_done(&condition->agents);
        strlist_done(&condition->user_patterns);
        strlist_done(&condition->content_types);
}

int isolation_copy(struct isolation *ret, const struct isolation *from) {
        const struct sandbox *sandbox = &from->sandbox;

        *ret = *from;
        ret->env = ret->sandbox.network = ret->sandbox.read = ret->sandbox.write = (struct strlist){0};
        ret->python = from->python ? strdup(from->python) : NULL;
        ret->requirements = from->requirements ? strdup(from->requirements) : NULL;
        ret->socket = from->socket ? strdup(from->socket) : NULL;
        ret->group = from->group ? strdup(from->group) : NULL;
        if ((from->python && !ret->python) || (from->requirements && !ret->requirements) || (from->socket && !ret->socket) ||
            (from->group && !ret->group))
                return -ENOMEM;
        return strlist_append_all(&ret->env, &from->env) == 0 &&
                               strlist_append_all(&ret->sandbox.network, &sandbox->network) == 0 &&
                               strlist_append_all(&ret->sandbox.read, &sandbox->read) == 0 &&
                               strlist_append_all(&ret->sandbox.write, &sandbox->write) == 0
                       ? 0
                       : -ENOMEM;
}

void isolation_done(struct isolation *isolation) {
        free(isolation->python);
        free(isolation->requirements);
        free(isolation->socket);
        free(isolation->group);
        strlist_done(&isolation->env);
        strlist_done(&isolation->sandbox.network);
        strlist_done(&isolation->sandbox.read);
        strlist_done(&isolation->sandbox.write);
}

void callers_done(struct callers *callers) {
        for (size_t i = 0; i < callers->n; i++)
                strlist_done(&callers->items[i].hooks);
        free(callers->items);
        *callers = (struct callers){0};
}

void plugin_entry_done(struct plugin_entry *entry) {
        free(entry->name);
        free(entry->kind);
        free(entry->version);
        free(entry->description);
        free(entry->author);
        strlist_done(&entry->hooks);
        strlist_done(&entry->tags);
        strlist_done(&entry->capabilities);
        for (size_t i = 0; i < entry->n_conditions; i++)
                condition_done(&entry->conditions[i]);
        free(entry->conditions);
        free(entry->class_name);
        free(entry->script_path);
        strlist_done(&entry->more_paths);
        free(entry->code);
        free(entry->requirements_file);
        isolation_done(&entry->isolation);
        buf_done(&entry->entry);
        strlist_done(&entry->config_keys);
        *entry = (struct plugin_entry){0};
}

struct plugin_entry *plugin_entry_free(struct plugin_entry *entry) {
        if (entry)
                plugin_entry_done(entry);
        free(entry);
        return NULL;
}

struct strlist *hook_policies_add(struct hook_policies *policies, const char *hook) {
        struct hook_policy *grown;
        char *copy;

        for (size_t i = 0; i < policies->n; i++)
                if (str_eq(policies->items[i].hook, hook))
                        return &policies->items[i].writable_fields;
        copy = strdup(hook);
        grown = copy ? realloc(policies->items, (policies->n + 1) * sizeof(*grown)) : NULL;
        if (!grown) {
                free(copy);
                return NULL;
        }
        policies->items = grown;
        grown[policies->n] = (struct hook_policy){.hook = copy};
        return &grown[policies->n++].writable_fields;
}

void hook_policies_done(struct hook_policies *policies) {
        for (size_t i = 0; i < policies->n; i++) {
                free(policies->items[i].hook);
                strlist_done(&policies->items[i].writable_fields);
        }
        free(policies->items);
        *policies = (struct hook_policies){0};
}

static bool strlist_same(const struct strlist *a, const struct strlist *b) {
        for (size_t i = 0; i < a->n && i < b->n; i++)
                if (!str_eq(a->items[i], b->items[i]))
                        return false;
        return a->n == b->n;
}

static bool sandbox_same(const struct sandbox *a, const struct sandbox *b) {
        return a->profile == b->profile && a->require == b->require && a->tasks == b->tasks &&
               strlist_same(&a->network, &b->network) && strlist_same(&a->read, &b->read) && strlist_same(&a->write, &b->write);
}

static bool isolation_same(const struct isolation *a, const struct isolation *b) {
        return str_eq(a->python, b->python) && a->workers_min == b->workers_min && a->workers_max == b->workers_max &&
               a->max_concurrent == b->max_concurrent && a->queue == b->queue && a->timeout_usec == b->timeout_usec &&
               a->startup_timeout_usec == b->startup_timeout_usec && a->memory_bytes == b->memory_bytes &&
               a->cpu_percent == b->cpu_percent && a->files == b->files && str_eq(a->socket, b->socket) &&
               str_eq(a->group, b->group) && a->idle_usec == b->idle_usec && a->queue_timeout_usec == b->queue_timeout_usec &&
               a->recycle_calls == b->recycle_calls && a->recycle_age_usec == b->recycle_age_usec &&
               a->recycle_memory_bytes == b->recycle_memory_bytes && strlist_same(&a->env, &b->env) && a->zygote == b->zygote &&
               sandbox_same(&a->sandbox, &b->sandbox);
}

bool plugin_entry_same(const struct plugin_entry *a, const struct plugin_entry *b) {
        return a->entry.len == b->entry.len && memcmp(a->entry.data, b->entry.data, a->entry.len) == 0 &&
               str_eq(a->class_name, b->class_name) && str_eq(a->script_path, b->script_path) &&
               strlist_same(&a->more_paths, &b->more_paths) && str_eq(a->code, b->code) &&
               str_eq(a->requirements_file, b->requirements_file) && isolation_same(&a->isolation, &b->isolation);
}

struct plugins_config *plugins_config_ref(struct plugins_config *config) {
        config->n_shared++;
        return config;
}

void plugins_config_free(struct plugins_config *config) {
        struct hook_policies policies;

        if (!config)
                return;
        if (config->n_shared > 0) {
                config->n_shared--;
                return;
        }
        policies = (struct hook_policies){config->policies, config->n_policies};
        hook_policies_done(&policies);
        for (size_t i = 0; i < config->n_plugins; i++)
                plugin_entry_done(&config->plugins[i]);
        free(config->plugins);
        buf_done(&config->text);
        buf_done(&config->rendered);
        free(config->path);
        free(config->project_root);
        free(config);
}

void daemon_config_free(struct daemon_config *config) {
        if (!config)
                return;
        hook_policies_done(&config->settings.policies);
        buf_done(&config->text);
        free(config->path);
        free(config->plugins);
        free(config->plugins_name);
        free(config->project_root);
        free(config->template_python);
        free(config->cache_dir);
        free(config->socket.path);
        free(config->control.path);
        free(config->metrics.path);
        free(config->decisions_path);
        free(config->venv.wheelhouse);
        strlist_done(&config->venv.read);
        strlist_done(&config->venv.env);
        callers_done(&config->access.invoke);
        callers_done(&config->access.status);
        callers_done(&config->access.admin);
        isolation_done(&config->isolation);
        free(config);
}
