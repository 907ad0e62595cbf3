/* SPDX-License-Identifier: Apache-2.0 */

/*
 * jansson reads, for its errors have line and column. It does not write: it has no integers beyond 63 bits and would need the
 * whole answer as a tree, while the walk below goes straight from the message to the text.
 */

#include "json.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/utf8.h"
#include "text.h"

#define DEPTH_MAX (MP_DEPTH_MAX - 8) /* leaves room for the message around it */

/* The longest integer written as a number. Decimal digits cost the square of the length, so longer ones keep their bytes. */
#define BIGINT_BYTES_MAX 512

/* ---- Reading ---- */

static bool convert(struct buf *buf, json_t *json, unsigned depth) {
        const char *key;
        json_t *item;
        size_t i;

        if (depth > DEPTH_MAX)
                return false;
        switch (json_typeof(json)) {
        case JSON_OBJECT:
                mp_put_map(buf, json_object_size(json));
                json_object_foreach(json, key, item) {
                        mp_put_str(buf, key);
                        if (!convert(buf, item, depth + 1))
                                return false;
                }
                break;
        case JSON_ARRAY:
                mp_put_array(buf, json_array_size(json));
                json_array_foreach(json, i, item) {
                        if (!convert(buf, item, depth + 1))
                                return false;
                }
                break;
        case JSON_STRING:
                mp_put_strn(buf, json_string_value(json), json_string_length(json));
                break;
        case JSON_INTEGER:
                mp_put_int(buf, json_integer_value(json));
                break;
        case JSON_REAL:
                mp_put_float(buf, json_real_value(json));
                break;
        case JSON_NULL:
                mp_put_nil(buf);
                break;
        default:
                mp_put_bool(buf, json_is_true(json));
        }
        return true;
}

int json_read(struct buf *buf, const char *text, size_t len, const char *source, const char *example, char **ret_problem) {
        struct buf problem = {0};
        json_error_t error;
        json_t *json = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
        bool fits;

        if (!json) {
                buf_printf(&problem, "%s:%d:%d: %s; ", source, MAX(error.line, 1), MAX(error.column, 1), error.text);
                if (json_error_code(&error) == json_error_numeric_overflow)
                        buf_append_str(&problem, "numbers must fit a signed integer of 64 bits or a double");
                else
                        buf_printf(&problem, "one JSON value is needed, like %s", example);
                *ret_problem = buf_take_str(&problem);
                return -EINVAL;
        }
        fits = convert(buf, json, 1);
        json_decref(json);
        if (!fits) {
                buf_printf(&problem, "%s: nested deeper than %d levels, which the protocol cannot carry", source, DEPTH_MAX);
                *ret_problem = buf_take_str(&problem);
                return -EINVAL;
        }
        return 0;
}

/* ---- Writing ---- */

void json_write_str(struct buf *buf, const void *text, size_t len) {
        const uint8_t *at = text, *end = at + len;

        buf_append_str(buf, "\"");
        while (at < end) {
                uint32_t c = 0xfffd;
                size_t n = utf8_decode(at, (size_t)(end - at), &c);

                if (n == 0)
                        buf_append_str(buf, "\xef\xbf\xbd");
                else if (c == '"' || c == '\\')
                        buf_printf(buf, "\\%c", (int)c);
                else if (c == '\n' || c == '\t')
                        buf_append_str(buf, c == '\n' ? "\\n" : "\\t");
                else if (utf8_is_control(c))
                        buf_printf(buf, "\\u%04" PRIx32, c);
                else
                        buf_append(buf, at, n);
                at += MAX(n, (size_t)1);
        }
        buf_append_str(buf, "\"");
}

static void write_base64(struct buf *buf, struct mp bytes) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        buf_append_str(buf, "\"");
        for (size_t i = 0; i < bytes.len; i += 3) {
                size_t n = MIN(bytes.len - i, (size_t)3);
                uint32_t group = 0;
                char out[4];

                for (size_t j = 0; j < 3; j++)
                        group = group << 8 | (j < n ? bytes.data[i + j] : 0u);
                for (size_t j = 0; j < 4; j++)
                        out[j] = j <= n ? digits[group >> (18 - 6 * j) & 63] : '=';
                buf_append(buf, out, sizeof(out));
        }
        buf_append_str(buf, "\"");
}

