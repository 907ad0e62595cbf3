/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "wire/rpc.h"

static struct mp whole(const struct buf *buf) {
        return (struct mp){buf->data, buf->len};
}

static void test_request_round_trip(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct rpc_msg msg;

        (void)state;
        rpc_put_request(&buf, UINT32_MAX, "invoke");
        mp_put_map(&buf, 0);
        assert_null(rpc_parse(whole(&buf), &msg));
        assert_int_equal(msg.kind, RPC_REQUEST);
        assert_true(msg.id == UINT32_MAX);
        assert_true(rpc_method_is(&msg, "invoke"));
        assert_false(rpc_method_is(&msg, "invoked"));
        assert_int_equal(msg.params.len, 1);
}

static void test_error_round_trip(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct rpc_msg msg;
        struct mp code;

        (void)state;
        rpc_put_protocol_error(&buf, 7, "limit", "more than %d", 3);
        assert_null(rpc_parse(whole(&buf), &msg));
        assert_int_equal(msg.kind, RPC_RESPONSE);
        assert_int_equal(msg.id, 7);
        assert_true(mp_map_get(msg.error, "code", &code));
        assert_true(mp_eq_str(code, "limit"));
        assert_true(mp_is_nil(msg.result));
}

static void refuse(const uint8_t *data, size_t len) {
        struct rpc_msg msg;

        assert_non_null(rpc_parse((struct mp){data, len}, &msg));
}

#define REFUSE(...) refuse((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_bad_envelopes(void **state) {
        (void)state;
        REFUSE(0xc0);                                                   /* no array */
        REFUSE(0x90);                                                   /* empty */
        REFUSE(0x94, 3, 1, 0xa1, 'm', 0x90);                            /* kind 3 */
        REFUSE(0x94, 0xff, 1, 0xa1, 'm', 0x90);                         /* kind -1 */
        REFUSE(0x93, 0, 1, 0xa1, 'm');                                  /* too short */
        REFUSE(0x94, 0, 0xff, 0xa1, 'm', 0x90);                         /* negative id */
        REFUSE(0x94, 0, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 0xa1, 'm', 0x90); /* id of 33 bits */
        REFUSE(0x94, 0, 1, 5, 0x90);                                    /* method is a number */
        REFUSE(0x94, 0, 1, 0xa1, 'm', 0x80);                            /* params no array */
        REFUSE(0x94, 0, 1, 0xa1, 'm', 0x91, 1);                         /* params no map */
        REFUSE(0x94, 0, 1, 0xa1, 'm', 0x92, 0x80, 0x80);                /* two params */
        REFUSE(0x94, 1, 1, 5, 0xc0);                                    /* error no map */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_request_round_trip),
                cmocka_unit_test(test_error_round_trip),
                cmocka_unit_test(test_bad_envelopes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
