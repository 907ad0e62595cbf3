/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * UTF-8 as RFC 3629 has it: nothing longer than need be, no surrogates, nothing beyond U+10FFFF.
 */

#include "base/util.h"

/* Return: the bytes of the character at `at`, of which there are `left` (≥ 1); 0 where it is none, and *ret_char is untouched. */
size_t utf8_decode(const uint8_t *at, size_t left, uint32_t *ret_char);

bool utf8_is_valid(const uint8_t *text, size_t len);

/* Return: whether the character is one of Unicode's control characters (C0, DEL, C1), which may steer a terminal. */
static inline bool utf8_is_control(uint32_t c) {
        return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* Return: whether a text may not be cut before this byte. */
static inline bool utf8_continues(uint8_t byte) {
        return (byte & 0xc0) == 0x80;
}

/* Return: how many bytes of a text of `len` are at most `max` and end with a character. */
static inline size_t utf8_fit(const void *text, size_t len, size_t max) {
        const uint8_t *bytes = text;

        if (len <= max)
                return len;
        while (max > 0 && utf8_continues(bytes[max]))
                max--;
        return max;
}