/* 15 digits, or as many more as it takes to read back as the same number; and it still looks like a float. */
static void write_float(struct buf *buf, double value) {
        char text[40];

        if (isnan(value) || isinf(value)) {
                buf_append_str(buf, isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
                return;
        }
        for (int digits = 15; digits <= 17; digits++) {
                (void)snprintf(text, sizeof(text), "%.*g", digits, value);
                if (strtod(text, NULL) == value)
                        break;
        }
        buf_append_str(buf, text);
        if (!strpbrk(text, ".e"))
                buf_append_str(buf, ".0");
}

/* Two's complement, big endian, in decimal: the magnitude, in words of 32 bits, is divided by a billion until nothing is left. */
static void write_bigint(struct buf *buf, struct mp bytes) {
        uint32_t words[BIGINT_BYTES_MAX / 4] = {0}; /* the lowest last */
        uint32_t groups[BIGINT_BYTES_MAX * 8 / 29 + 2];
        bool negative = bytes.len > 0 && bytes.data[0] & 0x80;
        size_t n_groups = 0, first = ELEMENTS(words) - (bytes.len + 3) / 4;
        unsigned carry = negative;

        for (size_t i = 0; i < bytes.len; i++) {
                uint8_t byte = bytes.data[bytes.len - 1 - i];

                carry += negative ? (uint8_t)~byte : byte;
                words[ELEMENTS(words) - 1 - i / 4] |= (carry & 0xff) << (i % 4 * 8);
                carry >>= 8;
        }
        do {
                uint64_t rest = 0;

                for (size_t i = first; i < ELEMENTS(words); i++) {
                        rest = rest << 32 | words[i];
                        words[i] = (uint32_t)(rest / 1000000000);
                        rest %= 1000000000;
                }
                groups[n_groups++] = (uint32_t)rest;
                while (first < ELEMENTS(words) && words[first] == 0)
                        first++;
        } while (first < ELEMENTS(words));

        buf_printf(buf, "%s%" PRIu32, negative ? "-" : "", groups[n_groups - 1]);
        for (size_t i = n_groups - 1; i > 0; i--)
                buf_printf(buf, "%09" PRIu32, groups[i - 1]);
}

static void write_ext(struct buf *buf, int8_t type, struct mp content) {
        if (type == MP_EXT_SECRET) {
                buf_append_str(buf, "\"**********\"");
        } else if (type == MP_EXT_BIGINT && content.len <= BIGINT_BYTES_MAX) {
                write_bigint(buf, content);
        } else {
                buf_printf(buf, "{\"$ext\": [%d, ", type);
                write_base64(buf, content);
                buf_append_str(buf, "]}");
        }
}

static void write_at(struct buf *buf, struct mp value, unsigned indent, unsigned level);

/* JSON's keys are strings: another scalar is written as JSON writes it, within quotes; as Python's json does. */
static void write_key(struct buf *buf, struct mp key) {
        CLEANUP_BUF struct buf text = {0};
        struct mp_cur cur = mp_cur(key);

        if (mp_peek(&cur) == MP_STR) {
                write_at(buf, key, 0, 0);
                return;
        }
        write_at(&text, key, 0, 0);
        if (text.len > 1 && text.data[0] == '"')
                buf_append(buf, text.data, text.len);
        else
                json_write_str(buf, text.data, text.len);
}

static void new_line(struct buf *buf, bool first, unsigned indent, unsigned level) {
        if (!first)
                buf_append_str(buf, indent ? "," : ", ");
        if (indent)
                buf_printf(buf, "\n%*s", (int)(indent * level), "");
}

static void write_items(struct buf *buf, struct mp_cur cur, bool map, uint32_t n, unsigned indent, unsigned level) {
        struct mp item = {0};

        buf_append_str(buf, map ? "{" : "[");
        for (uint32_t i = 0; i < n && mp_read_any(&cur, &item); i++) {
                new_line(buf, i == 0, indent, level + 1);
                if (map) {
                        write_key(buf, item);
                        buf_append_str(buf, ": ");
                        if (!mp_read_any(&cur, &item))
                                break;
                }
                write_at(buf, item, indent, level + 1);
        }
        if (n > 0 && indent)
                buf_printf(buf, "\n%*s", (int)(indent * level), "");
        buf_append_str(buf, map ? "}" : "]");
}

static void write_at(struct buf *buf, struct mp value, unsigned indent, unsigned level) {
        struct mp_cur cur = mp_cur(value);
        struct mp bytes;
        uint64_t u;
        int64_t i;
        double d;
        uint32_t n;
        int8_t type;
        bool b;

        if (mp_read_str(&cur, &bytes))
                json_write_str(buf, bytes.data, bytes.len);
        else if (mp_read_bin(&cur, &bytes))
                write_base64(buf, bytes);
        else if (mp_read_bool(&cur, &b))
                buf_append_str(buf, b ? "true" : "false");
        else if (mp_read_uint(&cur, &u))
                buf_printf(buf, "%" PRIu64, u);
        else if (mp_read_int(&cur, &i))
                buf_printf(buf, "%" PRId64, i);
        else if (mp_read_float(&cur, &d))
                write_float(buf, d);
        else if (mp_read_map(&cur, &n))
                write_items(buf, cur, true, n, indent, level);
        else if (mp_read_array(&cur, &n))
                write_items(buf, cur, false, n, indent, level);
        else if (mp_read_ext(&cur, &type, &bytes))
                write_ext(buf, type, bytes);
        else
                buf_append_str(buf, "null");
}

void json_write(struct buf *buf, struct mp value, unsigned indent) {
        write_at(buf, value, indent, 0);
}
