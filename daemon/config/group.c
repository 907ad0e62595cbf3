/* SPDX-License-Identifier: Apache-2.0 */

/*
 * All settings of `isolation` have to be the same but for the few that say something of one plugin's calls.
 */

#include "config/group.h"

#include "config/explain.h"
#include "config/file.h"
#include "config/schema.h"

/* Return: whether each plugin of a group may have its own, or has none. */
static bool is_own(const struct config_key *key) {
        static const char *const own[] = {
                "isolation.timeout", "isolation.queue",        "isolation.queue_timeout",
                "isolation.group",   "isolation.requirements", "isolation.socket",
        };

        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (str_eq(key->name, own[i]))
                        return true;
        return false;
}

/* Return: where the entry says it; if it does not, where it names the group. */
static struct place place_of(const struct node *isolation, const char *name) {
        char part[64];
        const struct node *node = isolation;

        for (name += strlen("isolation."); node; name += strcspn(name, ".") + 1) {
                (void)snprintf(part, sizeof(part), "%.*s", (int)strcspn(name, "."), name);
                node = node_get(node, part);
                if (!strchr(name, '.'))
                        break;
        }
        return node ? node->place : node_get(isolation, "group")->place;
}

static void check_setting(struct reader *reader, const struct at *at, const struct node *isolation,
                          const struct plugin_entry *entry, const struct plugin_entry *first, const struct config_key *key) {
        struct isolation ours = entry->isolation, theirs = first->isolation; /* only looked at */
        bool secret = schema_origin(ours.origins, key)->secret || schema_origin(theirs.origins, key)->secret;
        CLEANUP_BUF struct buf our = {0}, their = {0};

        explain_put_value(&our, key, &ours);
        explain_put_value(&their, key, &theirs);
        if (!report_check(&reader->report, buf_error(&our) == 0 && buf_error(&their) == 0) ||
            (our.len == their.len && memcmp(our.data, their.data, our.len) == 0))
                return;
        if (secret)
                report_add(
                        &reader->report, DIAG_ERROR, at, place_of(isolation, key->name),
                        "%s is another than that of the plugin in line %u, the first of its group; plugins of a group have their "
                        "workers in common, so it must be the same",
                        key->name, first->line);
        else
                report_add(&reader->report, DIAG_ERROR, at, place_of(isolation, key->name),
                           "%s is %.*s here and %.*s for the plugin in line %u, the first of its group; plugins of a group have "
                           "their workers in common, so it must be the same",
                           key->name, (int)our.len, (const char *)our.data, (int)their.len, (const char *)their.data,
                           first->line);
}

/* Return: whether both name the same requirements, as far as these files go. One that cannot be read is the installer's to complain about. */
static bool same_requirements(const char *a, const char *b) {
        struct diags diags = {0};
        struct report report = {.diags = &diags};
        CLEANUP_BUF struct buf a_text = {0}, b_text = {0};
        bool same = str_eq(a, b);

        if (!same && a && b)
                same = file_read(&a_text, a, NULL, &report) == 0 && file_read(&b_text, b, NULL, &report) == 0 &&
                       a_text.len == b_text.len && (a_text.len == 0 || memcmp(a_text.data, b_text.data, a_text.len) == 0);
        diags_done(&diags);
        return same;
}

void group_check(struct reader *reader, const struct at *at, const struct node *node, const struct plugin_entry *entry,
                 struct plugin_entry *first) {
        const struct node *isolation = node_get(node, "isolation"), *group = node_get(isolation, "group");
        struct at isolation_at = {.up = at, .key = "isolation"}, here = {.up = &isolation_at, .key = "group"};

        if (!str_eq(entry->kind, "isolated_venv"))
                report_add(&reader->report, DIAG_ERROR, &here, group->place,
                           "only plugins of kind isolated_venv can have their workers in common");
        if (entry == first)
                return;
        if (++first->n_fellows == GROUP_MAX)
                report_add(&reader->report, DIAG_ERROR, &here, group->place, "more than %d plugins in one group", GROUP_MAX);
        for (size_t i = 0; i < n_config_keys; i++)
                if (strncmp(config_keys[i].name, "isolation.", 10) == 0 && !is_own(&config_keys[i]))
                        check_setting(reader, at, isolation, entry, first, &config_keys[i]);
        if (!same_requirements(entry->requirements_file, first->requirements_file))
                report_add(
                        &reader->report, DIAG_ERROR, &here, group->place,
                        "the requirements are others than those of the plugin in line %u, the first of the group; plugins of a "
                        "group have one venv, so requirements_file must name the same file or one with the same content",
                        first->line);
}
