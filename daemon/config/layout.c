/* SPDX-License-Identifier: Apache-2.0 */

/*
 * There are two ways to lay out an isolated_venv plugin. The documentation's: script_path names the plugin's folder. Upstream's own loader:
 * the folder is plugin_dirs[0]/<first part of class_name>, and script_path, if given, names upstream's worker.py, which plays no part here.
 * In both, the package may lie in that folder or be that folder, and only the disk can tell. So the rule is: of the folder and its
 * parent, the first in which the module of class_name is found goes on sys.path; where neither has it (it may come with the
 * requirements), the folder.
 *
 * A native plugin is imported as in a host that was started in the project root: that folder comes first on sys.path, plugin_dirs
 * come last, behind all that is installed. As there, what lies elsewhere than below the root or in one folder of the system does not count.
 */

#include "config/layout.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/stat.h>

#include "config/paths.h"

#define SYSTEM_PLUGINS "/var/lib/cpex/plugins"

struct finding {
        struct reader *reader;
        const struct at *at; /* of `config` */
        const struct node *config;
        const struct strlist *dirs;
        char *folder; /* the plugin's */
        bool secret;  /* it is not to be shown */
        bool unset;   /* its name, or the class's, lacks a variable that is not set: what is not found is no wonder */
};

/* Where a key of `config` stands; where it is missing, `config`. */
static struct place place_of(const struct finding *finding, const char *key) {
        const struct node *node = node_get(finding->config, key);

        return node ? node->place : finding->config->place;
}

/* package.module.Class, of names that Python accepts as far as ASCII goes; letters beyond it are left to Python. */
static bool is_class_name(const char *text) {
        unsigned parts = 0;

        for (;; text++, parts++) {
                size_t len = strcspn(text, ".");

                if (len == 0 || isdigit((unsigned char)*text))
                        return false;
                for (size_t i = 0; i < len; i++)
                        if ((unsigned char)text[i] < 0x80 && !isalnum((unsigned char)text[i]) && text[i] != '_')
                                return false;
                text += len;
                if (!*text)
                        return parts > 0;
        }
}

static bool exists(const char *path, mode_t type) {
        struct stat status;

        return stat(path, &status) == 0 && (status.st_mode & S_IFMT) == type;
}

/* Return: 1 with the folder or the file that is `module` in `folder`, 0 where there is none, -ENOMEM. */
static int locate_module(char **ret, const char *folder, const char *module) {
        CLEANUP_FREE char *path = path_join(folder, module), *file = NULL;

        if (!path || asprintf(&file, "%s.py", path) < 0) {
                file = NULL;
                return -ENOMEM;
        }
        if (exists(path, S_IFDIR))
                *ret = TAKE(path);
        else if (exists(file, S_IFREG))
                *ret = TAKE(file);
        else
                return 0;
        return 1;
}

static int has_module(const char *folder, const char *module) {
        CLEANUP_FREE char *path = NULL;

        return locate_module(&path, folder, module);
}

/* Return: 1 with the folder for sys.path, 0 where the module lies in neither, -ENOMEM. */
static int find_module(char **ret, const char *folder, const char *parent, const char *module) {
        const char *found = folder;
        int r = has_module(folder, module);

        if (r == 0 && strncmp(path_basename(folder), module, strcspn(module, "/")) == 0 &&
            strlen(path_basename(folder)) == strcspn(module, "/")) {
                found = parent;
                r = has_module(parent, module);
        }
        if (r <= 0)
                return r;
        *ret = strdup(found);
        return *ret ? 1 : -ENOMEM;
}

/* *ret_whole: whether the module was found; *ret_part: or at least the package that its name begins with. */
static int find_search_path(const char *folder, struct plugin_entry *entry, bool *ret_whole, bool *ret_part) {
        CLEANUP_FREE char *module = strdup(entry->class_name), *parent = path_parent(folder), *found = NULL;
        int r;

        if (!module || !parent)
                return -ENOMEM;
        *strrchr(module, '.') = '\0';
        for (char *dot = module; (dot = strchr(dot, '.'));)
                *dot = '/';
        r = find_module(&found, folder, parent, module);
        *ret_whole = r != 0;
        if (r == 0) {
                module[strcspn(module, "/")] = '\0';
                r = find_module(&found, folder, parent, module);
        }
        if (r < 0)
                return r;
        *ret_part = r > 0;
        entry->script_path = r > 0 ? TAKE(found) : strdup(folder);
        entry->code = entry->script_path ? strdup(entry->script_path) : NULL;
        return entry->code ? 0 : -ENOMEM;
}

static bool is_worker(const struct node *script) {
        return script->type == NODE_STR && str_eq(path_basename(script->text), "worker.py");
}

