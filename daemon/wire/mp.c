/* SPDX-License-Identifier: Apache-2.0 */

/*
 * msgpack-c's unpacker allocates what a header declares before the elements have arrived, so five bytes can ask for 96 GiB. The
 * daemon therefore never unpacks: it walks. A walk costs one step a header, and the content of strings and binaries is
 * skipped by its declared length, so that a payload of a megabyte is one step.
 *
 * Each declared count is held against the limit at once (an element takes at least one byte), so that the walk of a value which
 * can never become acceptable ends at its header and not when memory does.
 */

#include "wire/mp.h"

#include <msgpack.h>

#include "base/utf8.h"

/* What a header says of itself. */
struct head {
        enum mp_type type;
        unsigned size;  /* bytes of the header, with the fixed-width value of scalars; 0: unknown byte */
        uint64_t count; /* bytes (str, bin, ext) or values (array, map) that follow */
};

const struct mp mp_empty_map = {(const uint8_t[]){0x80}, 1}, mp_empty_array = {(const uint8_t[]){0x90}, 1};

static uint64_t be(const uint8_t *p, unsigned n) {
        uint64_t v = 0;

        for (unsigned i = 0; i < n; i++)
                v = v << 8 | p[i];
        return v;
}

/* What the first byte says: type, bytes of the header, bytes of the count in it, and which bits of the byte itself are the count. */
static const struct {
        uint8_t type, size, count, mask;
} formats[256] = {
        [0x00 ... 0x7f] = {MP_UINT, 1, 0, 0},
        [0x80 ... 0x8f] = {MP_MAP, 1, 0, 0x0f},
        [0x90 ... 0x9f] = {MP_ARRAY, 1, 0, 0x0f},
        [0xa0 ... 0xbf] = {MP_STR, 1, 0, 0x1f},
        [0xc0] = {MP_NIL, 1, 0, 0},
        [0xc1] = {MP_END, 0, 0, 0},
        [0xc2 ... 0xc3] = {MP_BOOL, 1, 0, 0},
        [0xc4] = {MP_BIN, 2, 1, 0},
        [0xc5] = {MP_BIN, 3, 2, 0},
        [0xc6] = {MP_BIN, 5, 4, 0},
        [0xc7] = {MP_EXT, 3, 1, 0},
        [0xc8] = {MP_EXT, 4, 2, 0},
        [0xc9] = {MP_EXT, 6, 4, 0},
        [0xca] = {MP_FLOAT, 5, 0, 0},
        [0xcb] = {MP_FLOAT, 9, 0, 0},
        [0xcc] = {MP_UINT, 2, 0, 0},
        [0xcd] = {MP_UINT, 3, 0, 0},
        [0xce] = {MP_UINT, 5, 0, 0},
        [0xcf] = {MP_UINT, 9, 0, 0},
        [0xd0] = {MP_INT, 2, 0, 0},
        [0xd1] = {MP_INT, 3, 0, 0},
        [0xd2] = {MP_INT, 5, 0, 0},
        [0xd3] = {MP_INT, 9, 0, 0},
        [0xd4 ... 0xd8] = {MP_EXT, 2, 0, 0},
        [0xd9] = {MP_STR, 2, 1, 0},
        [0xda] = {MP_STR, 3, 2, 0},
        [0xdb] = {MP_STR, 5, 4, 0},
        [0xdc] = {MP_ARRAY, 3, 2, 0},
        [0xdd] = {MP_ARRAY, 5, 4, 0},
        [0xde] = {MP_MAP, 3, 2, 0},
        [0xdf] = {MP_MAP, 5, 4, 0},
        [0xe0 ... 0xff] = {MP_INT, 1, 0, 0},
};

/* Return: false when the header has not arrived whole. */
static inline bool head_read(const uint8_t *p, size_t len, struct head *head) {
        uint8_t b;

        if (len == 0)
                return false;
        b = p[0];
        *head = (struct head){formats[b].type, formats[b].size, b & formats[b].mask};
        if (head->size <= 1)
                return true;
        if (head->size > len)
                return false;
        if (b >= 0xd4 && b <= 0xd8) /* fixext */
                head->count = 1ull << (b - 0xd4);
        else if (formats[b].count)
                head->count = be(p + 1, formats[b].count);
        else if (b >= 0xd0 && b <= 0xd3 && !(p[1] & 0x80))
                head->type = MP_UINT;
        return true;
}

