/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Strings, numbers, booleans and dates. Text is read character by character, for the spellings that count are neither C's nor those of
 * Python's constructors: an integer may have a fraction of zeros, a date is first tried as a number of seconds.
 */

#include <math.h>
#include <strings.h>

#include "base/utf8.h"
#include "pipeline/lax.h"
#include "pipeline/pytext.h"

#define INT_DIGITS_MAX 4300
#define FLOAT_BYTES_MAX 4300

/* Numbers beyond this count as milliseconds. */
#define SECONDS_MAX 2e10
#define YEAR_0_SECONDS (-62167219200.0)
#define YEAR_1_SECONDS (-62135596800.0)
#define YEAR_10000_SECONDS 253402300800.0

struct text {
        const uint8_t *at, *end;
};

/* The content of a str or bytes. */
static bool text_of(struct mp value, struct text *ret) {
        struct mp_cur cur = mp_cur(value);
        struct mp content;

        if (!mp_read_str(&cur, &content) && !mp_read_bin(&cur, &content))
                return false;
        *ret = (struct text){content.data, content.len > 0 ? content.data + content.len : content.data};
        return true;
}

static struct text trimmed(struct text text) {
        struct mp all = {text.at, (size_t)(text.end - text.at)};
        size_t first = all.len, last = 0;

        for (size_t at = 0; at < all.len;) {
                size_t start = at;

                if (pytext_is_space(pytext_next(all, &at)))
                        continue;
                first = MIN(first, start);
                last = at;
        }
        return (struct text){text.at + first, text.at + MAX(first, last)};
}

static bool is_digit(const struct text *text) {
        return text->at < text->end && *text->at >= '0' && *text->at <= '9';
}

static bool take(struct text *text, const char *one_of) {
        if (text->at == text->end || !*text->at || !strchr(one_of, *text->at))
                return false;
        text->at++;
        return true;
}

/* Digits, between two of which may stand one underscore. Return: how many digits. */
static size_t take_digits(struct text *text, bool underscores, uint64_t *ret_value, bool *ret_overflow) {
        size_t n = 0;

        while (is_digit(text)) {
                n++;
                *ret_overflow |= __builtin_mul_overflow(*ret_value, (uint64_t)10, ret_value) ||
                                 __builtin_add_overflow(*ret_value, (uint64_t)(*text->at - '0'), ret_value);
                text->at++;
                if (underscores && text->end - text->at > 1 && text->at[0] == '_' && text->at[1] >= '0' && text->at[1] <= '9')
                        text->at++;
        }
        return n;
}

/* ---- Strings ---- */

const char *lax_str(struct mp value, struct buf *buf) {
        struct mp_cur cur = mp_cur(value);
        struct mp content;

        if (mp_read_str(&cur, &content)) {
                if (buf)
                        mp_put_raw(buf, value);
                return NULL;
        }
        if (!mp_read_bin(&cur, &content))
                return "string_type";
        if (!utf8_is_valid(content.data, content.len))
                return "string_unicode";
        if (buf)
                mp_put_strn(buf, content.data, content.len);
        return NULL;
}

/* ---- Numbers ---- */

static const char *int_of_text(struct mp value, struct text text, struct buf *buf) {
        bool negative, overflow = false;
        uint64_t number = 0;
        size_t n;

        text = trimmed(text);
        negative = text.at < text.end && *text.at == '-';
        (void)take(&text, "+-");
        n = take_digits(&text, true, &number, &overflow);
        if (n > 0 && text.end - text.at > 1 && take(&text, "."))
                while (take(&text, "0"))
                        ;
        if (n == 0 || text.at < text.end)
                return "int_parsing";
        if (n > INT_DIGITS_MAX)
                return "int_parsing_size";
        if (!buf)
                return NULL;
        if (overflow || (negative && number > INT64_MAX))
                mp_put_raw(buf, value);
        else if (negative)
                mp_put_int(buf, -(int64_t)number);
        else
                mp_put_uint(buf, number);
        return NULL;
}

static const char *int_of_float(double number, struct buf *buf) {
        if (!isfinite(number))
                return "finite_number";
        if (number != floor(number))
                return "int_from_float";
        if (number < -0x1p63 || number >= 0x1p63)
                return "int_parsing_size";
        if (buf)
                mp_put_int(buf, (int64_t)number);
        return NULL;
}

const char *lax_int(struct mp value, struct buf *buf) {
        struct mp_cur cur = mp_cur(value);
        struct text text;
        double number;
        bool flag;

        switch (mp_peek(&cur)) {
        case MP_EXT:
                if (!str_eq(pytext_class(value), "int"))
                        return "int_type";
                __attribute__((fallthrough));
        case MP_INT:
        case MP_UINT:
                if (buf)
                        mp_put_raw(buf, value);
                return NULL;
        case MP_BOOL:
                (void)mp_read_bool(&cur, &flag);
                if (buf)
                        mp_put_int(buf, flag);
                return NULL;
        case MP_FLOAT:
                (void)mp_read_float(&cur, &number);
                return int_of_float(number, buf);
        default:
                return text_of(value, &text) ? int_of_text(value, text, buf) : "int_type";
        }
}

