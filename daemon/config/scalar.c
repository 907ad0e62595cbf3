/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each form is a small walk over the text with the name of PyYAML's pattern; no regular expressions, for one would have to be
 * compiled, and could fail to be. Integers are read into bytes of any length, since Python has no largest integer and
 * a plugin's configuration keeps its values.
 */

#include "config/scalar.h"

#include <ctype.h>
#include <math.h>

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
        if (len == 2 && memcmp(text, "<<", 2) == 0)
                return SCALAR_MERGE;
        return SCALAR_STR;
}

/* number = number * factor + addend */
static bool grow(struct scalar_int *number, unsigned factor, unsigned addend) {
        unsigned carry = addend;

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
                if (!grow(ret, base, digit_of(text[i])))
                        return false;
        }
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

static double float_of_sixties(char *text) {
        double sum = 0;
        char *save = NULL;

        for (char *part = strtok_r(text, ":", &save); part; part = strtok_r(NULL, ":", &save))
                sum = sum * 60 + strtod(part, NULL);
        return sum;
}

int scalar_float(const char *text, size_t len, double *ret) {
        CLEANUP_FREE char *plain = NULL;
        size_t n = 0, sign = span_sign(text, len);
        double value;

        if (!is_float(text, len) && !is_int(text, len))
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
        else
                value = float_of_sixties(plain);
        *ret = sign > 0 && *text == '-' ? -value : value;
        return 0;
}