static bool has_bytes(enum mp_type type) {
        return type == MP_STR || type == MP_BIN || type == MP_EXT;
}

/* A value is complete: so may be the containers around it. Return: whether the outermost one is. */
static bool scan_close(struct mp_scan *scan) {
        while (scan->depth > 0 && --scan->left[scan->depth - 1] == 0)
                scan->depth--;
        return scan->depth == 0;
}

enum mp_scan_status mp_scan(struct mp_scan *scan, const uint8_t *data, size_t len, size_t limit) {
        struct head head;

        for (;;) {
                uint64_t n;

                if (scan->pos > len)
                        return MP_SCAN_MORE;
                /* Nothing is open any more, and what was skipped last has arrived. */
                if (scan->pos > 0 && scan->depth == 0)
                        return MP_SCAN_DONE;
                if (scan->pos >= limit)
                        return MP_SCAN_BIG;
                if (scan->pos == len || !head_read(data + scan->pos, len - scan->pos, &head))
                        return MP_SCAN_MORE;
                if (head.size == 0)
                        return MP_SCAN_BAD;

                n = head.type == MP_MAP ? 2 * head.count : head.count;
                if (scan->pos + head.size > limit || n > limit - scan->pos - head.size)
                        return MP_SCAN_BIG;
                scan->pos += head.size;
                if (has_bytes(head.type)) {
                        scan->pos += n;
                } else if (n > 0) {
                        scan->values += n;
                        if (scan->most > 0 && scan->values > scan->most)
                                return MP_SCAN_MANY;
                        if (scan->depth == MP_DEPTH_MAX)
                                return MP_SCAN_DEEP;
                        scan->left[scan->depth++] = n;
                        scan->deepest = MAX(scan->deepest, scan->depth);
                        continue;
                }
                if (scan_close(scan))
                        return scan->pos <= len ? MP_SCAN_DONE : MP_SCAN_MORE;
        }
}

bool mp_is_value(struct mp value) {
        struct mp_scan scan = {0};

        return mp_scan(&scan, value.data, value.len, value.len) == MP_SCAN_DONE && scan.pos == value.len;
}

uint64_t mp_count(struct mp value, uint64_t n, uint64_t most) {
        struct mp_scan scan = {.values = n, .most = most};

        (void)mp_scan(&scan, value.data, value.len, value.len);
        return scan.values;
}

/* At the beginning, but for what lies above its depth. */
static void scan_begin(struct mp_scan *scan) {
        scan->pos = 0;
        scan->depth = scan->deepest = 0;
        scan->values = scan->most = 0;
}

unsigned mp_depth(struct mp value) {
        struct mp_scan scan;

        scan_begin(&scan);
        (void)mp_scan(&scan, value.data, value.len, value.len);
        return scan.deepest;
}

static bool cur_head(const struct mp_cur *cur, struct head *head) {
        return head_read(cur->at, (size_t)(cur->end - cur->at), head) && head->size > 0 &&
               head->size <= (size_t)(cur->end - cur->at);
}

enum mp_type mp_peek(const struct mp_cur *cur) {
        struct head head;

        return cur_head(cur, &head) ? head.type : MP_END;
}

bool mp_read_nil(struct mp_cur *cur) {
        if (mp_peek(cur) != MP_NIL)
                return false;
        cur->at++;
        return true;
}

bool mp_read_bool(struct mp_cur *cur, bool *ret) {
        if (mp_peek(cur) != MP_BOOL)
                return false;
        *ret = *cur->at++ == 0xc3;
        return true;
}

bool mp_read_uint(struct mp_cur *cur, uint64_t *ret) {
        struct head head;

        if (!cur_head(cur, &head) || head.type != MP_UINT)
                return false;
        *ret = head.size == 1 ? cur->at[0] : be(cur->at + 1, head.size - 1);
        cur->at += head.size;
        return true;
}

bool mp_read_int(struct mp_cur *cur, int64_t *ret) {
        struct mp_cur try = *cur;
        struct head head;
        unsigned bits;
        uint64_t u;

        if (mp_read_uint(&try, &u)) {
                if (u > INT64_MAX)
                        return false;
                *ret = (int64_t)u;
                *cur = try;
                return true;
        }
        if (!cur_head(cur, &head) || head.type != MP_INT)
                return false;
        if (head.size == 1) {
                *ret = (int8_t)cur->at[0];
        } else {
                bits = 64 - 8 * (head.size - 1);
                *ret = (int64_t)(be(cur->at + 1, head.size - 1) << bits) >> bits;
        }
        cur->at += head.size;
        return true;
}

