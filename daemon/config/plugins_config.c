/* SPDX-License-Identifier: Apache-2.0 */

/*
 * plugins.yaml belongs to CPEX: what upstream accepts is accepted here, what it refuses is refused, with three exceptions that
 * people are better off with. A missing file is a mistake, and not a configuration without plugins; plugin_settings counts, though
 * upstream reads it from the environment alone; and a plugin that cannot be found is said at once, and not at its first call.
 *
 * All entries are read, whatever is wrong with those before, so that one run says everything.
 */

#include <search.h>
#include <stdio.h>

#include "config/entry.h"
#include "config/group.h"
#include "config/load.h"
#include "config/paths.h"
#include "config/sandbox.h"
#include "config/schema.h"
#include "config/shape.h"
#include "config/template.h"

#define DEFAULT_EXECUTION_POOL 10
#define PLUGINS_MAX 5000 /* that are not disabled */
#define HOOKS_MAX 20000  /* of all plugins together */

struct loading {
        struct plugins_config *config;
        const struct daemon_config *daemon;
        struct reader reader;
        struct plugin_settings settings; /* of the environment, then of the file */
        struct strlist plugin_dirs;
        size_t n_active, n_hooks;
        void *names;  /* tsearch(3): the plugins that are not disabled, by name */
        void *groups; /* likewise: the first of each group, by group */
};

static const struct {
        const char *name, *key;
} variables[] = {
        {"PLUGINS_PLUGIN_TIMEOUT", "plugin_settings.plugin_timeout"},
        {"PLUGINS_EXECUTION_POOL", "plugin_settings.execution_pool"},
        {"PLUGINS_FAIL_ON_PLUGIN_ERROR", "plugin_settings.fail_on_plugin_error"},
        {"PLUGINS_DEFAULT_HOOK_POLICY", "plugin_settings.default_hook_policy"},
};

static void read_environment(struct loading *loading) {
        struct reader reader = {.report = {.diags = loading->reader.report.diags, .file = "environment"},
                                .base = loading->reader.base};

        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                const char *value = getenv(variables[i].name);
                struct at at = {.key = variables[i].name};

                if (value)
                        schema_read_text(&reader, &at, variables[i].key, value, &loading->settings,
                                         offsetof(struct daemon_config, settings));
        }
        if (reader.report.error)
                loading->reader.report.error = reader.report.error;
}

static int copy_policies(struct hook_policies *to, const struct hook_policies *from) {
        for (size_t i = 0; i < from->n; i++) {
                struct strlist *list = hook_policies_add(to, from->items[i].hook);

                if (!list)
                        return -ENOMEM;
                strlist_done(list);
                if (strlist_append_all(list, &from->items[i].writable_fields) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* What was found so far is overridden by what cpexd.yaml says. */
static int settle_settings(struct loading *loading, struct isolation *isolation) {
        const struct plugin_settings *ours = &loading->daemon->settings;
        struct plugin_settings *settings = &loading->settings;
        struct plugins_config *config = loading->config;
        int fail = ours->fail_on_plugin_error >= 0 ? ours->fail_on_plugin_error : settings->fail_on_plugin_error;
        int deny = ours->default_deny >= 0 ? ours->default_deny : settings->default_deny;
        unsigned pool = ours->execution_pool ? ours->execution_pool : settings->execution_pool;
        int r = copy_policies(&settings->policies, &ours->policies);

        if (r < 0)
                return r;
        config->fail_on_plugin_error = fail > 0;
        config->default_deny = deny > 0;
        config->execution_pool = pool ? pool : DEFAULT_EXECUTION_POOL;
        config->n_policies = settings->policies.n;
        config->policies = TAKE(settings->policies.items);
        settings->policies = (struct hook_policies){0};
        *isolation = loading->daemon->isolation;
        if (ours->timeout_usec || settings->timeout_usec) {
                struct origin *origin = schema_origin(isolation->origins, schema_key("isolation.timeout"));

                if (origin->from == ORIGIN_DEFAULT)
                        origin->from = ORIGIN_PLUGIN_TIMEOUT;
                isolation->timeout_usec = ours->timeout_usec ? ours->timeout_usec : settings->timeout_usec;
        }
        return 0;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const struct plugin_entry *)a)->name, ((const struct plugin_entry *)b)->name);
}

static void forget_name(void *entry) {
        (void)entry;
}

