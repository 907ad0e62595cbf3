/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The words are pydantic's, so that a host reads the same whether the daemon or a worker has found the mistake. The input is shown cut in
 * the middle, as pydantic does.
 *
 * An error goes into logs, so an input is masked that may show a secret: a text, long enough to be one, where credentials stand
 * (docs/semantics.md, Secrets).
 */

#include "pipeline/invalid.h"

#include <strings.h>

#include "base/utf8.h"
#include "pipeline/pytext.h"

#define INPUT_BYTES_MAX 50
#define INPUT_HEAD 25
#define INPUT_TAIL 24

static const struct {
        const char *type, *message;
} messages[] = {
        {"missing", "Field required"},
        {"string_type", "Input should be a valid string"},
        {"string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string"},
        {"int_type", "Input should be a valid integer"},
        {"int_parsing", "Input should be a valid integer, unable to parse string as an integer"},
        {"int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size"},
        {"int_from_float", "Input should be a valid integer, got a number with a fractional part"},
        {"finite_number", "Input should be a finite number"},
        {"float_type", "Input should be a valid number"},
        {"float_parsing", "Input should be a valid number, unable to parse string as a number"},
        {"bool_type", "Input should be a valid boolean"},
        {"bool_parsing", "Input should be a valid boolean, unable to interpret input"},
        {"bytes_type", "Input should be a valid bytes"},
        {"datetime_type", "Input should be a valid datetime"},
        {"dict_type", "Input should be a valid dictionary"},
        {"list_type", "Input should be a valid list"},
        {"tuple_type", "Input should be a valid tuple"},
        {"frozen_set_type", "Input should be a valid frozenset"},
};

static const char *message_of(const char *type) {
        for (size_t i = 0; i < ELEMENTS(messages); i++)
                if (str_eq(messages[i].type, type))
                        return messages[i].message;
        return type;
}

void invalid_done(struct invalid *invalid) {
        buf_done(&invalid->errors);
        buf_done(&invalid->lines);
}

/* ---- The location ---- */

/* A key of the data: strings and integers as they are, anything else as Python would write it. */
static void put_key(struct buf *buf, struct mp key) {
        CLEANUP_BUF struct buf text = {0};
        struct mp_cur cur = mp_cur(key);
        bool flag;

        switch (mp_peek(&cur)) {
        case MP_STR:
        case MP_INT:
        case MP_UINT:
                mp_put_raw(buf, key);
                return;
        case MP_BOOL:
                (void)mp_read_bool(&cur, &flag);
                mp_put_int(buf, flag);
                return;
        default:
                pytext_put(&text, key);
                mp_put_strn(buf, text.data, text.len);
        }
}

static size_t put_steps(struct buf *buf, const struct place *at) {
        size_t n;

        if (!at)
                return 0;
        n = put_steps(buf, at->up);
        if (at->key.len > 0)
                put_key(buf, at->key);
        else if (at->name)
                mp_put_str(buf, at->name);
        else
                mp_put_uint(buf, at->index);
        return n + 1;
}

/* The steps joined by dots; one with a dot inside stands between backticks. */
static void write_steps(struct buf *buf, struct mp loc) {
        struct mp_cur cur = mp_cur(loc);
        struct mp text, step;
        int64_t number;
        uint32_t n;

        (void)mp_read_array(&cur, &n);
        for (uint32_t i = 0; i < n; i++) {
                if (i > 0)
                        buf_append_str(buf, ".");
                if (mp_read_str(&cur, &text)) {
                        const char *tick = text.len > 0 && memchr(text.data, '.', text.len) ? "`" : "";

                        buf_append_str(buf, tick);
                        buf_append(buf, text.data, text.len);
                        buf_append_str(buf, tick);
                } else if (mp_read_int(&cur, &number)) {
                        buf_printf(buf, "%lld", (long long)number);
                } else {
                        (void)mp_read_any(&cur, &step);
                }
        }
        if (n > 0)
                buf_append_str(buf, "\n");
}

/* ---- The input ---- */

#define SECRET_BYTES_MIN 12 /* as in the workers */
#define SECRET_LEVELS 3

