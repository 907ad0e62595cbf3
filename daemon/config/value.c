/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two manners live here side by side. What upstream's models declare is read as pydantic's lax mode reads it, because a
 * plugins.yaml that works there has to work here: "7" and 9.0 are integers, "yes" is a boolean, but 7 is no text. Our own keys are
 * read more strictly, and know units.
 */

#include "config/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/paths.h"

#define TEXTS_MAX 1000
#define WORDS_MAX 60
#define WORD_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./"

static void complain(struct reader *reader, enum diag_severity severity, const struct at *at, const struct node *node,
                     const char *format, va_list args) PRINTF_LIKE(5, 0);
static void complain(struct reader *reader, enum diag_severity severity, const struct at *at, const struct node *node,
                     const char *format, va_list args) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;

        buf_append_str(&buf, "expected ");
        buf_vprintf(&buf, format, args);
        buf_append_str(&buf, ", found ");
        node_put_found(&buf, node, &reader->report);
        text = buf_take_str(&buf);
        if (report_check(&reader->report, text != NULL))
                report_add(&reader->report, severity, at, node->place, "%s", text);
}

bool value_refuse(struct reader *reader, const struct at *at, const struct node *node, const char *format, ...) {
        va_list args;

        va_start(args, format);
        complain(reader, DIAG_ERROR, at, node, format, args);
        va_end(args);
        return false;
}

/* What it was found to be does not refuse the file: it may be another when it counts. */
static void warn(struct reader *reader, enum diag_severity severity, const struct at *at, const struct node *node,
                 const char *format, ...) PRINTF_LIKE(5, 6);
static void warn(struct reader *reader, enum diag_severity severity, const struct at *at, const struct node *node,
                 const char *format, ...) {
        va_list args;

        va_start(args, format);
        complain(reader, severity, at, node, format, args);
        va_end(args);
}

/* Return: the name that a text was probably meant to be, NULL when none is close, or when that would tell the text. */
static const char *meant_by(const struct reader *reader, const struct node *node, const char *const *names, size_t n) {
        return node->type == NODE_STR && node_may_tell(node, &reader->report) ? suggest(node->text, names, n) : NULL;
}

/* "unknown key "mod"" */
static void put_unknown(struct buf *buf, const char *what, const struct reader *reader, const struct node *node) {
        buf_printf(buf, "unknown %s ", what);
        if (node->text && !node_may_tell(node, &reader->report))
                buf_append_str(buf, "that may come from the environment and is not shown");
        else
                node_put_found(buf, node, &reader->report);
}

/* ---- As pydantic reads them ---- */

bool value_text(struct reader *reader, const struct at *at, const struct node *node, char **ret) {
        char *copy;

        if (node->type != NODE_STR)
                return value_refuse(reader, at, node,
                                    node->text && node->type != NODE_NULL ? "a text (put it in quotes)" : "a text");
        if (memchr(node->text, '\0', node->text_len))
                return value_refuse(reader, at, node, "a text without NUL characters");
        copy = strdup(node->text);
        if (!report_check(&reader->report, copy != NULL))
                return false;
        free(*ret);
        *ret = copy;
        return true;
}

/* Return: whether the text is an integer to pydantic: digits with single underscores between them, and perhaps a fraction of zeros. */
static bool text_is_int(const char *text, size_t len, int64_t *ret) {
        char digits[32];
        size_t n = 0, i = 0;
        char *end;

        while (len > 0 && isspace((unsigned char)text[len - 1]))
                len--;
        while (i < len && isspace((unsigned char)text[i]))
                i++;
        if (i < len && (text[i] == '-' || text[i] == '+'))
                digits[n++] = text[i++];
        for (; i < len && text[i] != '.'; i++) {
                if (text[i] == '_' && i > 0 && isdigit((unsigned char)text[i - 1]) && i + 1 < len &&
                    isdigit((unsigned char)text[i + 1]))
                        continue;
                if (!isdigit((unsigned char)text[i]) || n + 1 >= sizeof(digits))
                        return false;
                digits[n++] = text[i];
        }
        digits[n] = '\0';
        if (n == 0 || !isdigit((unsigned char)digits[n - 1]) || i + 1 == len)
                return false;
        for (i = i < len ? i + 1 : i; i < len; i++)
                if (text[i] != '0')
                        return false;
        errno = 0;
        *ret = strtoll(digits, &end, 10);
        return errno == 0 && *end == '\0';
}

bool value_int(struct reader *reader, const struct at *at, const struct node *node, int64_t *ret) {
        if (node->type == NODE_BOOL) {
                *ret = node->boolean;
                return true;
        }
        if (node->type == NODE_INT && node->magnitude <= (uint64_t)INT64_MAX + node->negative) {
                *ret = node->negative ? (int64_t)(0 - node->magnitude) : (int64_t)node->magnitude;
                return true;
        }
        if (node->type == NODE_FLOAT && trunc(node->number) == node->number && fabs(node->number) < 0x1p63) {
                *ret = (int64_t)node->number;
                return true;
        }
        if (node->type == NODE_STR && text_is_int(node->text, node->text_len, ret))
                return true;
        return value_refuse(reader, at, node,
                            node->type == NODE_INT || node->type == NODE_BIGINT ? "a whole number of 64 bits" : "a whole number");
}

