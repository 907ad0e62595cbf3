/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One value of anything, with a limit. A scan says the same whether the bytes come one by one or at once; of what it has
 * accepted, exactly the readers of a value's type take it and never step beyond it; a message's parts lie in the message.
 */

#include "fuzz.h"
#include "wire/rpc.h"

static enum mp_scan_status scan(const uint8_t *data, size_t len, size_t limit, size_t *ret_len) {
        struct mp_scan once = {0}, bytewise = {0};
        enum mp_scan_status expected = mp_scan(&once, data, len, limit), status = MP_SCAN_MORE;

        for (size_t i = 0; i <= len && status == MP_SCAN_MORE; i++)
                status = mp_scan(&bytewise, data, i, limit);
        CHECK(status == expected);
        CHECK(status != MP_SCAN_DONE || (once.pos == bytewise.pos && once.pos <= MIN(len, limit)));
        *ret_len = once.pos;
        return status;
}

#define TRY(bit, reader, ...)                                                             \
        do {                                                                              \
                struct mp_cur at_ = *cur;                                                 \
                bool took_ = reader(&at_, ##__VA_ARGS__);                                 \
                CHECK(took_ ? at_.at > cur->at &&at_.at <= cur->end : at_.at == cur->at); \
                taken |= took_ ? 1u << (bit) : 0;                                         \
        } while (0)

/* Return: a bit for each type whose reader takes the next value. */
static unsigned readers(const struct mp_cur *cur) {
        unsigned taken = 0;
        uint64_t u;
        uint32_t n;
        struct mp slice;
        int64_t i;
        int8_t type;
        double d;
        bool b;

        TRY(MP_NIL, mp_read_nil);
        TRY(MP_BOOL, mp_read_bool, &b);
        TRY(MP_INT, mp_read_int, &i);
        TRY(MP_UINT, mp_read_uint, &u);
        TRY(MP_FLOAT, mp_read_float, &d);
        TRY(MP_STR, mp_read_str, &slice);
        TRY(MP_BIN, mp_read_bin, &slice);
        TRY(MP_EXT, mp_read_ext, &type, &slice);
        TRY(MP_ARRAY, mp_read_array, &n);
        TRY(MP_MAP, mp_read_map, &n);
        return taken;
}

static void walk(struct mp_cur *cur) {
        enum mp_type type = mp_peek(cur);
        unsigned taken = readers(cur), wanted = 1u << type | (type == MP_INT || type == MP_UINT ? 1u << MP_FLOAT : 0);
        struct mp value;
        uint32_t n;

        CHECK(type != MP_END && (taken == wanted || (type == MP_UINT && taken == (wanted | 1u << MP_INT))));
        if (mp_read_array(cur, &n) || (mp_read_map(cur, &n) && (n *= 2, true)))
                for (; n > 0; n--)
                        walk(cur);
        else
                CHECK(mp_read_any(cur, &value) && mp_is_value(value));
}

static bool lies_in(struct mp part, struct mp whole) {
        return part.data >= whole.data && part.data + part.len <= whole.data + whole.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct mp value = {data + 1, 0}, found;
        struct mp_cur cur;
        struct rpc_msg msg;

        if (len < 1 || scan(data + 1, len - 1, data[0] < 255 ? data[0] : SIZE_MAX, &value.len) != MP_SCAN_DONE)
                return 0;
        cur = mp_cur(value);
        walk(&cur);
        CHECK(cur.at == cur.end && mp_is_value(value));
        free(mp_dup_str(value));
        if (rpc_parse(value, &msg))
                return 0;
        if (msg.kind == RPC_RESPONSE) {
                CHECK(lies_in(msg.error, value) && lies_in(msg.result, value) && mp_is_value(msg.error) &&
                      mp_is_value(msg.result));
        } else {
                CHECK(lies_in(msg.method, value) && mp_is_value(msg.params));
                if (mp_map_get(msg.params, "payload", &found))
                        CHECK(lies_in(found, msg.params) && mp_is_value(found));
        }
        return 0;
}
