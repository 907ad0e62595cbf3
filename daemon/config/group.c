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

#define WORKERS "isolation.workers"

/* Return: how many keys from this one on are one setting: what `workers` does not say of min and max follows from the other. */
static size_t count_parts(const struct config_key *key) {
        size_t n = 0;

        while (strncmp(key[n].name, WORKERS ".", strlen(WORKERS ".")) == 0)
                n++;
        return MAX(n, (size_t)1);
}

/* Return: what the entry says of it, NULL: nothing. */
static const struct node *find_value(const struct node *isolation, const char *name) {
        const struct node *node = isolation;
        char part[64];

        for (name += strlen("isolation."); node; name += strcspn(name, ".") + 1) {
                (void)snprintf(part, sizeof(part), "%.*s", (int)strcspn(name, "."), name);
                node = node_get(node, part);
                if (!strchr(name, '.'))
                        break;
        }
        return node;
}

/* What two plugins have for one setting, as far as it differs: "min: 1, max: 4". */
struct difference {
        const struct config_key *key; /* of a part that differs */
        unsigned n;                   /* such parts */
        const struct node *given;     /* the first of them that the entry says; NULL: none */
        bool secret;
        struct buf ours, theirs;
};

static void compare_part(struct difference *it, const struct node *isolation, const struct plugin_entry *entry,
                         const struct plugin_entry *first, const struct config_key *key) {
        struct isolation ours = entry->isolation, theirs = first->isolation; /* only looked at */
        size_t our = it->ours.len, their = it->theirs.len;
        const char *part = strrchr(key->name, '.') + 1, *between = it->n > 0 ? ", " : "";

        buf_printf(&it->ours, "%s%s: ", between, part);
        buf_printf(&it->theirs, "%s%s: ", between, part);
        explain_put_value(&it->ours, key, &ours);
        explain_put_value(&it->theirs, key, &theirs);
        if (buf_error(&it->ours) || buf_error(&it->theirs))
                return;
        if (it->ours.len - our == it->theirs.len - their &&
            memcmp(it->ours.data + our, it->theirs.data + their, it->ours.len - our) == 0) {
                it->ours.len = our;
                it->theirs.len = their;
                return;
        }
        it->key = key;
        it->n++;
        it->given = it->given ? it->given : find_value(isolation, key->name);
        it->secret = it->secret || schema_origin(ours.origins, key)->secret || schema_origin(theirs.origins, key)->secret;
}

static void put_side(struct buf *buf, const struct difference *it, const struct buf *side) {
        size_t name = strlen(strrchr(it->key->name, '.') + 1) + strlen(": ");

        if (it->n > 1)
                buf_printf(buf, "{%.*s}", (int)side->len, (const char *)side->data);
        else
                buf_append(buf, side->data + name, side->len - name);
}

#define ONE_WORKER "; plugins of a group have their workers in common, so it must be the same"

static void tell(struct reader *reader, const struct at *at, const struct difference *it, struct place place,
                 const struct plugin_entry *first) {
        CLEANUP_BUF struct buf text = {0};

        buf_append_str(&text, it->n > 1 ? WORKERS : it->key->name);
        if (it->secret) {
                buf_printf(&text, " is another than that of the plugin in line %u, the first of its group", first->line);
        } else {
                buf_append_str(&text, " is ");
                put_side(&text, it, &it->ours);
                buf_append_str(&text, " here and ");
                put_side(&text, it, &it->theirs);
                buf_printf(&text, " for the plugin in line %u, the first of its group", first->line);
        }
        if (report_check(&reader->report, buf_error(&text) == 0))
                report_add(&reader->report, DIAG_ERROR, at, place, "%.*s" ONE_WORKER, (int)text.len, (const char *)text.data);
}

/* Complains where the entry says it; if it does not, where it names the group. */
static void check_setting(struct reader *reader, const struct at *at, const struct node *isolation,
                          const struct plugin_entry *entry, const struct plugin_entry *first, const struct config_key *keys,
                          size_t n) {
        struct difference it = {0};

        for (size_t i = 0; i < n; i++)
                compare_part(&it, isolation, entry, first, &keys[i]);
        if (report_check(&reader->report, buf_error(&it.ours) == 0 && buf_error(&it.theirs) == 0) && it.n > 0)
                tell(reader, at, &it, (it.given ? it.given : node_get(isolation, "group"))->place, first);
        buf_done(&it.ours);
        buf_done(&it.theirs);
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

/* What is in one worker is not forked: said once, of the plugin that makes it more than one, if the entries say it and not cpexd.yaml. */
static void check_zygote(struct reader *reader, const struct at *at, const struct node *isolation,
                         const struct plugin_entry *entry, const struct plugin_entry *first) {
        const struct node *zygote = node_get(isolation, "zygote");

        if (zygote && first->n_fellows == 1 && entry->isolation.zygote > 0 && first->isolation.zygote > 0)
                report_add(&reader->report, DIAG_WARNING, at, zygote->place,
                           "isolation.zygote has no effect on a group of several plugins: their workers are started, not forked");
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
        for (size_t i = 0, n; i < n_config_keys; i += n) {
                n = count_parts(&config_keys[i]);
                if (strncmp(config_keys[i].name, "isolation.", 10) == 0 && !is_own(&config_keys[i]))
                        check_setting(reader, at, isolation, entry, first, &config_keys[i], n);
        }
        check_zygote(reader, at, isolation, entry, first);
        if (!same_requirements(entry->requirements_file, first->requirements_file))
                report_add(
                        &reader->report, DIAG_ERROR, &here, group->place,
                        "the requirements are others than those of the plugin in line %u, the first of the group; plugins of a "
                        "group have one venv, so requirements_file must name the same file or one with the same content",
                        first->line);
}
