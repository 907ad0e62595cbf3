/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Text for people: what comes from a plugin or a peer made harmless for a terminal, and tables that align.
 */

#include "wire/mp.h"

/* Appends the text; control characters read as \xNN and what is no UTF-8 as U+FFFD. */
void text_put(struct buf *buf, const void *text, size_t len);

enum text_colour { TEXT_PLAIN, TEXT_BOLD, TEXT_GREEN, TEXT_YELLOW, TEXT_RED };

/* Appends the text in that colour, if standard output is a terminal and NO_COLOR is not set. */
void text_put_coloured(struct buf *buf, enum text_colour colour, const char *text);

#define TEXT_ALIGN_MAX 100

/* A table that is filled cell by cell, row by row. Zeroed memory with `columns` set is an empty one. */
struct text_table {
        unsigned columns;
        struct text_cell *cells;
        size_t n, cap;
        int error;
};

void text_table_done(struct text_table *table);
#define CLEANUP_TABLE CLEANUP(text_table_done)

/* Adds a cell; an empty text reads as "-". */
void text_table_add(struct text_table *table, enum text_colour colour, const char *format, ...) PRINTF_LIKE(3, 4);

/* The same with a msgpack value: a str, a number, an array of them joined by commas; anything else is "-". */
void text_table_add_mp(struct text_table *table, enum text_colour colour, struct mp value);

/* Adds a row of the columns' names. */
void text_table_add_header(struct text_table *table, const char *const *names);

/* Appends the rows, columns two spaces apart, each line after `indent` spaces; a cell of more than TEXT_ALIGN_MAX characters moves
 * the rest of its row only. Return: 0 or -ENOMEM. */
int text_table_put(const struct text_table *table, struct buf *buf, unsigned indent);
