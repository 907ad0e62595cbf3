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

static void test_share(void **state) {
        CLEANUP_BUF struct buf buf = {0}, part = {0}, other = {0};
        const uint8_t *at;

        (void)state;
        for (size_t i = 0; i < 2 * BUF_SHARE_MIN; i++)
                buf_append(&buf, &(uint8_t){(uint8_t)i}, 1);
        at = buf.data;
        buf_share(&part, &buf, buf.data + 1, BUF_SHARE_MIN);
        assert_ptr_equal(part.data, at + 1);
        buf_share(&other, &part, part.data, part.len);
        assert_ptr_equal(other.data, at + 1);
        buf_append(&part, "end", 3); /* on a copy, and so does whose memory it was */
        buf_append_str(&buf, "x");
        assert_ptr_not_equal(part.data, at + 1);
        assert_ptr_not_equal(buf.data, at);
        assert_int_equal(part.len, BUF_SHARE_MIN + 3);
        assert_memory_equal(part.data, other.data, other.len);
        assert_int_equal(buf.data[2 * BUF_SHARE_MIN - 1], 0xff);
        buf_done(&buf);
        buf_consume(&other, 1);
        assert_ptr_equal(other.data, at + 2);
        assert_int_equal(other.len, BUF_SHARE_MIN - 1);
        assert_int_equal(other.data[0], 2);
        buf_reset(&other);
        buf_append_str(&other, "y");
        assert_int_equal(other.len, 1);
}

static void test_what_is_small_is_copied(void **state) {
        CLEANUP_BUF struct buf buf = {0}, part = {0};

        (void)state;
        (void)buf_reserve(&buf, 8 * BUF_SHARE_MIN);
        buf.len = 8 * BUF_SHARE_MIN;
        memset(buf.data, 'a', buf.len);
        for (size_t len = BUF_SHARE_MIN - 1; len <= 4 * BUF_SHARE_MIN - 1; len *= 2) {
                buf_share(&part, &buf, buf.data, len); /* or a small part of much memory */
                assert_ptr_not_equal(part.data, buf.data);
                assert_memory_equal(part.data, buf.data, len);
        }
        buf_share(&part, NULL, buf.data, buf.len);
        assert_ptr_not_equal(part.data, buf.data);
        buf_share(&part, &buf, buf.data, 4 * BUF_SHARE_MIN);
        assert_ptr_equal(part.data, buf.data);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit_is_exact),          cmocka_unit_test(test_error_sticks_until_reset),
                cmocka_unit_test(test_overflow_is_refused),     cmocka_unit_test(test_consume),
                cmocka_unit_test(test_printf_and_take),         cmocka_unit_test(test_share),
                cmocka_unit_test(test_what_is_small_is_copied),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
