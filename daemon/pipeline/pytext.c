/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One walk that either counts characters or writes them: what is counted is what would be written.
 *
 * Characters that no Unicode version has assigned count as printable here. Which these are differs from Python to Python.
 */

#include "pipeline/pytext.h"

#include <math.h>
#include <stdio.h>

#include "base/utf8.h"

#define WHOLE_BYTES_MAX 16384 /* of a value that is written to its end */
#define HEAD_BYTES 256        /* what is written of a longer one */
#define BLOCK_BYTES 64        /* looked at at once, where all are ASCII */
#define WORD_BYTES 8
#define FLOAT_CHARACTERS 18 /* of most floats */
#define NO_CHARACTER 0xfffd /* what stands for a byte that is part of none */

struct sink {
        struct buf *buf; /* NULL: only count */
        size_t full;     /* bytes in `buf` after which nothing more is wanted */
        uint64_t n;      /* characters */
};

static void write_value(struct sink *sink, struct mp_cur *cur, bool quoted);

static void emit(struct sink *sink, const void *text, size_t len, uint64_t n_characters) {
        sink->n += n_characters;
        if (sink->buf)
                buf_append(sink->buf, text, len);
}

static void emit_ascii(struct sink *sink, const char *text) {
        size_t len = strlen(text);

        emit(sink, text, len, len);
}

static bool is_full(const struct sink *sink) {
        return sink->buf && sink->buf->len >= sink->full;
}

/* ---- Characters ---- */

uint32_t pytext_next(struct mp text, size_t *at) {
        uint8_t first = text.data[*at];
        unsigned more = first < 0x80 ? 0 : first < 0xc2 ? 4 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 4;
        uint32_t c = more == 0 ? first : first & (0x3fu >> more);

        (*at)++;
        if (more > 3 || more > text.len - *at)
                return NO_CHARACTER;
        for (unsigned i = 0; i < more; i++) {
                if (!utf8_continues(text.data[*at + i]))
                        return NO_CHARACTER;
                c = c << 6 | (text.data[*at + i] & 0x3fu);
        }
        *at += more;
        return c;
}

