/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An entry is read in two ways at once: what the daemon itself goes by is checked and taken into the model, and the whole of it is kept as
 * msgpack for the plugin, whose PluginConfig has to be what upstream would have made of the file.
 */

#include "config/entry.h"

#include <ctype.h>

#include "config/external.h"
#include "config/layout.h"
#include "config/schema.h"
#include "config/shape.h"

static const char *const capabilities[] = {
        "append_delegation", "append_labels",    "read_agent", "read_claims",  "read_delegation", "read_headers",
        "read_labels",       "read_permissions", "read_roles", "read_subject", "read_teams",      "write_headers",
};

static void read_mode(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        const struct node *node = node_get(entry, "mode");
        struct at here = {.up = at, .key = "mode"};
        const char *names[PLUGIN_MODE_MAX_];
        int mode;

        if (!node)
                return;
        /* what the modes were called before */
        if (node_is(node, "enforce") || node_is(node, "enforce_ignore_error")) {
                ret->mode = PLUGIN_SEQUENTIAL;
                if (node_is(node, "enforce_ignore_error") && !node_get(entry, "on_error"))
                        ret->on_error = ON_ERROR_IGNORE;
                return;
        }
        if (node_is(node, "permissive")) {
                ret->mode = PLUGIN_TRANSFORM;
                return;
        }
        if (node->type == NODE_BOOL && !node->boolean) {
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "YAML reads %s as false; to switch the plugin off write disabled", node_shown(node, &reader->report));
                return;
        }
        for (int i = 0; i < PLUGIN_MODE_MAX_; i++)
                names[i] = plugin_mode_name((enum plugin_mode)i);
        if (value_choice(reader, &here, node, names, ELEMENTS(names), &mode))
                ret->mode = (enum plugin_mode)mode;
}

static void read_on_error(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        const struct node *node = node_get(entry, "on_error");
        struct at here = {.up = at, .key = "on_error"};
        const char *names[ON_ERROR_MAX_];
        int on_error;

        if (!node)
                return;
        for (int i = 0; i < ON_ERROR_MAX_; i++)
                names[i] = on_error_name((enum on_error)i);
        if (value_choice(reader, &here, node, names, ELEMENTS(names), &on_error))
                ret->on_error = (enum on_error)on_error;
}

/* "Text/HTML; charset=utf-8" → "text/html" */
static void normalize_content_type(char *text) {
        char *start = text;
        size_t len;

        text[strcspn(text, ";")] = '\0';
        while (isspace((unsigned char)*start))
                start++;
        len = strlen(start);
        while (len > 0 && isspace((unsigned char)start[len - 1]))
                len--;
        memmove(text, start, len);
        text[len] = '\0';
        for (; *text; text++)
                *text = (char)tolower((unsigned char)*text);
}

static void read_conditions(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        const struct node *node = node_get(entry, "conditions");
        struct at here = {.up = at, .key = "conditions"};

        if (!node)
                return;
        if (node->type != NODE_LIST) {
                value_refuse(reader, &here, node, "a list of conditions");
                return;
        }
        ret->conditions = calloc(MAX(node->n_items, (size_t)1), sizeof(*ret->conditions));
        if (!report_check(&reader->report, ret->conditions != NULL))
                return;
        ret->n_conditions = node->n_items;
        for (size_t i = 0; i < node->n_items; i++) {
                struct at item = {.up = at, .key = "conditions", .index = i + 1};
                struct strlist *types = &ret->conditions[i].content_types;

                (void)shape_read(reader, &item, node->items[i], &shape_condition, &ret->conditions[i]);
                for (size_t j = 0; j < types->n; j++)
                        normalize_content_type(types->items[j]);
        }
}

static void read_capabilities(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        const struct node *node = node_get(entry, "capabilities");
        struct at here = {.up = at, .key = "capabilities"};

        if (!node || node->type == NODE_NULL)
                return;
        if (node->type != NODE_LIST) {
                report_add(&reader->report, DIAG_WARNING, &here, node->place,
                           "CPEX ignores capabilities that are no list, so the plugin has none; write them in brackets: "
                           "[read_headers]");
                return;
        }
        for (size_t i = 0; i < node->n_items; i++) {
                struct at item = {.up = at, .key = "capabilities", .index = i + 1};
                const char *name;
                int found;

                if (!value_choice(reader, &item, node->items[i], capabilities, ELEMENTS(capabilities), &found))
                        continue;
                name = capabilities[found];
                if (!strlist_has(&ret->capabilities, name))
                        (void)report_check(&reader->report, strlist_append(&ret->capabilities, name) == 0);
        }
}