static bool is_word(struct text text, const char *word) {
        size_t len = (size_t)(text.end - text.at);

        return len == strlen(word) && strncasecmp((const char *)text.at, word, len) == 0;
}

/* A decimal number, with an exponent or not, or a word. Return: whether that is all of `text`. */
static bool read_decimal(struct text text, bool underscores, double *ret) {
        char copy[FLOAT_BYTES_MAX + 1];
        struct text rest = text;
        bool overflow = false;
        uint64_t ignored = 0;
        size_t n, len = 0;

        (void)take(&rest, "+-");
        if (!is_word(rest, "inf") && !is_word(rest, "infinity") && !is_word(rest, "nan")) {
                n = take_digits(&rest, underscores, &ignored, &overflow);
                if (take(&rest, "."))
                        n += take_digits(&rest, underscores, &ignored, &overflow);
                if (n == 0)
                        return false;
                if (take(&rest, "eE")) {
                        (void)take(&rest, "+-");
                        if (take_digits(&rest, underscores, &ignored, &overflow) == 0)
                                return false;
                }
                if (rest.at < rest.end)
                        return false;
        }
        for (; text.at < text.end; text.at++)
                if (*text.at != '_' && len < FLOAT_BYTES_MAX)
                        copy[len++] = (char)*text.at;
        copy[len] = '\0';
        *ret = strtod(copy, NULL);
        return true;
}

/* Return: whether an integer beyond 64 bits, of so many bytes, is beyond a double, too. */
static bool beyond_float(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp content;
        int8_t type;

        return mp_read_ext(&cur, &type, &content) && content.len > 128;
}

const char *lax_float(struct mp value, struct buf *buf) {
        struct mp_cur cur = mp_cur(value);
        struct text text;
        double number;
        bool flag;

        switch (mp_peek(&cur)) {
        case MP_EXT:
                if (!str_eq(pytext_class(value), "int") || beyond_float(value))
                        return "float_type";
                if (buf)
                        mp_put_raw(buf, value);
                return NULL;
        case MP_BOOL:
                (void)mp_read_bool(&cur, &flag);
                number = flag;
                break;
        case MP_INT:
        case MP_UINT:
        case MP_FLOAT:
                (void)mp_read_float(&cur, &number);
                break;
        default:
                if (!text_of(value, &text))
                        return "float_type";
                if (!read_decimal(trimmed(text), true, &number))
                        return "float_parsing";
        }
        if (buf)
                mp_put_float(buf, number);
        return NULL;
}

const char *lax_bool(struct mp value, struct buf *buf) {
        static const char *const words[] = {"0", "1", "off", "on", "f", "t", "false", "true", "n", "y", "no", "yes"};
        struct mp_cur cur = mp_cur(value);
        struct text text;
        size_t verdict = 2;
        double number;
        uint64_t u;
        bool flag;

        if (mp_read_bool(&cur, &flag)) {
                verdict = flag;
        } else if (mp_read_uint(&cur, &u)) {
                if (u > INT64_MAX)
                        return "bool_type";
                verdict = MIN(u, (uint64_t)2);
        } else if (mp_peek(&cur) == MP_FLOAT && mp_read_float(&cur, &number)) {
                if (number != floor(number) || number < -0x1p63 || number >= 0x1p63) /* NaN too */
                        return "bool_type";
                verdict = number == 0 ? 0 : number == 1 ? 1 : 2;
        } else if (text_of(value, &text)) {
                for (size_t i = 0; i < ELEMENTS(words); i++)
                        if (is_word(text, words[i]))
                                verdict = i % 2;
        } else if (mp_peek(&cur) != MP_INT) {
                return "bool_type";
        }
        if (verdict > 1)
                return "bool_parsing";
        if (buf)
                mp_put_bool(buf, verdict == 1);
        return NULL;
}

/* ---- Dates ---- */

/* Return: NULL or why no date is that many seconds, or milliseconds, from 1970. *ret_exists: whether there is such a day at all. */
static const char *wrong_moment(double number, bool *ret_exists) {
        double seconds = fabs(number) > SECONDS_MAX ? number / 1000 : number;

        *ret_exists = false;
        if (isnan(number))
                return "NaN values not permitted";
        if (seconds >= YEAR_10000_SECONDS)
                return "dates after 9999 are not supported as unix timestamps";
        if (seconds < YEAR_0_SECONDS)
                return "dates before 0000 are not supported as unix timestamps";
        *ret_exists = true;
        return seconds < YEAR_1_SECONDS ? "year 0 is out of range" : NULL;
}