static bool is_secret_name(const void *name, size_t len) {
        static const char *const names[] = {
                "authorization", "proxy-authorization", "cookie",    "set-cookie",
                "x-api-key",     "credentials",         "raw_token", "bearer_token",
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
                        return true;
        return false;
}

static bool is_secret_place(const struct place *at) {
        for (; at; at = at->up) {
                struct mp_cur cur = mp_cur(at->key);
                struct mp text;

                if (mp_read_str(&cur, &text) ? is_secret_name(text.data, text.len)
                                             : at->name && is_secret_name(at->name, strlen(at->name)))
                        return true;
        }
        return false;
}

/* Whether there is a long text in `value` that stands, or may stand, where secrets do. `here`: all of it does. */
static bool may_show_secret(struct mp value, bool here, unsigned levels) {
        struct mp_cur cur = mp_cur(value);
        enum mp_type type = mp_peek(&cur);
        struct mp text, key, inner;
        uint32_t n = 0;

        if (type == MP_STR || type == MP_BIN)
                return here && (mp_read_str(&cur, &text) || mp_read_bin(&cur, &text)) && text.len >= SECRET_BYTES_MIN;
        if (levels == 0)
                return here;
        if (type == MP_ARRAY) {
                (void)mp_read_array(&cur, &n);
                for (; n > 0 && mp_read_any(&cur, &inner); n--)
                        if (may_show_secret(inner, here, levels - 1))
                                return true;
                return false;
        }
        if (!mp_read_map(&cur, &n))
                return false;
        for (; n > 0; n--) {
                bool named = mp_read_str(&cur, &text);

                if ((!named && !mp_read_any(&cur, &key)) || !mp_read_any(&cur, &inner))
                        break;
                if (may_show_secret(inner, here || (named && is_secret_name(text.data, text.len)), levels - 1))
                        return true;
        }
        return false;
}

static void write_input(struct buf *buf, struct mp input) {
        CLEANUP_BUF struct buf text = {0};
        size_t head = INPUT_HEAD, tail;

        pytext_put(&text, input);
        if (text.len <= INPUT_BYTES_MAX) {
                buf_append(buf, text.data, text.len);
                return;
        }
        while (utf8_continues(text.data[head]))
                head--;
        for (tail = text.len - INPUT_TAIL; utf8_continues(text.data[tail]);)
                tail++;
        buf_append(buf, text.data, head);
        buf_append_str(buf, "...");
        buf_append(buf, text.data + tail, text.len - tail);
}

/* ---- Complaints ---- */

void invalid_add(struct invalid *invalid, const struct place *at, const char *type, const char *message, struct mp input) {
        CLEANUP_BUF struct buf loc = {0};
        size_t array, n;

        invalid->n++;
        if (invalid->n_shown >= INVALID_SHOWN_MAX || invalid->errors.len > INVALID_BYTES_MAX)
                return;
        invalid->n_shown++;
        if (!message)
                message = message_of(type);
        array = mp_array_begin(&loc);
        n = put_steps(&loc, at);
        mp_array_end(&loc, array, n);

        mp_put_map(&invalid->errors, 3);
        mp_put_str(&invalid->errors, "loc");
        buf_append(&invalid->errors, loc.data, loc.len);
        mp_put_str(&invalid->errors, "type");
        mp_put_str(&invalid->errors, type);
        mp_put_str(&invalid->errors, "msg");
        mp_put_str(&invalid->errors, message);

        buf_append_str(&invalid->lines, "\n");
        write_steps(&invalid->lines, (struct mp){loc.data, loc.len});
        buf_printf(&invalid->lines, "  %s [type=%s, input_value=", message, type);
        if (may_show_secret(input, is_secret_place(at), SECRET_LEVELS))
                buf_append_str(&invalid->lines, "**********");
        else
                write_input(&invalid->lines, input);
        buf_printf(&invalid->lines, ", input_type=%s]\n    For further information visit https://errors.pydantic.dev/2/v/%s",
                   pytext_class(input), type);
        if (buf_error(&loc))
                invalid->errors.error = buf_error(&loc);
}

size_t invalid_put(const struct invalid *invalid, const char *title, struct buf *buf) {
        CLEANUP_BUF struct buf message = {0};

        buf_printf(&message, "%zu validation error%s for %s", invalid->n, plural(invalid->n), title);
        buf_append(&message, invalid->lines.data, invalid->lines.len);
        if (invalid->n_shown < invalid->n)
                buf_printf(&message, "\nand %zu more", invalid->n - invalid->n_shown);
        mp_put_str(buf, "type");
        mp_put_str(buf, "ValidationError");
        mp_put_str(buf, "code");
        mp_put_str(buf, "bad_request");
        mp_put_str(buf, "message");
        mp_put_strn(buf, message.data, message.len);
        mp_put_str(buf, "errors");
        mp_put_array(buf, invalid->n_shown);
        buf_append(buf, invalid->errors.data, invalid->errors.len);
        mp_put_str(buf, "plugin_name");
        mp_put_nil(buf);
        if (buf_error(&message) || buf_error(&invalid->errors))
                buf->error = -ENOMEM;
        return 5;
}