/* A name belongs to the first plugin that has it and is not disabled, as in CPEX. */
static void drop_namesake(struct loading *loading, size_t index, const struct node *node) {
        struct plugins_config *config = loading->config;
        struct plugin_entry *last = &config->plugins[config->n_plugins - 1], **found;
        struct at at = {.key = "plugins", .index = index, .name = entry_shown_name(&loading->reader, node)};
        bool disabled = last->mode == PLUGIN_DISABLED;

        if (!last->name)
                return;
        found = disabled ? tfind(last, &loading->names, compare_names) : tsearch(last, &loading->names, compare_names);
        if (!found && !disabled)
                loading->reader.report.error = -ENOMEM;
        if (!found || *found == last)
                return;
        if (!disabled)
                report_add(&loading->reader.report, config->fail_on_plugin_error ? DIAG_ERROR : DIAG_FAULT, &at,
                           (struct place){last->line, last->column},
                           "a plugin of this name stands in line %u already; this one is left out", (*found)->line);
        plugin_entry_done(last);
        config->n_plugins--;
}

/* What the loop goes through in one go. Return: whether it is within the limits. */
static bool count(struct loading *loading, const struct node *node, const struct plugin_entry *entry) {
        struct report *report = &loading->reader.report;
        struct at at = {.key = "plugins"};

        loading->n_active += entry->mode != PLUGIN_DISABLED;
        loading->n_hooks += entry->hooks.n;
        if (loading->n_active > PLUGINS_MAX)
                report_add(report, DIAG_ERROR, &at, node->place, "more than %d plugins that are not disabled", PLUGINS_MAX);
        else if (loading->n_hooks > HOOKS_MAX)
                report_add(report, DIAG_ERROR, &at, node->place,
                           "the plugins down to this one listen to more than %d hooks, all taken together", HOOKS_MAX);
        else
                return true;
        return false;
}

static int compare_groups(const void *a, const void *b) {
        return strcmp(((const struct plugin_entry *)a)->isolation.group, ((const struct plugin_entry *)b)->isolation.group);
}

static void join_group(struct loading *loading, size_t index, const struct node *node, struct plugin_entry *entry) {
        struct at at = {.key = "plugins", .index = index, .name = entry_shown_name(&loading->reader, node)};
        struct plugin_entry **first;

        if (!entry->isolation.group || entry->mode == PLUGIN_DISABLED)
                return;
        first = tsearch(entry, &loading->groups, compare_groups);
        if (report_check(&loading->reader.report, first != NULL))
                group_check(&loading->reader, &at, node, entry, *first);
}

static void read_plugins(struct loading *loading, const struct node *list, const struct isolation *isolation) {
        struct entry_context context = {.plugin_dirs = &loading->plugin_dirs, .isolation = isolation};
        struct plugins_config *config = loading->config;
        struct at at = {.key = "plugins"};

        if (!list || list->type == NODE_NULL)
                return;
        if (list->type != NODE_LIST) {
                value_refuse(&loading->reader, &at, list, "a list of plugins");
                return;
        }
        config->lists_plugins = true;
        config->plugins = calloc(MAX(list->n_items, (size_t)1), sizeof(*config->plugins));
        if (!report_check(&loading->reader.report, config->plugins != NULL))
                return;
        for (size_t i = 0; i < list->n_items && !loading->reader.report.error && !report_full(&loading->reader.report); i++) {
                struct plugin_entry *entry = &config->plugins[config->n_plugins++];

                entry_read(&loading->reader, &context, i + 1, list->items[i], entry);
                sandbox_identify(&entry->isolation.sandbox);
                if (!count(loading, list->items[i], entry))
                        return;
                drop_namesake(loading, i + 1, list->items[i]);
                if (entry < &config->plugins[config->n_plugins])
                        join_group(loading, i + 1, list->items[i], entry);
        }
}

static int read_root(struct loading *loading, const struct node *root) {
        const struct node *settings = node_get(root, "plugin_settings");
        const struct node *dirs = node_get(root, "plugin_dirs");
        struct at at = {.key = "plugin_settings"};
        struct isolation isolation;
        int r;

        loading->settings.fail_on_plugin_error = loading->settings.default_deny = -1;
        read_environment(loading);
        if (root && root->type != NODE_NULL)
                (void)shape_read(&loading->reader, NULL, root, &shape_config, &loading->plugin_dirs);
        if (dirs && dirs->type == NODE_LIST && dirs->n_items > 0 && !node_may_tell(dirs->items[0], &loading->reader.report))
                loading->reader.base_secret = true;
        if (settings)
                schema_read(&loading->reader, &at, settings, "plugin_settings", &loading->settings,
                            offsetof(struct daemon_config, settings));
        r = settle_settings(loading, &isolation);
        if (r < 0)
                return r;
        read_plugins(loading, node_get(root, "plugins"), &isolation);
        return loading->reader.report.error;
}

