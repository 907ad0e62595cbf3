/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexd.yaml, the command line and the defaults, in this order of weight from weak to strong: defaults, file, command line. The table
 * (schema.c) reads the file; what is left for here are the paths, whose defaults depend on who runs the daemon and where.
 */

#include <stdio.h>

#include "config/file.h"
#include "config/load.h"
#include "config/paths.h"
#include "config/schema.h"
#include "config/template.h"

struct loading {
        struct daemon_config *config;
        struct reader reader;
        const struct node *root;
        const struct config_overrides *overrides;
        const char *working_folder;
};

static const struct node *find(const struct loading *loading, const char *group, const char *key) {
        return node_get(node_get(loading->root, group), key);
}

static int override(const struct loading *loading, const char *given, char **path) {
        char *joined;

        if (!given)
                return 0;
        joined = path_join(loading->working_folder, given);
        if (!joined)
                return -ENOMEM;
        free(*path);
        *path = joined;
        return 0;
}

static int set_string(char **target, const char *text) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        free(*target);
        *target = copy;
        return 0;
}

/* Puts `name` (NULL: the folder itself) into a default folder, or says which variable would have named it. */
static int set_default(struct loading *loading, char **path, int (*folder_of)(char **), const char *name, const char *key,
                       const char *variable) {
        CLEANUP_FREE char *folder = NULL;
        struct at at = {.key = key};
        int r = folder_of(&folder);

        if (r == -ENOENT) {
                report_add(&loading->reader.report, DIAG_ERROR, &at, (struct place){0},
                           "no default, for %s is not set; set it, or give %s", variable, key);
                return 0;
        }
        if (r < 0)
                return r;
        *path = name ? path_join(folder, name) : TAKE(folder);
        return *path ? 0 : -ENOMEM;
}

static int set_plugins(struct loading *loading) {
        struct daemon_config *config = loading->config;
        const struct node *node = node_get(loading->root, "plugins");
        int r = override(loading, loading->overrides->plugins, &config->plugins);

        if (r == 0 && !config->plugins && !node)
                r = set_default(loading, &config->plugins, path_config_folder, "plugins.yaml", "plugins",
                                "CONFIGURATION_DIRECTORY");
        if (r < 0 || !config->plugins)
                return r;
        if (loading->overrides->plugins)
                return set_string(&config->plugins_name, loading->overrides->plugins);
        if (node && !node_may_tell(node, &loading->reader.report))
                return set_string(&config->plugins_name, "plugins.yaml");
        return set_string(&config->plugins_name, node && node->type == NODE_STR ? node->text : config->plugins);
}

static void find_secrets(struct loading *loading) {
        const struct node *plugins = loading->overrides->plugins ? NULL : node_get(loading->root, "plugins"),
                          *root = node_get(loading->root, "project_root"),
                          *from = root && root->type != NODE_NULL ? root : plugins;

        loading->config->root_secret = from && !node_may_tell(from, &loading->reader.report);
}

static int set_sockets(struct loading *loading) {
        struct daemon_config *config = loading->config;
        int r = override(loading, loading->overrides->socket, &config->socket.path);

        if (r == 0)
                r = override(loading, loading->overrides->control, &config->control.path);
        if (r == 0 && config->socket.path && !config->control.path) {
                CLEANUP_FREE char *folder = path_parent(config->socket.path);

                config->control.path = folder ? path_join(folder, "control.sock") : NULL;
                r = config->control.path ? 0 : -ENOMEM;
        }
        if (r == 0 && !config->socket.path)
                r = set_default(loading, &config->socket.path, path_runtime_folder, "cpexd.sock", "socket.path",
                                "XDG_RUNTIME_DIR");
        if (r == 0 && !config->control.path)
                r = set_default(loading, &config->control.path, path_runtime_folder, "control.sock", "control.path",
                                "XDG_RUNTIME_DIR");
        return r;
}

static void check_socket(struct loading *loading, const char *group, const char *path) {
        const struct node *node = find(loading, group, "path");
        struct at up = {.key = group}, at = {.up = &up, .key = "path"};

        if (path && strlen(path) > PATH_SOCKET_MAX)
                report_add(&loading->reader.report, DIAG_ERROR, &at, node ? node->place : (struct place){0},
                           "\"%s\" is %zu bytes long, but the path of a Unix socket can have %zu",
                           node && !node_may_tell(node, &loading->reader.report) ? "…" : path, strlen(path), PATH_SOCKET_MAX);
}

static void check_sockets(struct loading *loading) {
        const struct node *node = find(loading, "control", "path");
        struct at up = {.key = "control"}, at = {.up = &up, .key = "path"};

        check_socket(loading, "socket", loading->config->socket.path);
        check_socket(loading, "control", loading->config->control.path);
        if (loading->config->socket.path && str_eq(loading->config->socket.path, loading->config->control.path))
                report_add(&loading->reader.report, DIAG_ERROR, &at, node ? node->place : (struct place){0},
                           "is the same as socket.path; the two sockets need two paths");
}

