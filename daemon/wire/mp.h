/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * msgpack as cpexd reads and writes it.
 *
 * Reading never allocates and never trusts a declared count: `mp_scan` walks the headers of a value that may still be
 * arriving and finds its end or refuses it; the readers below then take apart, in place, bytes that a scan has accepted. A
 * value that is only passed on stays a `struct mp` slice and is copied once, into the message that carries it on.
 *
 * Writing goes through msgpack-c's packer into a `struct buf`, whose sticky error the writer checks once (base/buf.h).
 */

#include "base/buf.h"

#define MP_DEPTH_MAX 128 /* arrays and maps inside each other, in one message */

#define MP_EXT_SECRET 1 /* a secret string: the UTF-8 text */
#define MP_EXT_BIGINT 2 /* an integer beyond 64 bits: two's complement, big endian */
#define MP_EXT_DATE 3   /* a date of YAML, perhaps with a time: as ISO 8601 writes it */

/* Bytes in somebody else's memory: one whole value, or the content of a str or bin. */
struct mp {
        const uint8_t *data;
        size_t len;
};

/* ---- Finding the end of a value ---- */

enum mp_scan_status {
        MP_SCAN_DONE, /* a whole value stands in the first `pos` bytes */
        MP_SCAN_MORE, /* so far so good; more bytes are needed */
        MP_SCAN_BAD,  /* not msgpack: the reserved byte 0xc1 */
        MP_SCAN_DEEP, /* deeper than MP_DEPTH_MAX */
        MP_SCAN_BIG,  /* declares more bytes or elements than `limit` allows */
        MP_SCAN_MANY, /* declares more values than `most` */
};

/* A walk that can be taken up again where the bytes ended. Zeroed memory is a walk at its beginning. */
struct mp_scan {
        size_t pos;
        unsigned depth, deepest;
        uint64_t values, most;       /* declared by arrays and maps so far; how many may be, 0: any */
        uint64_t left[MP_DEPTH_MAX]; /* values still to come on each level */
};

/* Walks on through `data`, the bytes from the beginning of the value. `limit`: the longest value accepted, in bytes. The time is
 * proportional to the headers that are new since the last call. */
enum mp_scan_status mp_scan(struct mp_scan *scan, const uint8_t *data, size_t len, size_t limit);

/* Return: whether `value` is exactly one well-formed value. */
bool mp_is_value(struct mp value);

/* Return: `n` and how many values the arrays and maps of a value declare, which need not be well-formed; where that is more than `most`, perhaps
 * not all. */
uint64_t mp_count(struct mp value, uint64_t n, uint64_t most);

/* Return: how deep arrays and maps are nested in a value that a scan has accepted. */
unsigned mp_depth(struct mp value);

/* ---- Reading a value that a scan has accepted ---- */

enum mp_type { MP_NIL, MP_BOOL, MP_INT, MP_UINT, MP_FLOAT, MP_STR, MP_BIN, MP_ARRAY, MP_MAP, MP_EXT, MP_END };

/* Where a reader stands. The readers step over what they return; on a value of another type they return false and stay. */
struct mp_cur {
        const uint8_t *at, *end;
};

static inline struct mp_cur mp_cur(struct mp value) {
        return (struct mp_cur){value.data, value.len > 0 ? value.data + value.len : value.data}; /* nothing may be NULL */
}

/* Return: the type of the next value; MP_END where there is none. Non-negative integers are MP_UINT. */
enum mp_type mp_peek(const struct mp_cur *cur);

bool mp_read_nil(struct mp_cur *cur);
bool mp_read_bool(struct mp_cur *cur, bool *ret);
bool mp_read_int(struct mp_cur *cur, int64_t *ret);
bool mp_read_uint(struct mp_cur *cur, uint64_t *ret);
bool mp_read_float(struct mp_cur *cur, double *ret); /* also takes integers */
bool mp_read_str(struct mp_cur *cur, struct mp *ret);
bool mp_read_bin(struct mp_cur *cur, struct mp *ret);
bool mp_read_ext(struct mp_cur *cur, int8_t *ret_type, struct mp *ret);
bool mp_read_array(struct mp_cur *cur, uint32_t *ret_n);
bool mp_read_map(struct mp_cur *cur, uint32_t *ret_n); /* n pairs */

/* Steps over the next value, whatever it is. Return: false at the end. */
bool mp_read_any(struct mp_cur *cur, struct mp *ret);

/* Looks a key up in a map. Return: false where `map` is no map or has no such key. The last of equal keys counts. */
bool mp_map_get(struct mp map, const char *key, struct mp *ret);

/* Return: the value under a key; empty where there is none. */
struct mp mp_map_value(struct mp map, const char *key);

/* Return: the content of the str under a key; empty where there is none. */
struct mp mp_map_text(struct mp map, const char *key);

extern const struct mp mp_empty_map, mp_empty_array;

bool mp_is_nil(struct mp value);
bool mp_eq_str(struct mp value, const char *string);

/* Return: whether the content of a str is `string`. */
static inline bool mp_is_text(struct mp text, const char *string) {
        return text.len > 0 && text.data[0] == (uint8_t)string[0] && text.len == strlen(string) &&
               memcmp(text.data, string, text.len) == 0;
}

/* Return: whether both are str with the same content, however encoded. */
bool mp_same_str(struct mp a, struct mp b);

/* Return: whether two values are equal in Python: numbers and booleans by value, maps in any order. Values that differ in the order of
 * their keys on very many levels may count as different. */
bool mp_same_value(struct mp a, struct mp b);

/* Return: the str `value` as a new C string, NULL when it is no str, has a NUL inside or memory is short. */
char *mp_dup_str(struct mp value);

/* ---- Writing ---- */

void mp_put_nil(struct buf *buf);
void mp_put_bool(struct buf *buf, bool value);
void mp_put_int(struct buf *buf, int64_t value);
void mp_put_uint(struct buf *buf, uint64_t value);
void mp_put_float(struct buf *buf, double value);
void mp_put_str(struct buf *buf, const char *text); /* NULL: nil */
void mp_put_strn(struct buf *buf, const void *text, size_t len);
void mp_put_text(struct buf *buf, const void *text, size_t len); /* any bytes: a '?' for each that is no UTF-8 */
void mp_put_bin(struct buf *buf, const void *data, size_t len);

/* A bin at the very end of a message. A large one is no copy: its content, which lies in `from`, follows the message as its tail. */
void mp_put_bin_tail(struct buf *buf, struct buf *tail, struct buf *from, struct mp content);

void mp_put_ext(struct buf *buf, int8_t type, const void *data, size_t len);
void mp_put_array(struct buf *buf, size_t n);
void mp_put_map(struct buf *buf, size_t n);
void mp_put_raw(struct buf *buf, struct mp value); /* a whole value; empty: nil */

/* Writes the header of a map whose size is not known yet. Return: a handle for mp_map_end(). */
size_t mp_map_begin(struct buf *buf);
void mp_map_end(struct buf *buf, size_t handle, size_t n);
size_t mp_array_begin(struct buf *buf);
void mp_array_end(struct buf *buf, size_t handle, size_t n);

/* Writes the union of two maps (either may be empty bytes: `{}`): the keys of `base` in order, with the values of `over` where it has
 * the key, then the rest of `over`; as Python's dict.update(). `skip`: a key to leave out of `over`, NULL: none. The time is
 * linear in the bytes, whatever the keys. */
void mp_put_merged(struct buf *buf, struct mp base, struct mp over, const char *skip);