bool mp_read_float(struct mp_cur *cur, double *ret) {
        struct head head;
        uint64_t u;
        int64_t i;

        if (mp_read_uint(cur, &u)) {
                *ret = (double)u;
                return true;
        }
        if (mp_read_int(cur, &i)) {
                *ret = (double)i;
                return true;
        }
        if (!cur_head(cur, &head) || head.type != MP_FLOAT)
                return false;
        u = be(cur->at + 1, head.size - 1);
        if (head.size == 5) {
                uint32_t narrow = (uint32_t)u;
                float f;

                memcpy(&f, &narrow, sizeof(f));
                *ret = (double)f;
        } else {
                memcpy(ret, &u, sizeof(*ret));
        }
        cur->at += head.size;
        return true;
}

static bool read_bytes(struct mp_cur *cur, enum mp_type type, struct mp *ret) {
        struct head head;

        if (!cur_head(cur, &head) || head.type != type || head.count > (size_t)(cur->end - cur->at) - head.size)
                return false;
        *ret = (struct mp){cur->at + head.size, (size_t)head.count};
        cur->at += head.size + head.count;
        return true;
}

bool mp_read_str(struct mp_cur *cur, struct mp *ret) {
        return read_bytes(cur, MP_STR, ret);
}

bool mp_read_bin(struct mp_cur *cur, struct mp *ret) {
        return read_bytes(cur, MP_BIN, ret);
}

bool mp_read_ext(struct mp_cur *cur, int8_t *ret_type, struct mp *ret) {
        if (!read_bytes(cur, MP_EXT, ret))
                return false;
        *ret_type = (int8_t)ret->data[-1];
        return true;
}

static bool read_count(struct mp_cur *cur, enum mp_type type, uint32_t *ret_n) {
        struct head head;

        if (!cur_head(cur, &head) || head.type != type)
                return false;
        *ret_n = (uint32_t)head.count;
        cur->at += head.size;
        return true;
}

bool mp_read_array(struct mp_cur *cur, uint32_t *ret_n) {
        return read_count(cur, MP_ARRAY, ret_n);
}

bool mp_read_map(struct mp_cur *cur, uint32_t *ret_n) {
        return read_count(cur, MP_MAP, ret_n);
}

bool mp_read_any(struct mp_cur *cur, struct mp *ret) {
        struct mp_scan scan;
        size_t len = (size_t)(cur->end - cur->at);

        scan_begin(&scan);
        if (mp_scan(&scan, cur->at, len, len) != MP_SCAN_DONE)
                return false;
        *ret = (struct mp){cur->at, scan.pos};
        cur->at += scan.pos;
        return true;
}

bool mp_map_get(struct mp map, const char *key, struct mp *ret) {
        struct mp_cur cur = mp_cur(map);
        bool found = false;
        uint32_t n;

        if (!mp_read_map(&cur, &n))
                return false;
        for (; n > 0; n--) {
                struct mp k, v;

                if (!mp_read_any(&cur, &k) || !mp_read_any(&cur, &v))
                        return false;
                if (mp_eq_str(k, key)) {
                        *ret = v;
                        found = true;
                }
        }
        return found;
}

struct mp mp_map_value(struct mp map, const char *key) {
        struct mp value;

        return mp_map_get(map, key, &value) ? value : (struct mp){0};
}

struct mp mp_map_text(struct mp map, const char *key) {
        struct mp_cur cur = mp_cur(mp_map_value(map, key));
        struct mp text = {0};

        (void)mp_read_str(&cur, &text);
        return text;
}

bool mp_is_nil(struct mp value) {
        return value.len == 0 || value.data[0] == 0xc0;
}

bool mp_eq_str(struct mp value, const char *string) {
        struct mp_cur cur = mp_cur(value);
        struct mp text;

        return mp_read_str(&cur, &text) && text.len == strlen(string) && memcmp(text.data, string, text.len) == 0;
}

bool mp_same_str(struct mp a, struct mp b) {
        struct mp_cur cur_a = mp_cur(a), cur_b = mp_cur(b);
        struct mp text_a, text_b;

        return mp_read_str(&cur_a, &text_a) && mp_read_str(&cur_b, &text_b) && text_a.len == text_b.len &&
               memcmp(text_a.data, text_b.data, text_a.len) == 0;
}

