/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An entry of kind external may say no more than where its server is: hooks, mode, priority and all the rest then come from there. Upstream's
 * client merges the two, so nothing is merged here; but what it hands over comes from a stranger, and every count and word of it is
 * checked as if it stood in a file.
 */

#include "config/merged.h"

#include "config/shape.h"

#define ITEMS_MAX 1000

static int copy_text(char **ret, const char *text) {
        *ret = text ? strdup(text) : NULL;
        return text && !*ret ? -ENOMEM : 0;
}

/* Return: 0, with *ret NULL where there is nothing or nil; -EINVAL. */
static int read_text(struct mp config, const char *key, char **ret) {
        struct mp value;

        if (!mp_map_get(config, key, &value) || mp_is_nil(value))
                return 0;
        *ret = mp_dup_str(value);
        return *ret ? 0 : -EINVAL;
}

/* Return: 0, with no items where there is nothing or nil; -EINVAL. */
static int read_list(struct mp config, const char *key, struct mp_cur *ret_cur, uint32_t *ret_n) {
        struct mp value;

        *ret_n = 0;
        if (!mp_map_get(config, key, &value) || mp_is_nil(value))
                return 0;
        *ret_cur = mp_cur(value);
        return mp_read_array(ret_cur, ret_n) && *ret_n <= ITEMS_MAX ? 0 : -EINVAL;
}

static int read_texts(struct mp config, const char *key, struct strlist *ret) {
        struct mp_cur cur;
        uint32_t n;
        int r = read_list(config, key, &cur, &n);

        for (; r == 0 && n > 0; n--) {
                CLEANUP_FREE char *text = NULL;
                struct mp item;

                text = mp_read_any(&cur, &item) ? mp_dup_str(item) : NULL;
                r = text ? strlist_append(ret, text) : -EINVAL;
        }
        return r;
}

/* Return: the name's index, `otherwise` where there is nothing, -EINVAL. */
static int read_choice(struct mp config, const char *key, const char *(*name)(unsigned), unsigned n, int otherwise) {
        struct mp value;

        if (!mp_map_get(config, key, &value))
                return otherwise;
        for (unsigned i = 0; i < n; i++)
                if (mp_eq_str(value, name(i)))
                        return (int)i;
        return -EINVAL;
}

static const char *mode_name(unsigned i) {
        return plugin_mode_name((enum plugin_mode)i);
}

static const char *failure_name(unsigned i) {
        return on_error_name((enum on_error)i);
}

static int read_policy(struct mp config, struct plugin_entry *ret) {
        int mode = read_choice(config, "mode", mode_name, PLUGIN_MODE_MAX_, PLUGIN_SEQUENTIAL);
        int on_error = read_choice(config, "on_error", failure_name, ON_ERROR_MAX_, ON_ERROR_FAIL);
        struct mp priority;
        struct mp_cur cur;

        if (mode < 0 || on_error < 0)
                return -EINVAL;
        ret->mode = (enum plugin_mode)mode;
        ret->on_error = (enum on_error)on_error;
        ret->priority = 100;
        if (!mp_map_get(config, "priority", &priority))
                return 0;
        cur = mp_cur(priority);
        return mp_read_int(&cur, &ret->priority) ? 0 : -EINVAL;
}

static int read_condition(struct mp map, struct plugin_condition *ret) {
        struct mp_cur cur = mp_cur(map);
        int r = mp_peek(&cur) == MP_MAP ? 0 : -EINVAL;

        for (size_t i = 0; i < shape_condition.n && r == 0; i++) { /* each a list of texts */
                const struct shape_field *field = &shape_condition.fields[i];

                r = read_texts(map, field->name, (struct strlist *)((char *)ret + field->offset));
        }
        return r;
}

static int read_conditions(struct mp config, struct plugin_entry *ret) {
        struct mp_cur cur;
        uint32_t n;
        int r = read_list(config, "conditions", &cur, &n);

        if (r < 0 || n == 0)
                return r;
        ret->conditions = calloc(n, sizeof(*ret->conditions));
        if (!ret->conditions)
                return -ENOMEM;
        ret->n_conditions = n;
        for (uint32_t i = 0; i < n && r == 0; i++) {
                struct mp item;

                r = mp_read_any(&cur, &item) ? read_condition(item, &ret->conditions[i]) : -EINVAL;
        }
        return r;
}

/* What no server has a say in. */
static int copy_own(const struct plugin_entry *entry, struct plugin_entry *ret) {
        ret->mode_origin = entry->mode_origin;
        ret->on_error_origin = entry->on_error_origin;
        ret->priority_origin = entry->priority_origin;
        ret->line = entry->line;
        ret->column = entry->column;
        if (copy_text(&ret->name, entry->name) < 0 || copy_text(&ret->kind, entry->kind) < 0 ||
            copy_text(&ret->class_name, entry->class_name) < 0 || copy_text(&ret->script_path, entry->script_path) < 0 ||
            copy_text(&ret->code, entry->code) < 0 || copy_text(&ret->requirements_file, entry->requirements_file) < 0)
                return -ENOMEM;
        return isolation_copy(&ret->isolation, &entry->isolation);
}

static int read_config(struct mp config, struct plugin_entry *ret) {
        const struct {
                const char *key;
                struct strlist *list;
        } lists[] = {
                {"hooks", &ret->hooks},
                {"tags", &ret->tags},
                {"capabilities", &ret->capabilities},
                {"config_keys", &ret->config_keys},
        };
        const struct {
                const char *key;
                char **text;
        } texts[] = {{"version", &ret->version}, {"description", &ret->description}, {"author", &ret->author}};
        int r = read_policy(config, ret);

        for (size_t i = 0; i < ELEMENTS(lists) && r == 0; i++)
                r = read_texts(config, lists[i].key, lists[i].list);
        for (size_t i = 0; i < ELEMENTS(texts) && r == 0; i++)
                r = read_text(config, texts[i].key, texts[i].text);
        return r == 0 ? read_conditions(config, ret) : r;
}

int plugin_entry_merged(struct plugin_entry **ret, const struct plugin_entry *entry, struct mp config) {
        struct plugin_entry *merged = calloc(1, sizeof(*merged));
        struct mp_cur cur = mp_cur(config);
        int r;

        if (!merged)
                return -ENOMEM;
        r = copy_own(entry, merged);
        if (r == 0)
                r = mp_peek(&cur) == MP_MAP ? read_config(config, merged) : -EINVAL;
        if (r < 0) {
                (void)plugin_entry_free(merged);
                return r;
        }
        *ret = merged;
        return 0;
}