static bool is_isolation_key(const struct node *key) {
        static const char prefix[] = "isolation.";
        size_t len = key->type == NODE_STR ? strlen(key->text) : 0;

        for (size_t i = 0; len > 0 && i < n_config_keys; i++) {
                const char *name = config_keys[i].name;

                if (strncmp(name, prefix, strlen(prefix)) == 0 && strncmp(name += strlen(prefix), key->text, len) == 0 &&
                    (name[len] == '.' || name[len] == 0))
                        return true;
        }
        return false;
}

static bool has_isolation_key(const struct node *map) {
        for (size_t i = 0; map->type == NODE_MAP && i < map->n_pairs; i++)
                if (is_isolation_key(map->pairs[i].key))
                        return true;
        return false;
}

/* CPEX has what places a plugin in `config`, so people put this there, too. It may also be a key of the plugin's own. */
static void check_misplaced(struct reader *reader, const struct at *up, const struct node *entry) {
        const struct node *config = node_get(entry, "config");
        struct at config_at = {.up = up, .key = "config"}, at = {.up = &config_at, .key = "isolation"};

        if (!config || config->type != NODE_MAP)
                return;
        for (size_t i = 0; i < config->n_pairs; i++) {
                const struct node *key = config->pairs[i].key, *value = config->pairs[i].value;

                if (node_is(key, "isolation") && has_isolation_key(value))
                        report_add(&reader->report, DIAG_WARNING, &at, key->place,
                                   "it stands in config, where only the plugin reads it; for cpexd it belongs beside config");
        }
}

static void read_isolation(struct reader *reader, const struct at *at, const struct node *entry, const struct isolation *defaults,
                           struct plugin_entry *ret) {
        const struct node *node = node_get(entry, "isolation");
        struct at here = {.up = at, .key = "isolation"};

        if (!report_check(&reader->report, isolation_copy(&ret->isolation, defaults) == 0))
                return;
        /* What runs there is upstream's client, and it is there to reach whatever the entry names: a host, a socket, a program. */
        if (str_eq(ret->kind, "external")) {
                ret->isolation.sandbox.profile = SANDBOX_OFF;
                *schema_origin(ret->isolation.origins, schema_key("isolation.sandbox.profile")) =
                        (struct origin){.from = ORIGIN_KIND};
        }
        if (!node)
                return;
        reader->origins = ret->isolation.origins;
        schema_read(reader, &here, node, "isolation", &ret->isolation, offsetof(struct daemon_config, isolation));
        reader->origins = NULL;
        schema_settle_workers(reader, &here, node, &ret->isolation);
}

static struct origin origin_of_key(const struct reader *reader, const struct node *entry, const char *key) {
        const struct node *node = node_get(entry, key);

        return node ? origin_of(reader, node) : (struct origin){0};
}

static void read_origins(const struct reader *reader, const struct node *entry, struct plugin_entry *ret) {
        ret->mode_origin = origin_of_key(reader, entry, "mode");
        ret->on_error_origin = origin_of_key(reader, entry, "on_error");
        ret->priority_origin = origin_of_key(reader, entry, "priority");
        if (ret->on_error_origin.from == ORIGIN_DEFAULT && ret->on_error != ON_ERROR_FAIL) /* mode: enforce_ignore_error */
                ret->on_error_origin = ret->mode_origin;
}