bool value_bool(struct reader *reader, const struct at *at, const struct node *node, bool *ret) {
        static const char *const words[] = {"0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes"};

        if (node->type == NODE_BOOL) {
                *ret = node->boolean;
                return true;
        }
        if ((node->type == NODE_INT && node->magnitude <= 1 && !node->negative) ||
            (node->type == NODE_FLOAT && (node->number == 0 || node->number == 1))) {
                *ret = node->type == NODE_INT ? node->magnitude == 1 : node->number == 1;
                return true;
        }
        for (size_t i = 0; node->type == NODE_STR && i < ELEMENTS(words); i++)
                if (strcasecmp(words[i], node->text) == 0) {
                        *ret = i >= ELEMENTS(words) / 2;
                        return true;
                }
        return value_refuse(reader, at, node, "true or false");
}

bool value_float(struct reader *reader, const struct at *at, const struct node *node, double *ret) {
        char *end;

        if (node->type == NODE_FLOAT)
                *ret = node->number;
        else if (node->type == NODE_INT)
                *ret = node->negative ? -(double)node->magnitude : (double)node->magnitude;
        else if (node->type == NODE_BOOL)
                *ret = node->boolean;
        else if (node->type == NODE_STR && node->text_len > 0) {
                double number = strtod(node->text, &end);

                while (isspace((unsigned char)*end))
                        end++;
                if (end != node->text + node->text_len)
                        return value_refuse(reader, at, node, "a number");
                *ret = number;
        } else
                return value_refuse(reader, at, node, "a number");
        return true;
}

/* One text that needs no quotes, or several: what is meant is a list of them. */
static bool lacks_brackets(const struct reader *reader, const struct node *node) {
        return node->type == NODE_STR && node_may_tell(node, &reader->report) && node->text_len > 0 &&
               node->text_len < WORDS_MAX && strspn(node->text, WORD_CHARACTERS ", ") == node->text_len &&
               strchr(WORD_CHARACTERS, *node->text);
}

bool value_texts(struct reader *reader, const struct at *at, const struct node *node, bool set, struct strlist *ret) {
        struct strlist list = {0};
        bool ok = true;

        if (lacks_brackets(reader, node))
                return value_refuse(reader, at, node, "a list of texts such as [%s]", node->text);
        if (node->type != NODE_LIST)
                return value_refuse(reader, at, node, "a list of texts");
        if (node->n_items > TEXTS_MAX) /* finding repetitions below compares each with each */
                return value_refuse(reader, at, node, "a list of at most 1000 texts");
        for (size_t i = 0; i < node->n_items; i++) {
                struct at item = {.up = at->up, .key = at->key, .index = i + 1};
                CLEANUP_FREE char *text = NULL;

                if (!value_text(reader, &item, node->items[i], &text))
                        ok = false;
                else if (!(set && strlist_has(&list, text)))
                        ok = report_check(&reader->report, strlist_append(&list, text) == 0) && ok;
        }
        if (!ok) {
                strlist_done(&list);
                return false;
        }
        strlist_done(ret);
        *ret = list;
        return true;
}

bool value_choice(struct reader *reader, const struct at *at, const struct node *node, const char *const *names, size_t n,
                  int *ret) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;
        const char *meant;

        for (size_t i = 0; i < n; i++)
                if (node_is(node, names[i])) {
                        *ret = (int)i;
                        return true;
                }
        if (report_full(&reader->report)) {
                report_add(&reader->report, DIAG_ERROR, at, node->place, "unknown value");
                return false;
        }
        put_unknown(&buf, "value", reader, node);
        meant = meant_by(reader, node, names, n);
        if (meant)
                buf_printf(&buf, "; did you mean \"%s\"?", meant);
        buf_append_str(&buf, meant ? " allowed: " : "; allowed: ");
        for (size_t i = 0; i < n; i++)
                buf_printf(&buf, "%s%s", i > 0 ? ", " : "", names[i]);
        text = buf_take_str(&buf);
        if (report_check(&reader->report, text != NULL))
                report_add(&reader->report, DIAG_ERROR, at, node->place, "%s", text);
        return false;
}

/* ---- Our own ---- */

bool value_path(struct reader *reader, const struct at *at, const struct node *node, char **ret) {
        CLEANUP_FREE char *text = NULL;
        char *path;

        if (!value_text(reader, at, node, &text))
                return false;
        if (!*text)
                return value_refuse(reader, at, node, "a path");
        path = path_join(reader->base, text);
        if (!report_check(&reader->report, path != NULL))
                return false;
        free(*ret);
        *ret = path;
        return true;
}

