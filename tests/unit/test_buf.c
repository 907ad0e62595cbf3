/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "base/buf.h"

static void test_limit_is_exact(void **state) {
        CLEANUP_BUF struct buf buf = {.limit = 512};
        uint8_t block[512] = {0};

        (void)state;
        buf_append(&buf, block, 512);
        assert_int_equal(buf_error(&buf), 0);
        assert_int_equal(buf.len, 512);
        buf_append(&buf, block, 1);
        assert_int_equal(buf_error(&buf), -EMSGSIZE);
        assert_int_equal(buf.len, 512);
}

static void test_error_sticks_until_reset(void **state) {
        CLEANUP_BUF struct buf buf = {.limit = 4};

        (void)state;
        buf_append_str(&buf, "too long");
        buf_append_str(&buf, "ok");
        assert_int_equal(buf.len, 0);
        assert_int_equal(buf_error(&buf), -EMSGSIZE);
        buf_reset(&buf);
        buf_append_str(&buf, "ok");
        assert_int_equal(buf.len, 2);
        assert_int_equal(buf_error(&buf), 0);
}

static void test_overflow_is_refused(void **state) {
        CLEANUP_BUF struct buf buf = {0};

        (void)state;
        buf_append_str(&buf, "x");
        assert_null(buf_reserve(&buf, SIZE_MAX));
        assert_int_equal(buf_error(&buf), -EMSGSIZE);
}

static void test_consume(void **state) {
        CLEANUP_BUF struct buf buf = {0};

        (void)state;
        buf_append_str(&buf, "abcdef");
        buf_consume(&buf, 2);
        assert_int_equal(buf.len, 4);
        assert_memory_equal(buf.data, "cdef", 4);
        buf_consume(&buf, 5);
        assert_int_equal(buf.len, 0);
}

static void test_printf_and_take(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        char *text;

        (void)state;
        buf_printf(&buf, "%s=%d", "n", 42);
        text = buf_take_str(&buf);
        assert_string_equal(text, "n=42");
        free(text);
        assert_int_equal(buf.len, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit_is_exact),      cmocka_unit_test(test_error_sticks_until_reset),
                cmocka_unit_test(test_overflow_is_refused), cmocka_unit_test(test_consume),
                cmocka_unit_test(test_printf_and_take),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