bool pytext_is_printable(uint32_t c) {
        /* Control and format characters, separators but the space, private use, and what never is a character. */
        static const uint32_t hidden[][2] = {
                {0x00, 0x1f},       {0x7f, 0xa0},       {0xad, 0xad},        {0x600, 0x605},     {0x61c, 0x61c},
                {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},      {0x8e2, 0x8e2},     {0x1680, 0x1680},
                {0x180e, 0x180e},   {0x2000, 0x200f},   {0x2028, 0x202f},    {0x205f, 0x2064},   {0x2066, 0x206f},
                {0x3000, 0x3000},   {0xd800, 0xf8ff},   {0xfdd0, 0xfdef},    {0xfeff, 0xfeff},   {0xfff9, 0xfffb},
                {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x1343f},  {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
                {0xe0001, 0xe0001}, {0xe0020, 0xe007f}, {0xf0000, 0x10ffff},
        };

        if ((c & 0xfffe) == 0xfffe)
                return false;
        for (size_t i = 0; i < ELEMENTS(hidden) && hidden[i][0] <= c; i++)
                if (c <= hidden[i][1])
                        return false;
        return true;
}

bool pytext_is_space(uint32_t c) {
        return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
               (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static void write_escaped(struct sink *sink, uint32_t c) {
        char text[12];

        if (c == '\n' || c == '\r' || c == '\t')
                (void)snprintf(text, sizeof(text), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else
                (void)snprintf(text, sizeof(text), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        emit_ascii(sink, text);
}

/* Python prefers single quotes, unless only those are inside. */
static char quote_for(struct mp text) {
        return text.len > 0 && memchr(text.data, '\'', text.len) && !memchr(text.data, '"', text.len) ? '"' : '\'';
}

/* `bytes`: the content of a bytes object, else UTF-8. */
static void write_quoted(struct sink *sink, struct mp text, bool bytes) {
        char quote = quote_for(text);

        emit(sink, &quote, 1, 1);
        for (size_t i = 0; i < text.len && !is_full(sink);) {
                size_t start = i;
                uint32_t c = bytes ? text.data[i++] : pytext_next(text, &i);

                if (c == NO_CHARACTER && i - start == 1) { /* a peer may send anything as a str; what we send is one */
                        write_escaped(sink, text.data[start]);
                } else if (c == (uint32_t)quote || c == '\\') {
                        emit_ascii(sink, "\\");
                        emit(sink, text.data + start, 1, 1);
                } else if (bytes ? c >= 0x20 && c < 0x7f : pytext_is_printable(c)) {
                        emit(sink, text.data + start, i - start, 1);
                } else {
                        write_escaped(sink, c);
                }
        }
        emit(sink, &quote, 1, 1);
}

/* Return: whether `len` bytes follow, whole words, and all are ASCII. */
static inline bool are_ascii(struct mp text, size_t at, size_t len) {
        uint64_t word, all = 0;

        if (text.len - at < len)
                return false;
        for (size_t i = 0; i < len; i += sizeof(word)) {
                memcpy(&word, text.data + at + i, sizeof(word));
                all |= word;
        }
        return (all & UINT64_C(0x8080808080808080)) == 0;
}

static void write_plain(struct sink *sink, struct mp text) {
        uint64_t n = 0;

        for (size_t i = 0; i < text.len;) {
                size_t ascii = are_ascii(text, i, BLOCK_BYTES) ? BLOCK_BYTES : are_ascii(text, i, WORD_BYTES) ? WORD_BYTES : 0;

                if (ascii == 0)
                        (void)pytext_next(text, &i);
                i += ascii;
                n += MAX(ascii, (size_t)1);
        }
        emit(sink, text.data, text.len, n);
}

/* ---- Numbers ---- */

#define FLOAT_BYTES 40

/* Return: whether so many digits are enough for the text to read back the same. */
static bool put_digits(char text[FLOAT_BYTES], double value, int digits) {
        (void)snprintf(text, FLOAT_BYTES, "%.*g", digits, value);
        return digits == 17 || strtod(text, NULL) == value;
}

/* 15 digits may do where 16 do, but only if the 16th is next to a zero: what a text of 15 digits is read as is that close to it. */
static void put_shortest(char text[FLOAT_BYTES], double value) {
        char shorter[FLOAT_BYTES], last;

        if (!put_digits(text, value, 16)) {
                (void)put_digits(text, value, 17);
                return;
        }
        last = text[strcspn(text, "e") - 1];
        if ((last == '1' || last == '9') && put_digits(shorter, value, 15))
                memcpy(text, shorter, sizeof(shorter));
}

/* The shortest text that reads back the same, with ".0" or an exponent. Between 1e15 and 1e16 printf would write an exponent and Python
 * does not. */
static void write_float(struct sink *sink, double value) {
        char text[FLOAT_BYTES];

        if (!sink->buf && sink->n > PYTEXT_EXACT) {
                sink->n += FLOAT_CHARACTERS;
                return;
        }
        if (isnan(value) || isinf(value)) {
                emit_ascii(sink, isnan(value) ? "nan" : value < 0 ? "-inf" : "inf");
                return;
        }
        if (fabs(value) >= 1e15 && fabs(value) < 1e16) {
                (void)snprintf(text, sizeof(text), "%.1f", value);
                emit_ascii(sink, text);
                return;
        }
        put_shortest(text, value);
        emit_ascii(sink, text);
        if (!strpbrk(text, ".e"))
                emit_ascii(sink, ".0");
}

static void write_int(struct sink *sink, struct mp_cur *cur) {
        char text[24] = "";
        uint64_t u;
        int64_t i;

        if (mp_read_uint(cur, &u))
                (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)u);
        else if (mp_read_int(cur, &i))
                (void)snprintf(text, sizeof(text), "%lld", (long long)i);
        emit_ascii(sink, text);
}

/* Two's complement, big endian. Exact up to 128 bits; beyond that only its length is needed, about 2.41 digits a byte. */
static void write_bigint(struct sink *sink, struct mp content) {
        unsigned __int128 value = content.len > 0 && content.data[0] & 0x80 ? ~(unsigned __int128)0 : 0;
        bool negative = value != 0;
        char text[48], *at = text + sizeof(text);

        if (content.len > sizeof(value)) {
                sink->n += (uint64_t)((double)content.len * 2.41) + 1;
                if (sink->buf)
                        buf_printf(sink->buf, "<an integer of %zu bytes>", content.len);
                return;
        }
        for (size_t i = 0; i < content.len; i++)
                value = value << 8 | content.data[i];
        if (negative)
                value = -value;
        *--at = '\0';
        do {
                *--at = (char)('0' + (int)(value % 10));
                value /= 10;
        } while (value > 0);
        if (negative)
                *--at = '-';
        emit_ascii(sink, at);
}

/* ---- Values ---- */

static void write_ext(struct sink *sink, struct mp_cur *cur, bool quoted) {
        struct mp content = {0};
        int8_t type = 0;

        (void)mp_read_ext(cur, &type, &content);
        if (type == MP_EXT_BIGINT)
                write_bigint(sink, content);
        else if (content.len == 0)
                emit_ascii(sink, quoted ? "SecretStr('')" : "");
        else
                emit_ascii(sink, quoted ? "SecretStr('**********')" : "**********");
}

static void write_array(struct sink *sink, struct mp_cur *cur) {
        uint32_t n;

        (void)mp_read_array(cur, &n);
        emit_ascii(sink, "[");
        for (uint32_t i = 0; i < n && !is_full(sink); i++) {
                if (i > 0)
                        emit_ascii(sink, ", ");
                write_value(sink, cur, true);
        }
        emit_ascii(sink, "]");
}

static void write_map(struct sink *sink, struct mp_cur *cur) {
        uint32_t n;

        (void)mp_read_map(cur, &n);
        emit_ascii(sink, "{");
        for (uint32_t i = 0; i < n && !is_full(sink); i++) {
                if (i > 0)
                        emit_ascii(sink, ", ");
                write_value(sink, cur, true);
                emit_ascii(sink, ": ");
                write_value(sink, cur, true);
        }
        emit_ascii(sink, "}");
}

/* Steps over the next value, unless the sink is full. The depth is bounded by the scan that accepted the message. */
static void write_value(struct sink *sink, struct mp_cur *cur, bool quoted) {
        struct mp content;
        double number;
        bool flag;

        switch (mp_peek(cur)) {
        case MP_STR:
                (void)mp_read_str(cur, &content);
                if (quoted)
                        write_quoted(sink, content, false);
                else
                        write_plain(sink, content);
                break;
        case MP_BIN:
                (void)mp_read_bin(cur, &content);
                emit_ascii(sink, "b");
                write_quoted(sink, content, true);
                break;
        case MP_ARRAY:
                write_array(sink, cur);
                break;
        case MP_MAP:
                write_map(sink, cur);
                break;
        case MP_BOOL:
                emit_ascii(sink, mp_read_bool(cur, &flag) && flag ? "True" : "False");
                break;
        case MP_FLOAT:
                if (mp_read_float(cur, &number))
                        write_float(sink, number);
                break;
        case MP_EXT:
                write_ext(sink, cur, quoted);
                break;
        case MP_NIL:
                (void)mp_read_nil(cur);
                emit_ascii(sink, "None");
                break;
        default:
                write_int(sink, cur);
                break;
        }
}

void pytext_count(struct mp_cur *cur, uint64_t *n) {
        struct sink sink = {.n = *n};

        write_value(&sink, cur, false);
        *n = sink.n;
}

void pytext_put(struct buf *buf, struct mp value) {
        struct sink sink = {.buf = buf, .full = value.len > WHOLE_BYTES_MAX ? buf->len + HEAD_BYTES : SIZE_MAX};
        struct mp_cur cur = mp_cur(value);

        write_value(&sink, &cur, true);
}

const char *pytext_class(struct mp value) {
        static const char *const names[] = {
                [MP_NIL] = "NoneType", [MP_BOOL] = "bool", [MP_INT] = "int",    [MP_UINT] = "int", [MP_FLOAT] = "float",
                [MP_STR] = "str",      [MP_BIN] = "bytes", [MP_ARRAY] = "list", [MP_MAP] = "dict", [MP_END] = "",
        };
        struct mp_cur cur = mp_cur(value);
        enum mp_type type = mp_peek(&cur);
        struct mp content;
        int8_t ext;

        if (type == MP_EXT)
                return mp_read_ext(&cur, &ext, &content) && ext == MP_EXT_BIGINT ? "int" : "SecretStr";
        return names[type];
}
