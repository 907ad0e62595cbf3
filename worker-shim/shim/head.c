/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The extension is loaded into whatever Python a plugin's venv has, beside whatever libraries the plugin loads, so it brings
 * its own small reading of msgpack and links nothing: a second msgpack-c in the same process, of another version, is not a
 * thought to have at night.
 */

#include "head.h"

/* clang-format off */
/* What stands behind the bytes 0xc0 … 0xdf: the kind, the bytes of big-endian number that follow, and a length that is fixed. */
static const struct {
        uint8_t kind, width, fixed;
} forms[32] = {
        {HEAD_NIL, 0, 0},     {HEAD_BAD, 0, 0},   {HEAD_FALSE, 0, 0}, {HEAD_TRUE, 0, 0},  /* c0 */
        {HEAD_BIN, 1, 0},     {HEAD_BIN, 2, 0},   {HEAD_BIN, 4, 0},                       /* c4 */
        {HEAD_EXT, 1, 0},     {HEAD_EXT, 2, 0},   {HEAD_EXT, 4, 0},                       /* c7 */
        {HEAD_FLOAT32, 4, 0}, {HEAD_FLOAT64, 8, 0},                                       /* ca */
        {HEAD_UINT, 1, 0},    {HEAD_UINT, 2, 0},  {HEAD_UINT, 4, 0},  {HEAD_UINT, 8, 0},  /* cc */
        {HEAD_INT, 1, 0},     {HEAD_INT, 2, 0},   {HEAD_INT, 4, 0},   {HEAD_INT, 8, 0},   /* d0 */
        {HEAD_EXT, 0, 1},     {HEAD_EXT, 0, 2},   {HEAD_EXT, 0, 4},   {HEAD_EXT, 0, 8},   {HEAD_EXT, 0, 16}, /* d4 */
        {HEAD_STR, 1, 0},     {HEAD_STR, 2, 0},   {HEAD_STR, 4, 0},                       /* d9 */
        {HEAD_ARRAY, 2, 0},   {HEAD_ARRAY, 4, 0}, {HEAD_MAP, 2, 0},   {HEAD_MAP, 4, 0},   /* dc */
};
/* clang-format on */

static uint64_t read_number(const uint8_t *at, unsigned width) {
        uint64_t n = 0;

        while (width-- > 0)
                n = n << 8 | *at++;
        return n;
}

static uint64_t extend_sign(uint64_t n, unsigned width) {
        unsigned unused = 64 - 8 * width;

        return (uint64_t)((int64_t)(n << unused) >> unused);
}

static bool read_long_form(const uint8_t *at, size_t avail, struct head *ret) {
        unsigned form = at[0] - 0xc0u, width = forms[form].width;
        struct head head = {.kind = forms[form].kind, .size = (uint8_t)(1 + width), .n = forms[form].fixed};

        if (head.kind == HEAD_EXT)
                head.size++;
        if (avail < head.size)
                return false;
        if (width > 0)
                head.n = read_number(at + 1, width);
        if (head.kind == HEAD_INT)
                head.n = extend_sign(head.n, width);
        if (head.kind == HEAD_EXT)
                head.ext = (int8_t)at[1 + width];
        *ret = head;
        return true;
}

bool head_read(const uint8_t *at, size_t avail, struct head *ret) {
        uint8_t first;

        if (avail == 0)
                return false;
        first = at[0];
        if (first < 0x80)
                *ret = (struct head){.kind = HEAD_UINT, .size = 1, .n = first};
        else if (first < 0x90)
                *ret = (struct head){.kind = HEAD_MAP, .size = 1, .n = first & 0x0fu};
        else if (first < 0xa0)
                *ret = (struct head){.kind = HEAD_ARRAY, .size = 1, .n = first & 0x0fu};
        else if (first < 0xc0)
                *ret = (struct head){.kind = HEAD_STR, .size = 1, .n = first & 0x1fu};
        else if (first >= 0xe0)
                *ret = (struct head){.kind = HEAD_INT, .size = 1, .n = extend_sign(first, 1)};
        else
                return read_long_form(at, avail, ret);
        return true;
}

/* A value is complete: so may be the arrays and maps that it ends. Return: whether it was the outermost. */
static bool walk_up(struct walk *walk) {
        while (walk->depth > 0 && --walk->left[walk->depth - 1] == 0)
                walk->depth--;
        return walk->depth == 0;
}

enum walk_status walk_on(struct walk *walk, const uint8_t *data, size_t len, size_t limit) {
        struct head head;
        uint64_t n;

        while (!walk->ended) {
                /* `pos` may lie ahead of `len`: the end of a string that is still arriving. */
                if (walk->pos >= len || !head_read(data + walk->pos, len - walk->pos, &head))
                        return walk->pos >= limit ? WALK_BIG : WALK_MORE;
                if (head.kind == HEAD_BAD)
                        return WALK_BAD;
                walk->pos += head.size;

                n = head.kind == HEAD_MAP ? head.n * 2 : head.n;
                if (walk->pos > limit || (head.kind >= HEAD_STR && n > limit - walk->pos))
                        return WALK_BIG;
                if (head.kind >= HEAD_ARRAY && n > 0) {
                        if (walk->depth == DEPTH_MAX)
                                return WALK_DEEP;
                        walk->left[walk->depth++] = n;
                        continue;
                }
                if (head.kind >= HEAD_STR && head.kind <= HEAD_EXT)
                        walk->pos += n;
                walk->ended = walk_up(walk);
        }
        return walk->pos <= len ? WALK_DONE : WALK_MORE;
}
