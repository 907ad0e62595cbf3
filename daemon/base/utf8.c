/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says how long a character is, and the value that comes out whether it had to be so long.
 */

#include "base/utf8.h"

size_t utf8_decode(const uint8_t *at, size_t left, uint32_t *ret_char) {
        static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
        uint32_t c;

        if (n == 0 || n > left)
                return 0;
        c = n == 1 ? at[0] : at[0] & (0x7fu >> n);
        for (size_t i = 1; i < n; i++) {
                if (!utf8_continues(at[i]))
                        return 0;
                c = c << 6 | (at[i] & 0x3fu);
        }
        if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return 0;
        *ret_char = c;
        return n;
}

bool utf8_is_valid(const uint8_t *text, size_t len) {
        uint32_t ignored;

        for (size_t at = 0, n; at < len; at += n) {
                n = utf8_decode(text + at, len - at, &ignored);
                if (n == 0)
                        return false;
        }
        return true;
}
