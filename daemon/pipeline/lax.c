/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The walk. It goes as deep as the tables do, which hold each other only where the data is nested, too, and looks at each pair of a map
 * once: a model's map is sorted into the places of its fields first.
 */

#include "pipeline/lax.h"

#include <stdio.h>

#include "pipeline/pytext.h"

#define CONTENT_TYPE_MAX 200

struct walk {
        struct buf *buf;
        struct invalid *invalid;
};

static void read_at(struct walk *walk, const struct lax_type *type, struct mp value, const struct place *at);

static void complain(struct walk *walk, const struct place *at, const char *type, struct mp input) {
        invalid_add(walk->invalid, at, type, NULL, input);
}

static void put(struct walk *walk, struct mp value) {
        if (walk->buf)
                mp_put_raw(walk->buf, value);
}

/* ---- Scalars ---- */

static void check(struct walk *walk, const char *wrong, struct mp value, const struct place *at) {
        if (wrong)
                complain(walk, at, wrong, value);
}

static void read_content_type(struct walk *walk, struct mp value, const struct place *at) {
        const char *wrong = lax_str(value, walk->buf);
        struct mp_cur cur = mp_cur(value);
        bool printable = true;
        struct mp text;
        size_t n = 0;

        check(walk, wrong, value, at);
        if (wrong || (!mp_read_str(&cur, &text) && !mp_read_bin(&cur, &text)))
                return;
        for (size_t i = 0; i < text.len; n++)
                printable &= pytext_is_printable(pytext_next(text, &i));
        if (n > CONTENT_TYPE_MAX)
                invalid_add(walk->invalid, at, "value_error", "Value error, Content-Type header too long", value);
        else if (!printable)
                invalid_add(walk->invalid, at, "value_error", "Value error, Content-Type contains invalid characters", value);
}

static void read_choice(struct walk *walk, const struct lax_type *type, struct mp value, const struct place *at) {
        CLEANUP_BUF struct buf text = {0};
        struct mp_cur cur = mp_cur(value);
        struct mp content = {0};

        if (mp_read_str(&cur, &content) || mp_read_bin(&cur, &content))
                for (size_t i = 0; type->choices[i]; i++)
                        if (mp_is_text(content, type->choices[i])) {
                                if (walk->buf)
                                        mp_put_str(walk->buf, type->choices[i]);
                                return;
                        }
        buf_append_str(&text, "Input should be ");
        for (size_t i = 0; type->choices[i]; i++)
                buf_printf(&text, "%s'%s'", i == 0 ? "" : type->choices[i + 1] ? ", " : " or ", type->choices[i]);
        buf_append(&text, "", 1);
        invalid_add(walk->invalid, at, "enum", buf_error(&text) ? "" : (const char *)text.data, value);
}

static void read_bytes(struct walk *walk, struct mp value, const struct place *at) {
        struct mp_cur cur = mp_cur(value);
        struct mp content;

        if (!mp_read_bin(&cur, &content) && !mp_read_str(&cur, &content))
                complain(walk, at, "bytes_type", value);
        else if (walk->buf)
                mp_put_bin(walk->buf, content.data, content.len);
}

static void read_secret(struct walk *walk, struct mp value, const struct place *at) {
        struct mp_cur cur = mp_cur(value);
        const char *wrong = NULL;
        struct mp content;

        if (str_eq(pytext_class(value), "SecretStr")) {
                put(walk, value);
                return;
        }
        wrong = lax_str(value, NULL);
        check(walk, wrong, value, at);
        if (!wrong && walk->buf && (mp_read_str(&cur, &content) || mp_read_bin(&cur, &content)))
                mp_put_ext(walk->buf, MP_EXT_SECRET, content.data, content.len);
}