/* plugin_dirs[0]/<first part of class_name> */
static bool upstream_folder(struct finding *finding, const char *class_name) {
        CLEANUP_FREE char *first = strndup(class_name, strcspn(class_name, ".")), *dir = NULL;
        struct report *report = &finding->reader->report;

        if (finding->dirs->n == 0) {
                report_add(report, DIAG_ERROR, finding->at, place_of(finding, "script_path"),
                           "script_path is missing; give the plugin's folder, or the folder of all plugins as plugin_dirs");
                return false;
        }
        dir = path_join(finding->reader->base, finding->dirs->items[0]);
        finding->folder = first && dir ? path_join(dir, first) : NULL;
        return report_check(report, finding->folder != NULL);
}

static bool find_folder(struct finding *finding, const char *class_name) {
        const struct node *script = node_get(finding->config, "script_path");
        struct at at = {.up = finding->at, .key = "script_path"};
        struct place place = place_of(finding, "script_path");
        struct report *report = &finding->reader->report;

        if (!script || script->type == NODE_NULL || is_worker(script)) {
                if (!upstream_folder(finding, class_name))
                        return false;
        } else {
                if (script->type == NODE_STR && path_climbs(script->text)) {
                        report_add(report, DIAG_ERROR, &at, place, "\"%s\" leaves the project root; plugins lie inside it",
                                   node_shown(script, report));
                        return false;
                }
                if (!value_path(finding->reader, &at, script, &finding->folder))
                        return false;
        }
        if (!exists(finding->folder, S_IFDIR)) {
                report_add(report, DIAG_ERROR, &at, place, "there is no folder %s",
                           finding->secret ? "of that name" : finding->folder);
                return false;
        }
        return true;
}

static void find_requirements(struct finding *finding, struct plugin_entry *entry) {
        const struct node *node = node_get(finding->config, "requirements_file");
        struct at at = {.up = finding->at, .key = "requirements_file"};
        CLEANUP_FREE char *text = NULL, *path = NULL;

        if (!node || node->type == NODE_NULL || !value_text(finding->reader, &at, node, &text) || !*text)
                return;
        path = path_join(finding->folder, text);
        if (!report_check(&finding->reader->report, path != NULL))
                return;
        if (exists(path, S_IFREG))
                entry->requirements_file = TAKE(path);
        else if (!finding->unset && !node->unset)
                report_add(&finding->reader->report, DIAG_FAULT, &at, node->place,
                           "there is no file %s; the plugin gets no requirements",
                           finding->secret || !node_may_tell(node, &finding->reader->report) ? "of that name" : path);
}

/* What is nowhere may come with the requirements, but not a part of a package that is here. */
static void place_code(struct finding *finding, const struct at *at, const struct node *name, struct plugin_entry *entry) {
        struct report *report = &finding->reader->report;
        bool whole = false, part = false;

        if (!report_check(report, find_search_path(finding->folder, entry, &whole, &part) == 0) || whole || finding->unset ||
            (!part && entry->requirements_file))
                return;
        if (finding->secret)
                report_add(report, DIAG_FAULT, at, name->place, "there is no module of that name in the plugin's folder");
        else
                report_add(report, DIAG_FAULT, at, name->place, "there is no module %.*s in %s",
                           (int)(strrchr(entry->class_name, '.') - entry->class_name), entry->class_name, finding->folder);
}

void layout_find(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                 struct plugin_entry *ret) {
        const struct node *config = node_get(entry, "config"), *name = node_get(config, "class_name"),
                          *script = node_get(config, "script_path");
        struct at config_at = {.up = at, .key = "config"}, name_at = {.up = &config_at, .key = "class_name"};
        struct finding finding = {.reader = reader, .at = &config_at, .config = config, .dirs = dirs};
        const struct node *shared = node_get(node_get(entry, "isolation"), "requirements");

        if (shared && shared->type != NODE_NULL)
                report_add(&reader->report, DIAG_WARNING, at, shared->place,
                           "isolation.requirements has no effect here; an isolated_venv plugin names config.requirements_file");
        if (!name) {
                report_add(&reader->report, DIAG_ERROR, at, config ? config->place : entry->place,
                           "config.class_name is missing; give the plugin's class as package.module.Class");
                return;
        }
        if (!value_text(reader, &name_at, name, &ret->class_name))
                return;
        if (!is_class_name(ret->class_name)) {
                report_add(&reader->report, DIAG_ERROR, &name_at, name->place, "\"%s\" is not of the form package.module.Class",
                           node_shown(name, &reader->report));
                return;
        }
        finding.secret = reader->base_secret || !node_may_tell(name, &reader->report) ||
                         (script && !node_may_tell(script, &reader->report));
        finding.unset = name->unset || (script && script->unset);
        if (find_folder(&finding, ret->class_name)) {
                find_requirements(&finding, ret);
                place_code(&finding, &name_at, name, ret);
        }
        free(finding.folder);
}