static int settle(struct loading *loading) {
        struct daemon_config *config = loading->config;
        const struct node *isolation = node_get(loading->root, "isolation");
        struct at at = {.key = "isolation"};
        int r = set_plugins(loading);

        if (r == 0)
                r = set_sockets(loading);
        if (r == 0 && !config->cache_dir)
                r = set_default(loading, &config->cache_dir, path_cache_folder, NULL, "cache_dir", "HOME");
        if (r < 0)
                return r;
        find_secrets(loading);
        check_sockets(loading);
        schema_settle_workers(&loading->reader, &at, isolation, &config->isolation);
        if (node_get(isolation, "timeout"))
                config->settings.timeout_usec = config->isolation.timeout_usec;
        return 0;
}

/* The paths of the table are those of root: here they are found for whoever runs this. */
static int start_from_defaults(struct daemon_config *config) {
        int r = schema_defaults(config);

        free(TAKE(config->plugins));
        free(TAKE(config->cache_dir));
        free(TAKE(config->socket.path));
        free(TAKE(config->control.path));
        return r;
}

/* cpexd.yaml is ours, and does without Jinja2. */
static int expand(struct loading *loading, const char *text, size_t len, struct template **ret) {
        struct report *report = &loading->reader.report;
        struct place beyond = {0};
        int r = template_expand(ret, text, len, report, &beyond);

        if (r == -EOPNOTSUPP)
                report_add(report, DIAG_ERROR, NULL, beyond,
                           "this file may have {{ env.NAME }}, also with default('text') and safe, {# … #} and {%% raw %%}, and "
                           "nothing "
                           "else of Jinja");
        else if (r == -EMSGSIZE)
                report_add(report, DIAG_ERROR, NULL, (struct place){0}, TEMPLATE_TOO_LONG);
        else
                return r;
        return -EINVAL;
}

static int load(struct loading *loading, const char *path, const char *text, size_t len) {
        CLEANUP_TEMPLATE struct template *template = NULL;
        CLEANUP_TREE struct tree *tree = NULL;
        CLEANUP_FREE char *base = NULL;
        int r = start_from_defaults(loading->config);

        if (r < 0)
                return r;
        if (path) {
                loading->config->path = path_join(loading->working_folder, path);
                base = loading->config->path ? path_parent(loading->config->path) : NULL;
                if (!base)
                        return -ENOMEM;
                loading->reader.base = base;
        }
        r = expand(loading, text, len, &template);
        if (r == 0)
                r = tree_parse(&tree, template, &loading->reader.report);
        if (r < 0)
                return r;
        loading->root = tree_root(tree);
        if (loading->root)
                schema_read(&loading->reader, NULL, loading->root, "", loading->config, 0);
        r = settle(loading);
        loading->root = NULL;
        return r;
}

static void daemon_config_freep(struct daemon_config **config) {
        daemon_config_free(*config);
}

/* Return: 0 with what could be read, even where mistakes were counted. */
static int parse(struct daemon_config **ret, const char *path, const char *text, size_t len,
                 const struct config_overrides *overrides, struct diags *diags) {
        static const struct config_overrides none;
        CLEANUP(daemon_config_freep) struct daemon_config *config = calloc(1, sizeof(*config));
        CLEANUP_FREE char *working_folder = NULL;
        size_t first = diags->n;
        struct loading loading = {
                .config = config,
                .reader = {.report = {.diags = diags, .file = path ? path : "cpexd"}, .in_daemon_file = true},
                .overrides = overrides ? overrides : &none,
        };
        int r;

        if (!config)
                return -ENOMEM;
        loading.reader.origins = config->isolation.origins;
        r = path_working_folder(&working_folder);
        if (r < 0)
                return r;
        loading.working_folder = loading.reader.base = working_folder;
        buf_append(&config->text, text, len);
        r = buf_error(&config->text);
        r = r < 0 ? r : load(&loading, path, text, len);
        diags_sort(diags, first);
        if (loading.reader.report.error)
                r = loading.reader.report.error;
        if (r == 0)
                *ret = TAKE(config);
        return r;
}

int daemon_config_load(struct daemon_config **ret, const char *path, const struct config_overrides *overrides,
                       struct diags *diags) {
        struct report report = {.diags = diags, .file = path};
        CLEANUP_BUF struct buf buf = {0};
        int r = path ? file_read(&buf, path, "create it, or start without -c for the defaults", &report) : 0;

        if (report.error)
                r = report.error;
        return r < 0 ? r : parse(ret, path, buf.data ? (const char *)buf.data : "", buf.len, overrides, diags);
}

int daemon_config_parse(struct daemon_config **ret, const char *path, const char *text, size_t len,
                        const struct config_overrides *overrides, struct diags *diags) {
        CLEANUP(daemon_config_freep) struct daemon_config *config = NULL;
        size_t errors = diags->errors;
        int r = parse(&config, path, text, len, overrides, diags);

        if (r < 0 || diags->errors > errors)
                return r < 0 ? r : -EINVAL;
        *ret = TAKE(config);
        return 0;
}