char *mp_dup_str(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp text;
        char *copy;

        if (!mp_read_str(&cur, &text) || memchr(text.data, 0, text.len))
                return NULL;
        copy = malloc(text.len + 1);
        if (copy) {
                memcpy(copy, text.data, text.len);
                copy[text.len] = 0;
        }
        return copy;
}

/* ---- Writing ---- */

static int write_to_buf(void *data, const char *bytes, size_t len) {
        buf_append(data, bytes, len);
        return 0;
}

/* msgpack_packer is two words, so making one for each value costs nothing. */
static msgpack_packer packer(struct buf *buf) {
        return (msgpack_packer){.data = buf, .callback = write_to_buf};
}

#define PACK(buf, function, ...)                         \
        do {                                             \
                msgpack_packer packer_ = packer(buf);    \
                (void)function(&packer_, ##__VA_ARGS__); \
        } while (0)

void mp_put_nil(struct buf *buf) {
        PACK(buf, msgpack_pack_nil);
}

void mp_put_bool(struct buf *buf, bool value) {
        if (value)
                PACK(buf, msgpack_pack_true);
        else
                PACK(buf, msgpack_pack_false);
}

void mp_put_int(struct buf *buf, int64_t value) {
        PACK(buf, msgpack_pack_int64, value);
}

void mp_put_uint(struct buf *buf, uint64_t value) {
        PACK(buf, msgpack_pack_uint64, value);
}

void mp_put_float(struct buf *buf, double value) {
        PACK(buf, msgpack_pack_double, value);
}

void mp_put_strn(struct buf *buf, const void *text, size_t len) {
        PACK(buf, msgpack_pack_str, len);
        buf_append(buf, text, len);
}

void mp_put_str(struct buf *buf, const char *text) {
        if (text)
                mp_put_strn(buf, text, strlen(text));
        else
                mp_put_nil(buf);
}

void mp_put_text(struct buf *buf, const void *text, size_t len) {
        uint32_t ignored;
        uint8_t *copy;

        mp_put_strn(buf, text, len);
        if (buf_error(buf) < 0)
                return;
        copy = buf->data + buf->len - len;
        for (size_t i = 0, width; i < len; i += MAX(width, (size_t)1)) {
                width = utf8_decode(copy + i, len - i, &ignored);
                if (width == 0)
                        copy[i] = '?';
        }
}

void mp_put_bin(struct buf *buf, const void *data, size_t len) {
        PACK(buf, msgpack_pack_bin, len);
        buf_append(buf, data, len);
}

void mp_put_bin_tail(struct buf *buf, struct buf *tail, struct buf *from, struct mp content) {
        if (content.len < BUF_SHARE_MIN) {
                mp_put_bin(buf, content.data, content.len);
                return;
        }
        PACK(buf, msgpack_pack_bin, content.len);
        buf_share(tail, from, content.data, content.len);
        if (buf_error(tail))
                buf->error = buf_error(tail);
}

void mp_put_ext(struct buf *buf, int8_t type, const void *data, size_t len) {
        PACK(buf, msgpack_pack_ext, len, type);
        buf_append(buf, data, len);
}

void mp_put_array(struct buf *buf, size_t n) {
        PACK(buf, msgpack_pack_array, n);
}

void mp_put_map(struct buf *buf, size_t n) {
        PACK(buf, msgpack_pack_map, n);
}

void mp_put_raw(struct buf *buf, struct mp value) {
        if (value.len > 0)
                buf_append(buf, value.data, value.len);
        else
                mp_put_nil(buf);
}

/* A header of fixed width (map 32, array 32) whose count is filled in later. */
static size_t count_begin(struct buf *buf, uint8_t format) {
        size_t at = buf->len;

        buf_append(buf, (const uint8_t[]){format, 0, 0, 0, 0}, 5);
        return at;
}

static void count_end(struct buf *buf, size_t handle, size_t n) {
        if (buf->error)
                return;
        for (unsigned i = 0; i < 4; i++)
                buf->data[handle + 1 + i] = (uint8_t)(n >> (8 * (3 - i)));
}

size_t mp_map_begin(struct buf *buf) {
        return count_begin(buf, 0xdf);
}

void mp_map_end(struct buf *buf, size_t handle, size_t n) {
        count_end(buf, handle, n);
}

size_t mp_array_begin(struct buf *buf) {
        return count_begin(buf, 0xdd);
}

void mp_array_end(struct buf *buf, size_t handle, size_t n) {
        count_end(buf, handle, n);
}