static void read_datetime(struct walk *walk, struct mp value, const struct place *at) {
        CLEANUP_BUF struct buf text = {0};
        const char *why = NULL, *wrong = lax_datetime(value, &why);

        if (!wrong)
                put(walk, value);
        else if (!why)
                complain(walk, at, wrong, value);
        else {
                buf_printf(&text, "Input should be a valid datetime%s, %s", str_eq(wrong, "datetime_parsing") ? "" : " or date",
                           why);
                buf_append(&text, "", 1);
                invalid_add(walk->invalid, at, wrong, buf_error(&text) ? "" : (const char *)text.data, value);
        }
}

/* ---- Containers ---- */

static void read_items(struct walk *walk, const struct lax_type *type, struct mp value, const char *wrong,
                       const struct place *at) {
        struct mp_cur cur = mp_cur(value);
        char text[80];
        struct mp item;
        uint32_t n;

        if (!mp_read_array(&cur, &n)) {
                complain(walk, at, wrong, value);
                return;
        }
        if (type->max > 0 && n > type->max) {
                (void)snprintf(text, sizeof(text), "List should have at most %u items after validation, not %u", type->max, n);
                invalid_add(walk->invalid, at, "too_long", text, value);
                return;
        }
        if (walk->buf)
                mp_put_array(walk->buf, n);
        for (uint32_t i = 0; i < n && mp_read_any(&cur, &item); i++)
                read_at(walk, type->item, item, &(struct place){.up = at, .index = i});
}

static void read_key(struct walk *walk, struct mp key, const struct place *at) {
        check(walk, lax_str(key, walk->buf), key, &(struct place){.up = at, .name = "[key]"});
}

static void read_dict(struct walk *walk, const struct lax_type *item, struct mp value, const struct place *at) {
        struct mp_cur cur = mp_cur(value);
        struct mp key, inner;
        uint32_t n;

        if (!mp_read_map(&cur, &n)) {
                complain(walk, at, "dict_type", value);
                return;
        }
        if (walk->buf)
                mp_put_map(walk->buf, n);
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &inner); n--) {
                struct place place = {.up = at, .key = key};

                read_key(walk, key, &place);
                read_at(walk, item, inner, &place);
        }
}

/* Both members of the union complain where neither fits. */
static void read_str_or_dict(struct walk *walk, struct mp value, const struct place *at) {
        struct place as_str = {.up = at, .name = "str"}, as_dict = {.up = at, .name = "dict[str,any]"};
        CLEANUP_INVALID struct invalid trial = {0};
        struct walk try = {.invalid = &trial};

        read_dict(&try, NULL, value, &as_dict);
        if (trial.n == 0) {
                put(walk, value);
        } else if (lax_str(value, NULL)) {
                check(walk, lax_str(value, NULL), value, &as_str);
                read_dict(walk, NULL, value, &as_dict);
        } else {
                (void)lax_str(value, walk->buf);
        }
}

/* ---- Models ---- */

static void put_default(struct buf *buf, const struct lax_field *field) {
        switch (field->otherwise) {
        case LAX_EMPTY_MAP:
        case LAX_EMPTY_MAP_OR_NIL:
                mp_put_map(buf, 0);
                break;
        case LAX_EMPTY_LIST:
                mp_put_array(buf, 0);
                break;
        case LAX_FALSE:
                mp_put_bool(buf, false);
                break;
        case LAX_ZERO:
                mp_put_int(buf, 0);
                break;
        case LAX_ZERO_FLOAT:
                mp_put_float(buf, 0);
                break;
        case LAX_TEXT:
                mp_put_str(buf, field->text);
                break;
        default:
                mp_put_nil(buf);
        }
}

static bool may_be_nil(const struct lax_field *field) {
        return field->otherwise == LAX_NIL || field->otherwise == LAX_EMPTY_MAP_OR_NIL;
}

/* Finds the value of each field in one pass. Return: whether `value` is a map. */
static bool find_fields(const struct lax_field *fields, struct mp value, struct mp found[LAX_FIELDS_MAX]) {
        struct mp_cur cur = mp_cur(value);
        struct mp name, other, inner;
        uint32_t n;

        if (!mp_read_map(&cur, &n))
                return false;
        for (; n > 0; n--) {
                bool named = mp_read_str(&cur, &name);

                if ((!named && !mp_read_any(&cur, &other)) || !mp_read_any(&cur, &inner))
                        break;
                for (size_t i = 0; named && fields[i].name; i++)
                        if (mp_is_text(name, fields[i].name))
                                found[i] = inner;
        }
        return true;
}