static bool take_number(struct text *text, size_t n_digits, unsigned *ret) {
        unsigned number = 0;

        for (size_t i = 0; i < n_digits; i++) {
                if (!is_digit(text))
                        return false;
                number = number * 10 + *text->at++ - '0';
        }
        *ret = number;
        return true;
}

/* YYYY-MM-DD. Return: NULL or what is wrong. */
static const char *take_date(struct text *text, unsigned *ret_year) {
        static const unsigned days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        unsigned year, month, day;
        bool leap;

        if (text->end - text->at < 10)
                return "input is too short";
        if (!take_number(text, 4, &year))
                return "invalid character in year";
        if (!take(text, "-"))
                return "invalid date separator, expected `-`";
        if (!take_number(text, 2, &month))
                return "invalid character in month";
        if (!take(text, "-"))
                return "invalid date separator, expected `-`";
        if (!take_number(text, 2, &day))
                return "invalid character in day";
        if (month < 1 || month > 12)
                return "month value is outside expected range of 1-12";
        leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        if (day < 1 || day > days[month - 1] || (month == 2 && day == 29 && !leap))
                return "day value is outside expected range";
        *ret_year = year;
        return NULL;
}

static bool take_sign(struct text *text) {
        static const uint8_t minus[] = "\xe2\x88\x92"; /* U+2212 */

        if (take(text, "+-"))
                return true;
        if (text->end - text->at < 3 || memcmp(text->at, minus, 3) != 0)
                return false;
        text->at += 3;
        return true;
}

/* HH:MM[:SS[.fraction]][Z|±HH[:]MM], to the end. */
static bool take_time(struct text *text) {
        unsigned hour, minute, second = 0;

        if (!take_number(text, 2, &hour) || !take(text, ":") || !take_number(text, 2, &minute))
                return false;
        if (take(text, ":")) {
                if (!take_number(text, 2, &second))
                        return false;
                if (take(text, ".,")) {
                        if (!is_digit(text))
                                return false;
                        while (is_digit(text))
                                text->at++;
                }
        }
        if (hour > 23 || minute > 59 || second > 59)
                return false;
        if (!take(text, "Zz") && take_sign(text)) {
                if (!take_number(text, 2, &hour))
                        return false;
                (void)take(text, ":");
                if (!take_number(text, 2, &minute) || hour > 23 || minute > 59)
                        return false;
        }
        return text->at == text->end;
}

/* A whole number, or one with a point that a float may have. Return: whether it is one. */
static bool read_seconds(struct text text, double *ret, bool *ret_whole) {
        bool negative = text.at < text.end && *text.at == '-', overflow = false;
        struct text rest = text;
        uint64_t number = 0;
        size_t n;

        (void)take(&rest, "+-");
        n = take_digits(&rest, false, &number, &overflow);
        overflow |= number > INT64_MAX + (uint64_t)negative;
        *ret_whole = rest.at == rest.end;
        if (overflow || (!*ret_whole && *rest.at != '.') || (*ret_whole && n == 0))
                return false;
        if (!*ret_whole)
                return read_decimal(text, false, ret);
        *ret = negative ? -(double)number : (double)number;
        return true;
}

static const char *datetime_of_text(struct text text, const char **ret_why) {
        struct text rest = text;
        bool exists, whole;
        const char *why;
        double number;
        unsigned year;

        if (read_seconds(text, &number, &whole)) {
                why = wrong_moment(number, &exists);
                if (!why)
                        return NULL;
                if (exists || whole) {
                        *ret_why = why;
                        return exists ? "datetime_parsing" : "datetime_from_date_parsing";
                }
        }
        *ret_why = take_date(&rest, &year);
        if (*ret_why)
                return "datetime_from_date_parsing";
        if (rest.at < rest.end && !(take(&rest, "Tt _") && take_time(&rest))) {
                *ret_why = "unexpected extra characters at the end of the input";
                return "datetime_from_date_parsing";
        }
        if (year > 0)
                return NULL;
        *ret_why = "year 0 is out of range";
        return "datetime_parsing";
}

const char *lax_datetime(struct mp value, const char **ret_why) {
        struct mp_cur cur = mp_cur(value);
        enum mp_type type = mp_peek(&cur);
        struct text text;
        struct mp content;
        double number;
        int8_t ext;
        bool exists;

        if (text_of(value, &text))
                return datetime_of_text(text, ret_why);
        if (type == MP_EXT && mp_read_ext(&cur, &ext, &content) && ext == MP_EXT_BIGINT)
                number = content.len > 0 && content.data[0] & 0x80 ? -INFINITY : INFINITY;
        else if ((type != MP_INT && type != MP_UINT && type != MP_FLOAT) || !mp_read_float(&cur, &number))
                return "datetime_type";
        *ret_why = wrong_moment(number, &exists);
        return *ret_why ? "datetime_parsing" : NULL;
}
