/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A loader goes on after a mistake, so a complaint must never be able to stop it: it is kept, and want of memory is remembered in the
 * report and asked for once, at the end. A hostile file may hold a mistake every second byte; past a thousand nobody reads them, and they are only counted.
 */

#include "config/diag.h"

#include <ctype.h>
#include <stdio.h>

#include "base/utf8.h"

#define WORD_MAX 64 /* longest word that gets a suggestion */
#define QUOTED_MAX 60
#define SEARCHED_MAX (64u << 10) /* longest file that is searched for what may be told */

void diags_done(struct diags *diags) {
        for (size_t i = 0; i < diags->n; i++)
                free(diags->items[i].text);
        free(diags->items);
        *diags = (struct diags){0};
}

/* Appends `text`, shortened and with control characters made visible. */
static void put_shown(struct buf *buf, const char *text, size_t len) {
        size_t shown = utf8_fit(text, len, QUOTED_MAX);

        for (size_t i = 0; i < shown; i++) {
                unsigned char c = (unsigned char)text[i];

                if (c < 0x20 || c == 0x7f)
                        buf_printf(buf, "\\x%02x", c);
                else if (c == '"' || c == '\\')
                        buf_printf(buf, "\\%c", c);
                else
                        buf_append(buf, &c, 1);
        }
        if (shown < len)
                buf_append_str(buf, "…");
}

static void put_at(struct buf *buf, const struct at *at) {
        if (!at)
                return;
        put_at(buf, at->up);
        if (at->key) {
                if (at->up)
                        buf_append_str(buf, at->up->name ? ": " : ".");
                put_shown(buf, at->key, strlen(at->key));
        }
        if (at->index > 0)
                buf_printf(buf, "[%zu]", at->index - 1);
        if (at->name) {
                buf_append_str(buf, " ");
                put_quoted(buf, at->name, strlen(at->name));
        }
}

static int diags_append(struct diags *diags, enum diag_severity severity, struct place place, char *text) {
        /* grows at the powers of two */
        if ((diags->n & (diags->n - 1)) == 0) {
                struct diag *grown = realloc(diags->items, MAX(diags->n * 2, (size_t)1) * sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                diags->items = grown;
        }
        diags->items[diags->n++] = (struct diag){severity, place.line, place.column, false, text};
        return 0;
}

static void put_place(struct buf *buf, const struct report *report, struct place place) {
        buf_append_str(buf, report->file);
        if (place.line > 0 && report->source)
                buf_printf(buf, ": line %u of the rendered file", place.line);
        else if (place.line > 0)
                buf_printf(buf, ":%u", place.line);
        if (place.column > 0 && !report->source)
                buf_printf(buf, ":%u", place.column);
        buf_append_str(buf, ": ");
}

void report_addv(struct report *report, enum diag_severity severity, const struct at *at, struct place place, const char *format,
                 va_list args) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;

        if (severity == DIAG_ERROR)
                report->diags->errors++;
        if (report_full(report))
                return;
        put_place(&buf, report, place);
        if (at) {
                put_at(&buf, at);
                buf_append_str(&buf, ": ");
        }
        buf_vprintf(&buf, format, args);
        text = buf_take_str(&buf);
        if (!report_check(report, text != NULL))
                return;
        for (char *c = text; *c; c++) /* of paths and names that were not put_quoted() */
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = '?';
        if (report_check(report, diags_append(report->diags, severity, place, text) == 0))
                (void)TAKE(text);
}

void report_add(struct report *report, enum diag_severity severity, const struct at *at, struct place place, const char *format,
                ...) {
        va_list args;

        va_start(args, format);
        report_addv(report, severity, at, place, format, args);
        va_end(args);
}

void report_add_cause(struct report *report, struct place place, const char *format, ...) {
        size_t n = report->diags->n;
        va_list args;

        va_start(args, format);
        report_addv(report, DIAG_WARNING, NULL, place, format, args);
        va_end(args);
        if (report->diags->n > n)
                report->diags->items[n].cause = true;
}

static bool is_word_byte(char c) {
        return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

bool report_may_tell(const struct report *report, const char *text, size_t len) {
        const char *at = report->source, *end;

        if (!at || len == 0 || report->source_len > SEARCHED_MAX)
                return false;
        end = at + report->source_len;
        while ((at = memmem(at, (size_t)(end - at), text, len))) {
                if ((at == report->source || !is_word_byte(at[-1])) && (at + len == end || !is_word_byte(at[len])))
                        return true;
                at++;
        }
        return false;
}

static bool comes_before(const struct diag *a, const struct diag *b) {
        if (a->line != b->line)
                return a->line < b->line;
        if (a->cause != b->cause)
                return a->cause;
        return a->column < b->column;
}

/* Insertion: complaints come nearly in order, and their number is bounded. */
void diags_sort(struct diags *diags, size_t first) {
        for (size_t i = first + 1; i < diags->n; i++) {
                struct diag moved = diags->items[i];
                size_t to = i;

                while (to > first && comes_before(&moved, &diags->items[to - 1])) {
                        diags->items[to] = diags->items[to - 1];
                        to--;
                }
                diags->items[to] = moved;
        }
}

/* How many letters were left out, added, replaced or swapped with their neighbour. */
static size_t edit_distance(const char *a, const char *b) {
        size_t row[3][WORD_MAX + 1], n = strlen(a), m = strlen(b);

        for (size_t j = 0; j <= m; j++)
                row[0][j] = j;
        for (size_t i = 1; i <= n; i++) {
                size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];

                now[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);

                        now[j] = MIN(MIN(last[j], now[j - 1]) + 1, last[j - 1] + !same);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                now[j] = MIN(now[j], before[j - 2] + 1);
                }
        }
        return row[n % 3][m];
}

const char *suggest(const char *word, const char *const *names, size_t n) {
        size_t len = strlen(word), best = MAX(len / 3, (size_t)1) + 1;
        const char *found = NULL;

        if (len > WORD_MAX)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                size_t n_chars = strlen(names[i]), distance = n_chars > len ? n_chars - len : len - n_chars;

                if (n_chars > WORD_MAX || distance >= best) /* it is at least as far as their lengths are apart */
                        continue;
                distance = edit_distance(word, names[i]);
                if (distance < best && distance < n_chars) {
                        best = distance;
                        found = names[i];
                }
        }
        return found;
}

void put_quoted(struct buf *buf, const char *text, size_t len) {
        buf_append_str(buf, "\"");
        put_shown(buf, text, len);
        buf_append_str(buf, "\"");
}