static bool is_program(const char *path) {
        struct stat status;

        return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

/* As the builder of venvs looks for it (venv/run.h). */
static bool is_in_path(const char *name) {
        const char *at = getenv("PATH");
        char path[PATH_MAX];

        for (at = at ? at : "/usr/local/bin:/usr/bin:/bin"; *at;) {
                size_t len = strcspn(at, ":");

                if (at[0] == '/' && snprintf(path, sizeof(path), "%.*s/%s", (int)len, at, name) < PATH_MAX && is_program(path))
                        return true;
                at += len + (at[len] == ':');
        }
        return false;
}

bool value_program(struct reader *reader, const struct at *at, const struct node *node, char **ret) {
        bool path = node->type == NODE_STR && strchr(node->text, '/');

        if (node->type == NODE_STR && node->text_len == 0)
                return value_refuse(reader, at, node, "a path, or a name to look up in PATH");
        if (!(path ? value_path : value_text)(reader, at, node, ret))
                return false;
        if (path && !is_program(*ret))
                warn(reader, reader->origins && !reader->disabled ? DIAG_FAULT : DIAG_WARNING, at, node,
                     "a program that is there and may be executed");
        else if (!path && !is_in_path(*ret)) /* the PATH of whoever checks the file is not always the daemon's */
                warn(reader, DIAG_WARNING, at, node, "the name of a program in PATH");
        return true;
}

bool value_count(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret) {
        if (node->type != NODE_INT || node->negative)
                return value_refuse(reader, at, node, "a whole number, not negative");
        *ret = node->magnitude;
        return true;
}

struct unit {
        const char *name;
        uint64_t factor;
};

static const struct unit byte_units[] = {{"G", 1u << 30}, {"M", 1u << 20}, {"K", 1u << 10}, {"", 1}};
static const struct unit time_units[] = {
        {"h", 3600 * USEC_PER_SEC}, {"m", 60 * USEC_PER_SEC}, {"s", USEC_PER_SEC}, {"ms", USEC_PER_MSEC}, {"us", 1},
        {"", USEC_PER_SEC}};

/* "1.5s": a plain decimal number, then a unit. */
static bool text_is_amount(const struct node *node, const struct unit *units, size_t n, uint64_t *ret) {
        const char *unit = node->text;
        double number;

        if (node->type != NODE_STR || !isdigit((unsigned char)*unit))
                return false;
        while (isdigit((unsigned char)*unit) || *unit == '.')
                unit++;
        number = strtod(node->text, NULL);
        for (size_t i = 0; i < n; i++)
                if (str_eq(units[i].name, unit) && number * (double)units[i].factor < 0x1p63) {
                        *ret = (uint64_t)(number * (double)units[i].factor);
                        return node->text_len == strlen(node->text);
                }
        return false;
}

bool value_bytes(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret) {
        if (node->type == NODE_INT && !node->negative)
                *ret = node->magnitude;
        else if (!text_is_amount(node, byte_units, ELEMENTS(byte_units), ret))
                return value_refuse(reader, at, node, "a size such as 1048576, 512M or 1G");
        return true;
}

bool value_duration(struct reader *reader, const struct at *at, const struct node *node, usec_t *ret) {
        if (node->type == NODE_INT && !node->negative && node->magnitude < INT64_MAX / USEC_PER_SEC)
                *ret = node->magnitude * USEC_PER_SEC;
        else if (node->type == NODE_FLOAT && node->number >= 0 && node->number < 0x1p43)
                *ret = (usec_t)llround(node->number * (double)USEC_PER_SEC);
        else if (!text_is_amount(node, time_units, ELEMENTS(time_units), ret))
                return value_refuse(reader, at, node, "a time such as 30 (seconds), 0.5, 500ms, 5s or 2m");
        return true;
}

bool value_mode(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret) {
        const char *digits = node->text ? node->text : "";
        char *end;

        if (node->type == NODE_STR && strncmp(digits, "0o", 2) == 0)
                digits += 2;
        else if (*digits != '0' || (node->type != NODE_INT && node->type != NODE_STR))
                return value_refuse(reader, at, node, "an octal mode with a leading zero, such as 0660");
        *ret = strtoull(digits, &end, 8);
        if (*end || end == digits || *ret > 0777)
                return value_refuse(reader, at, node, "an octal mode from 0 to 0777");
        return true;
}

static void put_amount(struct buf *buf, uint64_t amount, const struct unit *units, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (amount >= units[i].factor && amount % units[i].factor == 0) {
                        buf_printf(buf, "%" PRIu64 "%s", amount / units[i].factor, units[i].name);
                        return;
                }
        buf_append_str(buf, "0");
}

void put_bytes(struct buf *buf, uint64_t bytes) {
        put_amount(buf, bytes, byte_units, ELEMENTS(byte_units));
}

void put_duration(struct buf *buf, usec_t usec) {
        put_amount(buf, usec, time_units, ELEMENTS(time_units));
}

void value_unknown_key(struct reader *reader, const struct at *at, const struct node *key, const char *const *names, size_t n) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;
        const char *meant;

        if (report_full(&reader->report))
                return;
        meant = meant_by(reader, key, names, n);
        put_unknown(&buf, "key", reader, key);
        if (meant)
                buf_printf(&buf, "; did you mean \"%s\"?", meant);
        else
                buf_append_str(&buf, "; it is ignored");
        text = buf_take_str(&buf);
        if (report_check(&reader->report, text != NULL))
                report_add(&reader->report, DIAG_WARNING, at, key->place, "%s", text);
}
