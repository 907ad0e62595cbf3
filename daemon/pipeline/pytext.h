/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Values as Python writes them: str() and repr() of what a plugin would get for a msgpack value.
 */

#include "wire/mp.h"

#define PYTEXT_EXACT 1010000 /* characters after which floats, which take longest, are no longer counted digit by digit */

/* Steps over the next value, and adds to *n how many characters its str() has. */
void pytext_count(struct mp_cur *cur, uint64_t *n);

/* Appends the repr() of a value. Of a large one only the beginning. */
void pytext_put(struct buf *buf, struct mp value);

/* Return: the name of the Python class of a value. */
const char *pytext_class(struct mp value);

/* Steps over one character of UTF-8. Return: the character; U+FFFD for a byte that is part of none. */
uint32_t pytext_next(struct mp text, size_t *at);

/* str.isprintable() and str.isspace() of one character. */
bool pytext_is_printable(uint32_t c);
bool pytext_is_space(uint32_t c);