/* ---- Native plugins ---- */

/* Return: 0, also where there is nothing of that name (*ret is then NULL), or -ENOMEM. */
static int resolve(const char *path, char **ret) {
        *ret = realpath(path, NULL);
        return *ret || errno != ENOMEM ? 0 : -ENOMEM;
}

static int add_path(struct strlist *paths, const char *base, const char *folder) {
        CLEANUP_FREE char *joined = path_join(base, folder), *path = NULL, *root = NULL;

        if (!joined || resolve(joined, &path) < 0 || resolve(base, &root) < 0)
                return -ENOMEM;
        if (!path || strlist_has(paths, path) || !((root && path_lies_in(path, root)) || path_lies_in(path, SYSTEM_PLUGINS)))
                return 0;
        return strlist_append(paths, path);
}

/* The code is what the first part of the class's name stands for, with the plugins that share it; NULL: it comes from elsewhere. Return: 0
 * or -ENOMEM. */
static int find_code(struct plugin_entry *entry) {
        CLEANUP_FREE char *first = strndup(entry->class_name, strcspn(entry->class_name, "."));
        int r = first ? locate_module(&entry->code, entry->script_path, first) : -ENOMEM;

        for (size_t i = 0; i < entry->more_paths.n && r == 0; i++)
                r = locate_module(&entry->code, entry->more_paths.items[i], first);
        return MIN(r, 0);
}

/* A plugin that is nowhere cannot start; what is wrong is mostly the project root. */
static void warn_missing_module(struct reader *reader, const struct at *at, const struct node *kind,
                                const struct plugin_entry *entry) {
        const char *name = node_may_tell(kind, &reader->report) ? entry->class_name : "of that name";

        if (!entry->code && !entry->requirements_file && !kind->unset && strncmp(entry->class_name, "cpex.", 5) != 0)
                report_add(&reader->report, DIAG_FAULT, at, kind->place,
                           "there is no module %.*s in %s, nor in plugin_dirs below it; set project_root in cpexd.yaml, or let "
                           "isolation.requirements bring it",
                           (int)strcspn(name, "."), name, reader->base_secret ? "the project root" : reader->base);
}

static void find_shared_requirements(struct reader *reader, const struct at *at, const struct node *entry,
                                     struct plugin_entry *ret) {
        const struct node *node = node_get(node_get(entry, "isolation"), "requirements");
        struct at isolation = {.up = at, .key = "isolation"}, here = {.up = &isolation, .key = "requirements"};

        if (!ret->isolation.requirements)
                return;
        ret->requirements_file = strdup(ret->isolation.requirements);
        if (!report_check(&reader->report, ret->requirements_file != NULL) || exists(ret->requirements_file, S_IFREG))
                return;
        if (node)
                report_add(&reader->report, DIAG_ERROR, &here, node->place, "there is no file %s",
                           node_shown(node, &reader->report));
        else
                report_add(&reader->report, DIAG_ERROR, at, node_get(entry, "kind")->place,
                           "there is no file where isolation.requirements in cpexd.yaml says");
}

void layout_find_native(struct reader *reader, const struct at *at, const struct node *entry, const struct strlist *dirs,
                        struct plugin_entry *ret) {
        static const char *const kinds[] = {"isolated_venv", "external"};
        const struct node *kind = node_get(entry, "kind");
        struct at here = {.up = at, .key = "kind"};
        const char *meant;

        if (!is_class_name(ret->kind)) {
                meant = node_may_tell(kind, &reader->report) ? suggest(ret->kind, kinds, ELEMENTS(kinds)) : NULL;
                report_add(&reader->report, DIAG_ERROR, &here, kind->place,
                           "\"%s\" is neither isolated_venv nor external, nor a class of the form package.module.Class%s%s%s",
                           node_shown(kind, &reader->report), meant ? "; did you mean \"" : "", meant ? meant : "",
                           meant ? "\"?" : "");
                return;
        }
        ret->class_name = strdup(ret->kind);
        ret->script_path = strdup(reader->base);
        if (!report_check(&reader->report, ret->class_name && ret->script_path))
                return;
        for (size_t i = 0; i < dirs->n; i++)
                if (!report_check(&reader->report, add_path(&ret->more_paths, reader->base, dirs->items[i]) == 0))
                        return;
        find_shared_requirements(reader, at, entry, ret);
        if (report_check(&reader->report, find_code(ret) == 0))
                warn_missing_module(reader, &here, kind, ret);
}
