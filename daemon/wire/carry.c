/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One table for both directions, so that what is written and what is read cannot come apart. The state is no stranger's, but it may be
 * another version's: nothing is believed about its types.
 */

#include "wire/carry.h"

#include <fcntl.h>

#include "base/timer.h"

void carry_done(struct carry *carry) {
        buf_done(&carry->out);
        buf_done(&carry->fds);
}

void carry_keep(const struct carry *carry, bool keep) {
        int fd;

        for (size_t at = 0; at < carry->fds.len; at += sizeof(fd)) {
                memcpy(&fd, carry->fds.data + at, sizeof(fd));
                (void)fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
        }
}

static int64_t load_number(const void *from, size_t size) {
        return size == 8 ? *(const int64_t *)from : *(const int32_t *)from;
}

static bool store_number(void *to, size_t size, int64_t value) {
        if (size == 8)
                *(int64_t *)to = value;
        else
                *(int32_t *)to = (int32_t)value;
        return load_number(to, size) == value;
}

/* ---- Writing ---- */

static void put_fd(struct carry *carry, int fd) {
        mp_put_int(&carry->out, fd);
        if (fd >= 0)
                buf_append(&carry->fds, &fd, sizeof(fd));
        if (buf_error(&carry->fds))
                carry->out.error = buf_error(&carry->fds);
}

static void put_uints(struct carry *carry, const uint64_t *items, size_t n) {
        mp_put_array(&carry->out, n);
        for (size_t i = 0; i < n; i++)
                mp_put_uint(&carry->out, items[i]);
}

static void put_buf(struct carry *carry, const struct buf *buf) {
        mp_put_bin(&carry->out, buf->data, buf->len);
        if (buf_error(buf))
                carry->out.error = buf_error(buf);
}

void carry_put(struct carry *carry, const struct carried *table, size_t n, const void *object) {
        for (const struct carried *member = table; member < table + n; member++) {
                const void *from = (const char *)object + member->offset;

                mp_put_str(&carry->out, member->key);
                switch (member->kind) {
                case CARRY_BOOL:
                        mp_put_bool(&carry->out, *(const bool *)from);
                        break;
                case CARRY_UINT:
                        mp_put_uint(&carry->out, member->size == 8 ? *(const uint64_t *)from : *(const uint32_t *)from);
                        break;
                case CARRY_INT:
                        mp_put_int(&carry->out, load_number(from, member->size));
                        break;
                case CARRY_UINTS:
                        put_uints(carry, from, member->size / sizeof(uint64_t));
                        break;
                case CARRY_FD:
                        put_fd(carry, *(const int *)from);
                        break;
                case CARRY_STR:
                        mp_put_str(&carry->out, *(char *const *)from);
                        break;
                case CARRY_BYTES:
                        mp_put_bin(&carry->out, from, member->size);
                        break;
                case CARRY_BUF:
                        put_buf(carry, from);
                        break;
                case CARRY_SLICE:
                        mp_put_bin(&carry->out, ((const struct mp *)from)->data, ((const struct mp *)from)->len);
                        break;
                case CARRY_EVENT:
                        mp_put_uint(&carry->out, timer_at(from));
                        break;
                case CARRY_TIMER:
                        mp_put_uint(&carry->out, timer_at(*(struct event *const *)from));
                        break;
                }
        }
}

/* ---- Reading ---- */

static int get_uints(struct mp_cur *cur, uint64_t *items, size_t n_items) {
        uint32_t n;

        if (!mp_read_array(cur, &n) || n > n_items)
                return -EBADMSG;
        for (uint32_t i = 0; i < n; i++)
                if (!mp_read_uint(cur, &items[i]))
                        return -EBADMSG;
        return 0;
}

static int get_fd(struct mp_cur *cur, int *ret) {
        int64_t fd;

        if (!mp_read_int(cur, &fd) || fd < -1 || fd > INT32_MAX || (fd >= 0 && fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0))
                return -EBADMSG;
        *ret = (int)fd;
        return 0;
}

static int get_str(struct mp value, char **ret) {
        if (!mp_is_nil(value) && !(*ret = mp_dup_str(value)))
                return -ENOMEM;
        return 0;
}

static int get_bytes(struct mp_cur *cur, uint8_t *to, size_t size) {
        struct mp bytes;

        if (!mp_read_bin(cur, &bytes))
                return -EBADMSG;
        memcpy(to, bytes.data, MIN(bytes.len, size));
        to[size - 1] = 0;
        return 0;
}

static int get_buf(struct mp_cur *cur, struct buf *buf) {
        struct mp bytes;

        if (!mp_read_bin(cur, &bytes))
                return -EBADMSG;
        buf_append(buf, bytes.data, bytes.len);
        return buf_error(buf);
}

static int get_timer(struct mp_cur *cur, struct event *timer) {
        usec_t at_usec;

        if (!mp_read_uint(cur, &at_usec))
                return -EBADMSG;
        timer_start_at(timer, at_usec);
        return 0;
}

static int get_member(struct mp value, const struct carried *member, void *to) {
        struct mp_cur cur = mp_cur(value);
        uint64_t u;
        int64_t i;

        switch (member->kind) {
        case CARRY_BOOL:
                return mp_read_bool(&cur, to) ? 0 : -EBADMSG;
        case CARRY_UINT:
                if (!mp_read_uint(&cur, &u) || (member->size < 8 && u > UINT32_MAX))
                        return -EBADMSG;
                if (member->size == 8)
                        *(uint64_t *)to = u;
                else
                        *(uint32_t *)to = (uint32_t)u;
                return 0;
        case CARRY_INT:
                return mp_read_int(&cur, &i) && store_number(to, member->size, i) ? 0 : -EBADMSG;
        case CARRY_UINTS:
                return get_uints(&cur, to, member->size / sizeof(uint64_t));
        case CARRY_FD:
                return get_fd(&cur, to);
        case CARRY_STR:
                return get_str(value, to);
        case CARRY_BYTES:
                return get_bytes(&cur, to, member->size);
        case CARRY_BUF:
                return get_buf(&cur, to);
        case CARRY_SLICE:
                return mp_read_bin(&cur, to) ? 0 : -EBADMSG;
        case CARRY_EVENT:
                return get_timer(&cur, to);
        case CARRY_TIMER:
                return get_timer(&cur, *(struct event **)to);
        }
        return -EBADMSG;
}

int carry_get(struct mp map, const struct carried *table, size_t n, void *object) {
        struct mp_cur cur = mp_cur(map);
        struct mp key, value;
        uint32_t pairs;
        int r = 0;

        if (!mp_read_map(&cur, &pairs))
                return -EBADMSG;
        for (; r == 0 && pairs > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); pairs--)
                for (const struct carried *member = table; member < table + n; member++)
                        if (mp_eq_str(key, member->key)) {
                                r = get_member(value, member, (char *)object + member->offset);
                                break;
                        }
        return r;
}

struct carry_items carry_items(struct mp array) {
        struct carry_items items = {.cur = mp_cur(array)};

        if (!mp_read_array(&items.cur, &items.n))
                items.n = 0;
        return items;
}

bool carry_next(struct carry_items *items, struct mp *ret) {
        return items->n-- > 0 && mp_read_any(&items->cur, ret);
}
