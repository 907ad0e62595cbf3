/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The limit counts characters of Python text, so it can only be kept by knowing how Python writes each kind of value. Most calls
 * never get that far: no value grows by more than a factor of ten when written (`\U0001f600` for 4 bytes, `False, ` for one byte
 * in a list), so a payload of less than a tenth of the limit passes by its length alone.
 */

#include "pipeline/size.h"

#include <math.h>
#include <stdio.h>

#define GROWTH_MAX 10

static uint64_t value_len(struct mp_cur *cur, bool quoted);

static unsigned utf8_width(uint8_t first) {
        return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Length of str() or, `quoted`, of repr(): quotes, and escapes of control characters, the quote and the backslash. */
static uint64_t str_len(struct mp text, bool quoted) {
        bool has_single = text.len > 0 && memchr(text.data, '\'', text.len);
        bool has_double = text.len > 0 && memchr(text.data, '"', text.len);
        uint8_t quote = has_single && !has_double ? '"' : '\'';
        uint64_t n = quoted ? 2 : 0;

        for (size_t i = 0; i < text.len; i += utf8_width(text.data[i])) {
                uint8_t c = text.data[i];

                if (!quoted || (c >= 0x20 && c != 0x7f && c != quote && c != '\\'))
                        n += 1;
                else if (c == quote || c == '\\' || c == '\n' || c == '\r' || c == '\t')
                        n += 2;
                else
                        n += 4;
        }
        return n;
}

/* Python's repr of a float: the shortest text that reads back the same, with ".0" or an exponent. Between 1e15 and 1e16 printf would
 * write an exponent and Python does not. */
static uint64_t float_len(double value) {
        char text[40];

        if (isnan(value) || isinf(value))
                return isinf(value) && value < 0 ? 4 : 3;
        if (fabs(value) >= 1e15 && fabs(value) < 1e16)
                return (uint64_t)snprintf(text, sizeof(text), "%.1f", value);
        for (int digits = 15; digits <= 17; digits++) {
                (void)snprintf(text, sizeof(text), "%.*g", digits, value);
                if (strtod(text, NULL) == value)
                        break;
        }
        return strlen(text) + (strpbrk(text, ".e") ? 0 : 2);
}

static uint64_t int_len(const struct mp_cur *cur) {
        struct mp_cur at = *cur;
        char text[24];
        uint64_t u;
        int64_t i;

        if (mp_read_uint(&at, &u))
                return (uint64_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)u);
        return mp_read_int(&at, &i) ? (uint64_t)snprintf(text, sizeof(text), "%lld", (long long)i) : 0;
}

static uint64_t array_len(struct mp_cur *cur) {
        uint64_t total = 2;
        uint32_t n;

        (void)mp_read_array(cur, &n);
        for (uint32_t i = 0; i < n; i++)
                total += value_len(cur, true) + (i > 0 ? 2 : 0);
        return total;
}

static uint64_t map_len(struct mp_cur *cur) {
        uint64_t total = 2;
        uint32_t n;

        (void)mp_read_map(cur, &n);
        for (uint32_t i = 0; i < n; i++) {
                total += value_len(cur, true) + 2 + (i > 0 ? 2 : 0);
                total += value_len(cur, true);
        }
        return total;
}

/* Steps over the next value. The depth is bounded by the scan that accepted the message. */
static uint64_t value_len(struct mp_cur *cur, bool quoted) {
        uint64_t n = 0;
        struct mp slice;
        double number;
        int8_t type;
        bool flag;

        switch (mp_peek(cur)) {
        case MP_STR:
                return mp_read_str(cur, &slice) ? str_len(slice, quoted) : 0;
        case MP_BIN:
                return mp_read_bin(cur, &slice) ? str_len(slice, true) + 1 : 0;
        case MP_ARRAY:
                return array_len(cur);
        case MP_MAP:
                return map_len(cur);
        case MP_BOOL:
                return mp_read_bool(cur, &flag) && flag ? 4 : 5;
        case MP_FLOAT:
                return mp_read_float(cur, &number) ? float_len(number) : 0;
        case MP_EXT: /* a secret shows ten stars; a big integer about 2.41 digits a byte */
                if (mp_read_ext(cur, &type, &slice))
                        n = type == MP_EXT_SECRET ? 10 : (uint64_t)((double)slice.len * 2.41) + 1;
                return n;
        case MP_NIL:
                n = 4;
                break;
        default:
                n = int_len(cur);
                break;
        }
        return mp_read_any(cur, &slice) ? n : 0;
}

uint64_t payload_size_beyond(struct mp payload, const char **ret_what) {
        struct mp value, key;
        uint64_t total = 0;
        struct mp_cur cur;
        uint32_t n;

        if (payload.len < PAYLOAD_SIZE_MAX / GROWTH_MAX)
                return 0;
        if (mp_map_get(payload, "args", &value) && !mp_is_nil(value)) {
                *ret_what = "Payload";
                cur = mp_cur(value);
                if (mp_read_map(&cur, &n))
                        for (; n > 0 && mp_read_any(&cur, &key); n--)
                                total += value_len(&cur, false);
        } else if (mp_map_get(payload, "result", &value)) {
                *ret_what = "Result";
                cur = mp_cur(value);
                total = value_len(&cur, false);
        }
        return total > PAYLOAD_SIZE_MAX ? total : 0;
}