/* A hook may be of the plugin's own making, but one that is nearly CPEX's is a slip, and its plugin would never be called. */
static void check_hooks(struct reader *reader, const struct at *up, const struct node *entry, size_t hooks_taken) {
        static const char *const hooks[] = {
                "tool_pre_invoke",        "tool_post_invoke",        "prompt_pre_fetch",       "prompt_post_fetch",
                "resource_pre_fetch",     "resource_post_fetch",     "agent_pre_invoke",       "agent_post_invoke",
                "http_pre_request",       "http_post_request",       "http_auth_resolve_user", "http_auth_check_permission",
                "identity_resolve",       "token_delegate",          "cmf.tool_pre_invoke",    "cmf.tool_post_invoke",
                "cmf.prompt_pre_fetch",   "cmf.prompt_post_fetch",   "cmf.llm_input",          "cmf.llm_output",
                "cmf.resource_pre_fetch", "cmf.resource_post_fetch",
        };
        const struct node *list = node_get(entry, "hooks");

        for (size_t i = 0; i < hooks_taken; i++) {
                struct at at = {.up = up, .key = "hooks", .index = i + 1};
                const struct node *item = list->items[i];
                bool told = item->type == NODE_STR && node_may_tell(item, &reader->report);
                const char *meant = told ? suggest(item->text, hooks, ELEMENTS(hooks)) : NULL;

                if (meant && !str_eq(meant, item->text) && strlen(item->text) + 3 > strlen(meant))
                        report_add(&reader->report, DIAG_WARNING, &at, item->place,
                                   "\"%s\" is no hook of CPEX's; did you mean \"%s\"?", item->text, meant);
        }
}

/* To CPEX that is a plugin like any other, and nobody ever calls it. (An external one may get its hooks from its server.) */
static void check_has_hooks(struct reader *reader, const struct at *at, const struct node *entry,
                            const struct plugin_entry *plugin) {
        static const char *const hooks[] = {"hooks"};

        if (node_get(entry, "hooks") || plugin->mode == PLUGIN_DISABLED || !plugin->kind || str_eq(plugin->kind, "external"))
                return;
        for (size_t i = 0; i < entry->n_pairs; i++)
                if (entry->pairs[i].key->type == NODE_STR && suggest(entry->pairs[i].key->text, hooks, 1))
                        return; /* said already, as a key that is unknown */
        report_add(&reader->report, DIAG_WARNING, at, entry->place,
                   "the key \"hooks\" is missing, so the plugin is never called");
}

static void read_config_keys(struct reader *reader, const struct node *entry, struct plugin_entry *ret) {
        const struct node *config = node_get(entry, "config");

        if (!config || config->type != NODE_MAP)
                return;
        for (size_t i = 0; i < config->n_pairs; i++)
                if (config->pairs[i].key->type == NODE_STR &&
                    !report_check(&reader->report, strlist_append(&ret->config_keys, config->pairs[i].key->text) == 0))
                        return;
}

static void read_kind(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                      struct plugin_entry *ret) {
        if (!ret->kind)
                return;
        external_check(reader, at, entry, ret);
        if (ret->mode == PLUGIN_DISABLED || ret->isolation.socket)
                return;
        if (str_eq(ret->kind, "isolated_venv"))
                layout_find(reader, at, entry, dirs, ret);
        else if (str_eq(ret->kind, "external"))
                external_find(reader, at, entry, ret);
        else
                layout_find_native(reader, at, entry, dirs, ret);
}

const char *entry_shown_name(const struct reader *reader, const struct node *node) {
        const struct node *name = node_get(node, "name");

        return name && name->type == NODE_STR && node_may_tell(name, &reader->report) ? name->text : NULL;
}

void entry_read(struct reader *reader, const struct entry_context *context, size_t index, const struct node *node,
                struct plugin_entry *ret) {
        struct at at = {.key = "plugins", .index = index, .name = entry_shown_name(reader, node)};
        struct at name_at = {.up = &at, .key = "name"};

        ret->mode = PLUGIN_SEQUENTIAL;
        ret->on_error = ON_ERROR_FAIL;
        ret->priority = 100;
        ret->line = node->place.line;
        ret->column = node->place.column;
        (void)shape_read(reader, &at, node, &shape_plugin, ret);
        if (node->type != NODE_MAP)
                return;
        if (ret->name && !*ret->name)
                value_refuse(reader, &name_at, node_get(node, "name"), "a name");
        read_mode(reader, &at, node, ret);
        reader->disabled = ret->mode == PLUGIN_DISABLED;
        read_on_error(reader, &at, node, ret);
        read_origins(reader, node, ret);
        read_conditions(reader, &at, node, ret);
        read_capabilities(reader, &at, node, ret);
        read_isolation(reader, &at, node, context->isolation, ret);
        check_hooks(reader, &at, node, ret->hooks.n);
        check_has_hooks(reader, &at, node, ret);
        check_misplaced(reader, &at, node);
        read_config_keys(reader, node, ret);
        read_kind(reader, &at, node, context->plugin_dirs, ret);
        node_put(&ret->entry, node, "isolation");
        if (buf_error(&ret->entry))
                reader->report.error = -ENOMEM;
}
