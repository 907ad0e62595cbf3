/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The payload is looked into only when a condition names tools, prompts, resources or agents and the hook has such a value, and
 * then only at the one key of its top level.
 */

#include "pipeline/condition.h"

#include <ctype.h>
#include <strings.h>

static struct mp text_of(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp text = {0};

        (void)mp_read_str(&cur, &text);
        return text;
}

static bool text_is(struct mp text, const char *item) {
        return strlen(item) == text.len && memcmp(item, text.data, text.len) == 0;
}

static bool list_has(const struct strlist *list, struct mp text) {
        for (size_t i = 0; i < list->n; i++)
                if (text_is(text, list->items[i]))
                        return true;
        return false;
}

/* An id that is missing matches no list of ids. */
static bool id_matches(const struct strlist *list, struct mp value) {
        return list->n == 0 || (value.len > 0 && list_has(list, text_of(value)));
}

static struct mp trimmed(struct mp text) {
        for (; text.len > 0 && isspace(text.data[0]); text.data++)
                text.len--;
        while (text.len > 0 && isspace(text.data[text.len - 1]))
                text.len--;
        return text;
}

/* "Text/HTML; charset=utf-8" is "text/html". */
static struct mp media_type(struct mp text) {
        const uint8_t *semicolon = text.len > 0 ? memchr(text.data, ';', text.len) : NULL;

        if (semicolon)
                text.len = (size_t)(semicolon - text.data);
        return trimmed(text);
}

/* A missing or blank one matches no list. */
static bool content_type_matches(const struct strlist *list, struct mp value) {
        struct mp asked = media_type(text_of(value));

        if (list->n == 0)
                return true;
        if (trimmed(text_of(value)).len == 0)
                return false;
        for (size_t i = 0; i < list->n; i++) {
                struct mp allowed = media_type((struct mp){(const uint8_t *)list->items[i], strlen(list->items[i])});

                if (allowed.len == asked.len && strncasecmp((const char *)allowed.data, (const char *)asked.data, asked.len) == 0)
                        return true;
        }
        return false;
}

/* A user that is a string contains one of the patterns; one that is a map has one of them as a key. */
static bool user_matches(const struct strlist *patterns, struct mp user) {
        struct mp_cur cur = mp_cur(user);
        struct mp text, ignored;

        if (patterns->n == 0)
                return true;
        if (mp_peek(&cur) == MP_MAP) {
                for (size_t i = 0; i < patterns->n; i++)
                        if (mp_map_get(user, patterns->items[i], &ignored))
                                return true;
                return false;
        }
        if (!mp_read_str(&cur, &text) || text.len == 0)
                return false;
        for (size_t i = 0; i < patterns->n; i++)
                if (memmem(text.data, text.len, patterns->items[i], strlen(patterns->items[i])))
                        return true;
        return false;
}

/* Which list a hook's payload is held against, and by which of its fields. */
static const struct {
        const char *hook, *field;
        size_t list;
} targets[] = {
        {"tool_pre_invoke", "name", offsetof(struct plugin_condition, tools)},
        {"tool_post_invoke", "name", offsetof(struct plugin_condition, tools)},
        {"token_delegate", "target_name", offsetof(struct plugin_condition, tools)},
        {"prompt_pre_fetch", "prompt_id", offsetof(struct plugin_condition, prompts)},
        {"prompt_post_fetch", "prompt_id", offsetof(struct plugin_condition, prompts)},
        {"resource_pre_fetch", "uri", offsetof(struct plugin_condition, resources)},
        {"resource_post_fetch", "uri", offsetof(struct plugin_condition, resources)},
        {"agent_pre_invoke", "agent_id", offsetof(struct plugin_condition, agents)},
        {"agent_post_invoke", "agent_id", offsetof(struct plugin_condition, agents)},
};

/* Whether there is nothing in a text, as which a secret may travel, too. */
static bool is_empty(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp content;
        int8_t type;

        return (mp_read_str(&cur, &content) || mp_read_bin(&cur, &content) || mp_read_ext(&cur, &type, &content)) &&
               content.len == 0;
}

static bool payload_matches(const struct plugin_condition *condition, const struct request *request) {
        struct mp value, text;

        /* CPEX compares the token, a secret that equals no string; an empty one passes, as an empty name does. */
        if (text_is(request->hook, "identity_resolve"))
                return condition->tools.n == 0 || !mp_map_get(request->payload, "raw_token", &value) || is_empty(value);
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                const struct strlist *list = (const struct strlist *)(const void *)((const char *)condition + targets[i].list);

                if (!text_is(request->hook, targets[i].hook))
                        continue;
                if (list->n == 0 || !mp_map_get(request->payload, targets[i].field, &value))
                        return true;
                text = text_of(value);
                return text.len == 0 || list_has(list, text);
        }
        return true;
}

static bool condition_matches(const struct plugin_condition *condition, const struct request *request) {
        return id_matches(&condition->server_ids, request->server_id) && id_matches(&condition->tenant_ids, request->tenant_id) &&
               content_type_matches(&condition->content_types, request->content_type) &&
               user_matches(&condition->user_patterns, request->user) && payload_matches(condition, request);
}

bool conditions_match(const struct plugin_entry *entry, const struct request *request) {
        for (size_t i = 0; i < entry->n_conditions; i++)
                if (condition_matches(&entry->conditions[i], request))
                        return true;
        return entry->n_conditions == 0;
}