static int set_paths(struct loading *loading) {
        struct plugins_config *config = loading->config;
        const struct daemon_config *daemon = loading->daemon;

        config->path = strdup(daemon->plugins);
        config->project_root = daemon->project_root ? strdup(daemon->project_root) : path_parent(daemon->plugins);
        loading->reader.base = config->project_root;
        loading->reader.base_secret = daemon->root_secret;
        return config->path && config->project_root ? 0 : -ENOMEM;
}

static void plugins_config_freep(struct plugins_config **config) {
        plugins_config_free(*config);
}

/* `source`: what Jinja2 made the text of, NULL if it did not. `first`: where its complaints begin. */
static int parse(struct plugins_config **ret, const struct daemon_config *daemon, const struct template *template,
                 const struct config_text *source, size_t first, struct diags *diags) {
        CLEANUP(plugins_config_freep) struct plugins_config *config = calloc(1, sizeof(*config));
        CLEANUP_TREE struct tree *tree = NULL;
        size_t errors = diags->errors;
        struct loading loading = {
                .config = config,
                .daemon = daemon,
                .reader = {.report = {.diags = diags, .file = daemon->plugins_name}},
        };
        int r;

        if (!config)
                return -ENOMEM;
        if (source) {
                loading.reader.report.source = source->text;
                loading.reader.report.source_len = source->len;
        }
        r = set_paths(&loading);
        if (r == 0)
                r = tree_parse(&tree, template, &loading.reader.report);
        if (r == 0)
                r = read_root(&loading, tree_root(tree));
        tdestroy(loading.names, forget_name);
        tdestroy(loading.groups, forget_name);
        hook_policies_done(&loading.settings.policies);
        strlist_done(&loading.plugin_dirs);
        diags_sort(diags, first);
        if (loading.reader.report.error)
                r = loading.reader.report.error;
        if (r == 0 && diags->errors > errors)
                r = -EINVAL;
        if (r < 0)
                return r;
        *ret = TAKE(config);
        return 0;
}

static int refuse_length(const struct daemon_config *daemon, struct diags *diags) {
        struct report report = {.diags = diags, .file = daemon->plugins_name};

        report_add(&report, DIAG_ERROR, NULL, (struct place){0}, TEMPLATE_TOO_LONG);
        return report.error ? report.error : -EINVAL;
}

/* For an upgrade. Takes the configuration down where there is no memory for them. Return: 0 or -ENOMEM. */
static int keep_texts(struct plugins_config **config, struct config_text text, struct config_text rendered) {
        buf_append(&(*config)->text, text.text, text.len);
        buf_append(&(*config)->rendered, rendered.text, rendered.len);
        if (buf_error(&(*config)->text) == 0 && buf_error(&(*config)->rendered) == 0)
                return 0;
        plugins_config_free(TAKE(*config));
        return -ENOMEM;
}

int plugins_config_parse(struct plugins_config **ret, const struct daemon_config *daemon, struct config_text text,
                         struct place *ret_beyond, struct diags *diags) {
        CLEANUP_TEMPLATE struct template *template = NULL;
        struct report report = {.diags = diags, .file = daemon->plugins_name};
        size_t first = diags->n;
        int r = template_expand(&template, text.text, text.len, &report, ret_beyond);

        if (r == -EMSGSIZE)
                return refuse_length(daemon, diags);
        r = r < 0 ? r : parse(ret, daemon, template, NULL, first, diags);
        return r < 0 ? r : keep_texts(ret, text, (struct config_text){0});
}

int plugins_config_parse_rendered(struct plugins_config **ret, const struct daemon_config *daemon, struct config_text rendered,
                                  struct config_text source, struct diags *diags) {
        CLEANUP_TEMPLATE struct template *template = NULL;
        int r = template_of_text(&template, rendered.text, rendered.len, true);

        if (r == -EMSGSIZE)
                return refuse_length(daemon, diags);
        r = r < 0 ? r : parse(ret, daemon, template, &source, diags->n, diags);
        return r < 0 ? r : keep_texts(ret, source, rendered);
}
