/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each form is a small walk over the text with the name of PyYAML's pattern; no regular expressions, for one would have to be
 * compiled, and could fail to be. Integers are read into bytes of any length, since Python has no largest integer and
 * a plugin's configuration keeps its values.
 */

#include "config/scalar.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

static bool one_of(const char *text, size_t len, const char *const *words) {
        for (; *words; words++)
                if (strlen(*words) == len && memcmp(*words, text, len) == 0)
                        return true;
        return false;
}

static const char *const null_words[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const true_words[] = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
static const char *const false_words[] = {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", NULL};
static const char *const special_floats[] = {".inf", ".Inf", ".INF", NULL};
static const char *const not_numbers[] = {".nan", ".NaN", ".NAN", NULL};

bool scalar_bool(const char *text, size_t len, bool *ret) {
        bool is_true = one_of(text, len, true_words);

        if (!is_true && !one_of(text, len, false_words))
                return false;
        *ret = is_true;
        return true;
}

static size_t span(const char *text, size_t len, const char *accepted) {
        size_t n = 0;

        while (n < len && text[n] != '\0' && strchr(accepted, text[n]))
                n++;
        return n;
}

#define DIGITS_ "0123456789_"

/* (:[0-5]?[0-9])* Return: how many bytes of it. */
static size_t span_sixties(const char *text, size_t len) {
        size_t n = 0;

        while (n + 1 < len && text[n] == ':' && isdigit((unsigned char)text[n + 1])) {
                if (n + 2 < len && text[n + 1] <= '5' && isdigit((unsigned char)text[n + 2]))
                        n += 3;
                else
                        n += 2;
        }
        return n;
}

static size_t span_sign(const char *text, size_t len) {
        return len > 0 && (*text == '-' || *text == '+') ? 1 : 0;
}

static bool is_int(const char *text, size_t len) {
        size_t n, sign = span_sign(text, len);

        text += sign;
        len -= sign;
        if (len == 0 || !isdigit((unsigned char)*text))
                return false;
        if (*text == '0') {
                if (len == 1)
                        return true;
                if (text[1] == 'b' || text[1] == 'x')
                        return len > 2 && span(text + 2, len - 2, text[1] == 'b' ? "01_" : "0123456789abcdefABCDEF_") == len - 2;
                return span(text, len, "01234567_") == len;
        }
        n = span(text, len, DIGITS_);
        return n + span_sixties(text + n, len - n) == len;
}

static bool is_float(const char *text, size_t len) {
        size_t n, sign = span_sign(text, len);

        if (one_of(text + sign, len - sign, special_floats) || one_of(text, len, not_numbers))
                return true;
        if (len > 0 && *text == '.') {
                if (len < 2 || !isdigit((unsigned char)text[1]))
                        return false;
                n = 1 + span(text + 1, len - 1, DIGITS_);
        } else {
                size_t sixties;

                text += sign;
                len -= sign;
                if (len == 0 || !isdigit((unsigned char)*text))
                        return false;
                n = span(text, len, DIGITS_);
                sixties = span_sixties(text + n, len - n);
                n += sixties;
                if (n == len || text[n] != '.')
                        return false;
                n++;
                n += span(text + n, len - n, DIGITS_);
                if (sixties > 0)
                        return n == len;
        }
        if (n == len)
                return true;
        /* the exponent's sign is not optional */
        if (len - n < 3 || (text[n] != 'e' && text[n] != 'E') || span_sign(text + n + 1, 1) == 0)
                return false;
        return span(text + n + 2, len - n - 2, "0123456789") == len - n - 2;
}

/* ---- Dates ---- */

struct date {
        unsigned year, month, day, hour, minute, second, micros;
        int offset_minutes;
        bool has_time, has_offset;
        bool padded; /* month and day have two digits */
};

/* Return: how many digits it stepped over, 0 where they are fewer than `min`; never more than `max`. */
static size_t take_digits(const char **at, const char *end, size_t min, size_t max, unsigned *ret) {
        size_t n = 0;

        for (*ret = 0; n < max && *at + n < end && isdigit((unsigned char)(*at)[n]); n++)
                *ret = *ret * 10 + (unsigned)((*at)[n] - '0');
        if (n < min)
                return 0;
        *at += n;
        return n;
}

static bool take_byte(const char **at, const char *end, const char *accepted) {
        if (*at == end || !**at || !strchr(accepted, **at))
                return false;
        (*at)++;
        return true;
}

static void take_blanks(const char **at, const char *end) {
        while (take_byte(at, end, " \t"))
                ;
}

/* .5 is half a second; what is finer than a microsecond is dropped. */
static void take_fraction(const char **at, const char *end, unsigned *ret) {
        unsigned unit = 100000;

        for (*ret = 0; *at < end && isdigit((unsigned char)**at); (*at)++, unit /= 10)
                *ret += (unsigned)(**at - '0') * unit;
}

/* Z, +1, -05:30. */
static bool take_offset(const char **at, const char *end, struct date *date) {
        bool west = *at < end && **at == '-';
        unsigned hours, minutes = 0;

        date->has_offset = true;
        if (take_byte(at, end, "Z"))
                return true;
        if (!take_byte(at, end, "+-") || !take_digits(at, end, 1, 2, &hours) ||
            (take_byte(at, end, ":") && !take_digits(at, end, 2, 2, &minutes)))
                return false;
        date->offset_minutes = (int)(hours * 60 + minutes) * (west ? -1 : 1);
        return true;
}

static bool take_time(const char **at, const char *end, struct date *date) {
        const char *start = *at;

        date->has_time = true;
        if (!take_byte(at, end, "Tt"))
                take_blanks(at, end);
        if (*at == start || !take_digits(at, end, 1, 2, &date->hour) || !take_byte(at, end, ":") ||
            !take_digits(at, end, 2, 2, &date->minute) || !take_byte(at, end, ":") || !take_digits(at, end, 2, 2, &date->second))
                return false;
        if (take_byte(at, end, "."))
                take_fraction(at, end, &date->micros);
        if (*at == end)
                return true;
        take_blanks(at, end);
        return take_offset(at, end, date);
}

static bool parse_date(const char *text, size_t len, struct date *ret) {
        const char *at = text, *end = text + len;
        size_t month, day;

        *ret = (struct date){0};
        if (!take_digits(&at, end, 4, 4, &ret->year) || !take_byte(&at, end, "-") ||
            !(month = take_digits(&at, end, 1, 2, &ret->month)) || !take_byte(&at, end, "-") ||
            !(day = take_digits(&at, end, 1, 2, &ret->day)))
                return false;
        ret->padded = month == 2 && day == 2;
        return (at == end || take_time(&at, end, ret)) && at == end;
}

static bool is_plain_date(const char *text, size_t len) {
        struct date date;

        return parse_date(text, len, &date) && (date.has_time || date.padded);
}

static bool exists(const struct date *date) {
        static const unsigned days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap = date->year % 4 == 0 && (date->year % 100 != 0 || date->year % 400 == 0);

        return date->year >= 1 && date->month >= 1 && date->month <= 12 && date->day >= 1 &&
               date->day <= days[date->month - 1] + (date->month == 2 && leap) && date->hour < 24 && date->minute < 60 &&
               date->second < 60 && abs(date->offset_minutes) < 24 * 60;
}

bool scalar_date(const char *text, size_t len, char ret[SCALAR_DATE_BYTES]) {
        struct date date;
        int n, offset;

        if (!parse_date(text, len, &date) || !exists(&date))
                return false;
        offset = abs(date.offset_minutes);
        n = snprintf(ret, SCALAR_DATE_BYTES, "%04u-%02u-%02u", date.year, date.month, date.day);
        if (date.has_time)
                n += snprintf(ret + n, SCALAR_DATE_BYTES - (size_t)n, "T%02u:%02u:%02u.%06u", date.hour, date.minute, date.second,
                              date.micros);
        if (date.has_offset)
                (void)snprintf(ret + n, SCALAR_DATE_BYTES - (size_t)n, "%c%02d:%02d", date.offset_minutes < 0 ? '-' : '+',
                               offset / 60, offset % 60);
        return true;
}

/* ---- The type ---- */

enum scalar_type scalar_resolve(const char *text, size_t len) {
        bool ignored;

        if (one_of(text, len, null_words))
                return SCALAR_NULL;
        if (scalar_bool(text, len, &ignored))
                return SCALAR_BOOL;
        if (is_float(text, len))
                return SCALAR_FLOAT;
        if (is_int(text, len))
                return SCALAR_INT;
        if (is_plain_date(text, len))
                return SCALAR_DATE;
        if (len == 2 && memcmp(text, "<<", 2) == 0)
                return SCALAR_MERGE;
        return len == 1 && *text == '=' ? SCALAR_VALUE : SCALAR_STR;
}

#define GROWTH_MAX (UINT64_C(1) << 55) /* a byte of the number times this, and what is carried over, has 64 bits */

/* number = number * factor + addend */
static bool grow(struct scalar_int *number, uint64_t factor, uint64_t addend) {
        uint64_t carry = addend;

        for (size_t i = 0; i < number->len; i++) {
                carry += number->bytes[i] * factor;
                number->bytes[i] = carry & 0xff;
                carry >>= 8;
        }
        while (carry > 0) {
                if (number->len == sizeof(number->bytes))
                        return false;
                number->bytes[number->len++] = carry & 0xff;
                carry >>= 8;
        }
        return true;
}

static unsigned digit_of(char c) {
        return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a') + 10;
}

bool scalar_int(const char *text, size_t len, struct scalar_int *ret) {
        uint64_t factor = 1, addend = 0; /* of digits not yet in the number, since each growth costs its length */
        unsigned base = 10, sixty = 0;
        size_t digits = 0, i = span_sign(text, len);

        if (!is_int(text, len) || len > SCALAR_INT_CHARS)
                return false;
        ret->negative = *text == '-';
        ret->len = 0;
        if (text[i] == '0' && i + 1 < len) {
                base = text[i + 1] == 'b' ? 2 : text[i + 1] == 'x' ? 16 : 8;
                i += base == 8 ? 0 : 2;
        }
        for (; i < len && text[i] != ':'; i++) {
                if (text[i] == '_')
                        continue;
                digits++;
                factor *= base;
                addend = addend * base + digit_of(text[i]);
                if (factor > GROWTH_MAX / 16) {
                        if (!grow(ret, factor, addend))
                                return false;
                        factor = 1;
                        addend = 0;
                }
        }
        if (factor > 1 && !grow(ret, factor, addend))
                return false;
        for (; i < len; i++) {
                if (text[i] != ':')
                        sixty = sixty * 10 + digit_of(text[i]);
                if (i + 1 == len || text[i + 1] == ':') {
                        if (text[i] != ':' && !grow(ret, 60, sixty))
                                return false;
                        sixty = 0;
                }
        }
        return digits > 0;
}

/* Added up from the last place on, as PyYAML does, since in another order the last bit may differ. */
static double float_of_sixties(char *text) {
        double sum = 0, base = 1;

        for (char *colon; (colon = strrchr(text, ':')); *colon = '\0', base *= 60)
                sum += strtod(colon + 1, NULL) * base;
        return sum + strtod(text, NULL) * base;
}

/* What Python's float() reads, without a sign: 12, 1.5, .5e3, inf. */
static bool float_of_python(const char *text, double *ret) {
        char *end;

        if (strcasecmp(text, "inf") == 0 || strcasecmp(text, "infinity") == 0)
                *ret = INFINITY;
        else if (strcasecmp(text, "nan") == 0)
                *ret = NAN;
        else if (*text && text[strspn(text, "0123456789.eE+-")] == '\0' && *text != '+' && *text != '-') {
                *ret = strtod(text, &end);
                return *end == '\0';
        } else
                return false;
        return true;
}

int scalar_float(const char *text, size_t len, double *ret) {
        CLEANUP_FREE char *plain = NULL;
        size_t n = 0, sign = span_sign(text, len);
        double value;

        if (memchr(text, '\0', len))
                return -EINVAL;
        plain = malloc(len + 1);
        if (!plain)
                return -ENOMEM;
        for (size_t i = sign; i < len; i++)
                if (text[i] != '_')
                        plain[n++] = text[i];
        plain[n] = '\0';
        if (one_of(plain, n, special_floats))
                value = INFINITY;
        else if (one_of(plain, n, not_numbers))
                value = NAN;
        else if (is_float(text, len) || (strchr(plain, ':') && is_int(text, len)))
                value = float_of_sixties(plain);
        else if (!float_of_python(plain, &value))
                return -EINVAL;
        *ret = sign > 0 && *text == '-' ? -value : value;
        return 0;
}
