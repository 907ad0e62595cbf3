/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Values as Python writes them: str() and repr() of what a plugin would get for a msgpack value.
 */

#include "wire/mp.h"

/* Steps over the next value. Return: how many characters its str() has, or, `quoted`, its repr(). */
uint64_t pytext_len(struct mp_cur *cur, bool quoted);

/* Appends the repr() of a value. Of a large one only the beginning. */
void pytext_put(struct buf *buf, struct mp value);

/* Return: the name of the Python class of a value. */
const char *pytext_class(struct mp value);

/* Steps over one character of UTF-8. Return: the character; U+FFFD for a byte that is part of none. */
uint32_t pytext_next(struct mp text, size_t *at);

/* str.isprintable() and str.isspace() of one character. */
bool pytext_is_printable(uint32_t c);
bool pytext_is_space(uint32_t c);