static void read_model(struct walk *walk, const struct lax_type *type, struct mp value, const struct place *at) {
        struct mp found[LAX_FIELDS_MAX] = {0};
        size_t map = 0, n_held = 0;
        char text[120];

        if (!find_fields(type->fields, value, found)) {
                (void)snprintf(text, sizeof(text), "Input should be a valid dictionary or instance of %s", type->name);
                invalid_add(walk->invalid, at, "model_type", text, value);
                return;
        }
        if (walk->buf)
                map = mp_map_begin(walk->buf);
        for (size_t i = 0; type->fields[i].name; i++) {
                const struct lax_field *field = &type->fields[i];
                struct place place = {.up = at, .name = field->name};

                if (found[i].len == 0 && field->otherwise == LAX_NOW)
                        continue;
                n_held++;
                if (walk->buf)
                        mp_put_str(walk->buf, field->name);
                if (found[i].len > 0 && mp_is_nil(found[i]) && may_be_nil(field))
                        put(walk, found[i]);
                else if (found[i].len > 0)
                        read_at(walk, field->type, found[i], &place);
                else if (field->otherwise == LAX_REQUIRED)
                        complain(walk, &place, "missing", value);
                else if (walk->buf)
                        put_default(walk->buf, field);
        }
        if (walk->buf)
                mp_map_end(walk->buf, map, n_held);
}

static void read_tagged(struct walk *walk, const struct lax_type *type, struct mp value, const struct place *at) {
        struct mp tag = {0};

        (void)mp_map_get(value, type->name, &tag);
        for (const struct lax_field *kind = type->fields; kind->name; kind++)
                if (mp_eq_str(tag, kind->name)) {
                        read_at(walk, kind->type, value, &(struct place){.up = at, .name = kind->name});
                        return;
                }
        invalid_add(walk->invalid, at, "union_tag_invalid", "Input is of no kind that is known", value);
}

static void read_at(struct walk *walk, const struct lax_type *type, struct mp value, const struct place *at) {
        switch (type ? type->kind : LAX_ANY) {
        case LAX_ANY:
                put(walk, value);
                break;
        case LAX_STR:
                check(walk, lax_str(value, walk->buf), value, at);
                break;
        case LAX_CONTENT_TYPE:
                read_content_type(walk, value, at);
                break;
        case LAX_CHOICE:
                read_choice(walk, type, value, at);
                break;
        case LAX_INT:
                check(walk, lax_int(value, walk->buf), value, at);
                break;
        case LAX_FLOAT:
                check(walk, lax_float(value, walk->buf), value, at);
                break;
        case LAX_BOOL:
                check(walk, lax_bool(value, walk->buf), value, at);
                break;
        case LAX_BYTES:
                read_bytes(walk, value, at);
                break;
        case LAX_SECRET:
                read_secret(walk, value, at);
                break;
        case LAX_DATETIME:
                read_datetime(walk, value, at);
                break;
        case LAX_LIST:
                read_items(walk, type, value, "list_type", at);
                break;
        case LAX_TUPLE:
                read_items(walk, type, value, "tuple_type", at);
                break;
        case LAX_SET:
                read_items(walk, type, value, "frozen_set_type", at);
                break;
        case LAX_DICT:
                read_dict(walk, type->item, value, at);
                break;
        case LAX_STR_OR_DICT:
                read_str_or_dict(walk, value, at);
                break;
        case LAX_MODEL:
                read_model(walk, type, value, at);
                break;
        case LAX_TAGGED:
                read_tagged(walk, type, value, at);
                break;
        }
}

void lax_read(const struct lax_type *type, struct mp value, struct buf *buf, struct invalid *invalid) {
        read_at(&(struct walk){buf, invalid}, type, value, NULL);
}
