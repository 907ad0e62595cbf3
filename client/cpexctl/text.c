/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names, messages and payloads come from plugins, so no byte of them may steer the terminal: C0 and C1 controls are written out.
 * And no name of theirs may pad every other row to its own length: columns align up to a limit.
 *
 * Widths count characters; wide and combining ones are rare enough in names of plugins.
 */

#include "text.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/utf8.h"

struct text_cell {
        char *text;
        size_t width; /* in characters */
        enum text_colour colour;
};

void text_put(struct buf *buf, const void *text, size_t len) {
        const uint8_t *at = text, *end = at + len;

        while (at < end) {
                uint32_t c = 0;
                size_t n = utf8_decode(at, (size_t)(end - at), &c);

                if (n == 0)
                        buf_append_str(buf, "\xef\xbf\xbd");
                else if (utf8_is_control(c))
                        buf_printf(buf, "\\x%02" PRIx32, c);
                else
                        buf_append(buf, at, n);
                at += MAX(n, (size_t)1);
        }
}

static bool colours_wanted(void) {
        static int wanted = -1;

        if (wanted < 0)
                wanted = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
        return wanted;
}

void text_put_coloured(struct buf *buf, enum text_colour colour, const char *text) {
        static const char *const begin[] = {"", "\033[1m", "\033[32m", "\033[33m", "\033[31m"};
        bool paint = colour != TEXT_PLAIN && colours_wanted();

        if (paint)
                buf_append_str(buf, begin[colour]);
        buf_append_str(buf, text);
        if (paint)
                buf_append_str(buf, "\033[0m");
}

void text_table_done(struct text_table *table) {
        for (size_t i = 0; i < table->n; i++)
                free(table->cells[i].text);
        free(table->cells);
        *table = (struct text_table){.columns = table->columns};
}

static size_t characters(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += !utf8_continues((uint8_t)*text);
        return n;
}

/* Return: whether there is room for one more cell. */
static bool has_room(struct text_table *table) {
        size_t cap = MAX(2 * table->cap, (size_t)32);
        struct text_cell *cells;

        if (table->n < table->cap)
                return true;
        cells = reallocarray(table->cells, cap, sizeof(*cells));
        if (!cells)
                return false;
        table->cells = cells;
        table->cap = cap;
        return true;
}

/* Takes the text out of `buf`. */
static void add_cell(struct text_table *table, enum text_colour colour, struct buf *buf) {
        char *text;

        if (buf->len == 0)
                buf_append_str(buf, "-");
        text = buf_take_str(buf);
        if (!text || !has_room(table)) {
                free(text);
                table->error = -ENOMEM;
                return;
        }
        table->cells[table->n++] = (struct text_cell){text, characters(text), colour};
}

void text_table_add(struct text_table *table, enum text_colour colour, const char *format, ...) {
        CLEANUP_BUF struct buf raw = {0}, shown = {0};
        va_list args;

        va_start(args, format);
        buf_vprintf(&raw, format, args);
        va_end(args);
        text_put(&shown, raw.data, raw.len);
        add_cell(table, colour, &shown);
}

static void put_plain(struct buf *buf, struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp text, item;
        uint64_t u;
        int64_t i;
        uint32_t n;
        bool b;

        if (mp_read_str(&cur, &text))
                text_put(buf, text.data, text.len);
        else if (mp_read_uint(&cur, &u))
                buf_printf(buf, "%" PRIu64, u);
        else if (mp_read_int(&cur, &i))
                buf_printf(buf, "%" PRId64, i);
        else if (mp_read_bool(&cur, &b))
                buf_append_str(buf, b ? "yes" : "no");
        else if (mp_read_array(&cur, &n))
                for (size_t start = buf->len; n > 0 && mp_read_any(&cur, &item); n--) {
                        if (buf->len > start)
                                buf_append_str(buf, ", ");
                        put_plain(buf, item);
                }
}

void text_table_add_mp(struct text_table *table, enum text_colour colour, struct mp value) {
        CLEANUP_BUF struct buf shown = {0};

        if (value.len > 0)
                put_plain(&shown, value);
        add_cell(table, colour, &shown);
}

void text_table_add_header(struct text_table *table, const char *const *names) {
        for (unsigned i = 0; i < table->columns; i++)
                text_table_add(table, TEXT_BOLD, "%s", names[i]);
}

int text_table_put(const struct text_table *table, struct buf *buf, unsigned indent) {
        CLEANUP_FREE size_t *widths = calloc(table->columns, sizeof(*widths));

        if (table->error || !widths)
                return table->error ? table->error : -ENOMEM;
        for (size_t i = 0; i < table->n; i++) {
                size_t *width = widths + i % table->columns;

                *width = MAX(*width, MIN(table->cells[i].width, (size_t)TEXT_ALIGN_MAX));
        }
        for (size_t i = 0; i < table->n; i++) {
                const struct text_cell *cell = table->cells + i;
                size_t column = i % table->columns;

                if (column == 0)
                        buf_printf(buf, "%*s", (int)indent, "");
                text_put_coloured(buf, cell->colour, cell->text);
                if (column + 1 == table->columns)
                        buf_append_str(buf, "\n");
                else
                        buf_printf(buf, "%*s", (int)(widths[column] - MIN(cell->width, widths[column])) + 2, "");
        }
        return buf_error(buf);
}
