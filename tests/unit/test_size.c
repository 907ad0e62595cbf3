/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "pipeline/size.h"

static char filler[PAYLOAD_SIZE_MAX + 16];

/* {"args": {"a": <len> x, …}} with one more value to be appended by the caller. */
static void put_args(struct buf *buf, size_t len, size_t more) {
        mp_put_map(buf, 1);
        mp_put_str(buf, "args");
        mp_put_map(buf, 1 + more);
        mp_put_str(buf, "a");
        mp_put_strn(buf, filler, len);
}

static uint64_t measure(const struct buf *buf) {
        const char *what = NULL;

        return payload_size_beyond((struct mp){buf->data, buf->len}, &what);
}

/* Return: the size that `value`, written by `put`, counts for, found by filling up to the limit around it. */
static uint64_t counted(void (*put)(struct buf *buf)) {
        CLEANUP_BUF struct buf buf = {0};

        put_args(&buf, PAYLOAD_SIZE_MAX, 1);
        mp_put_str(&buf, "b");
        put(&buf);
        return measure(&buf) - PAYLOAD_SIZE_MAX;
}

static void test_limit_is_exact(void **state) {
        CLEANUP_BUF struct buf ok = {0}, over = {0};

        (void)state;
        put_args(&ok, PAYLOAD_SIZE_MAX, 0);
        assert_int_equal(measure(&ok), 0);
        put_args(&over, PAYLOAD_SIZE_MAX + 1, 0);
        assert_int_equal(measure(&over), PAYLOAD_SIZE_MAX + 1);
}

/* Counted eight bytes at a time where all are ASCII: wherever the others stand, and however many there are at the end. */
static void test_characters_among_ascii(void **state) {
        char text[40];

        (void)state;
        for (size_t at = 0; at < 20; at++)
                for (size_t after = 0; after < 18; after++) {
                        CLEANUP_BUF struct buf buf = {0};

                        memset(text, 'x', sizeof(text));
                        memcpy(text + at, "\xe2\x82\xac", 3);
                        put_args(&buf, PAYLOAD_SIZE_MAX, 1);
                        mp_put_str(&buf, "b");
                        mp_put_strn(&buf, text, at + 3 + after);
                        assert_int_equal(measure(&buf), PAYLOAD_SIZE_MAX + at + 1 + after);
                }
}

static void test_characters_not_bytes(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        size_t n = PAYLOAD_SIZE_MAX;
        char *text = malloc(2 * n);

        (void)state;
        for (size_t i = 0; i < n; i++)
                memcpy(text + 2 * i, "\xc3\xa9", 2);
        mp_put_map(&buf, 1);
        mp_put_str(&buf, "args");
        mp_put_map(&buf, 1);
        mp_put_str(&buf, "a");
        mp_put_strn(&buf, text, 2 * n);
        assert_int_equal(measure(&buf), 0);
        free(text);
}

static void test_result_is_measured_without_args(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        const char *what = NULL;

        (void)state;
        mp_put_map(&buf, 1);
        mp_put_str(&buf, "result");
        mp_put_strn(&buf, filler, PAYLOAD_SIZE_MAX + 1);
        assert_int_equal(payload_size_beyond((struct mp){buf.data, buf.len}, &what), PAYLOAD_SIZE_MAX + 1);
        assert_string_equal(what, "Result");
}

static void put_true(struct buf *buf) {
        mp_put_bool(buf, true);
}

static void put_false(struct buf *buf) {
        mp_put_bool(buf, false);
}

static void put_minus(struct buf *buf) {
        mp_put_int(buf, -1234);
}

static void put_half(struct buf *buf) {
        mp_put_float(buf, 0.5);
}

static void put_third(struct buf *buf) {
        mp_put_float(buf, 1.0 / 3);
}

static void put_large(struct buf *buf) {
        mp_put_float(buf, 1e16);
}

static void put_whole(struct buf *buf) {
        mp_put_float(buf, 100.0);
}

/* [1, 'it\'s', None] → "[1, \"it's\", None]" */
static void put_list(struct buf *buf) {
        mp_put_array(buf, 3);
        mp_put_int(buf, 1);
        mp_put_str(buf, "it's");
        mp_put_nil(buf);
}

/* {'a\n': {}} */
static void put_dict(struct buf *buf) {
        mp_put_map(buf, 1);
        mp_put_str(buf, "a\n");
        mp_put_map(buf, 0);
}

static void test_values_as_python_writes_them(void **state) {
        (void)state;
        assert_int_equal(counted(put_true), strlen("True"));
        assert_int_equal(counted(put_false), strlen("False"));
        assert_int_equal(counted(put_minus), strlen("-1234"));
        assert_int_equal(counted(put_half), strlen("0.5"));
        assert_int_equal(counted(put_third), strlen("0.3333333333333333"));
        assert_int_equal(counted(put_large), strlen("1e+16"));
        assert_int_equal(counted(put_whole), strlen("100.0"));
        assert_int_equal(counted(put_list), strlen("[1, \"it's\", None]"));
        assert_int_equal(counted(put_dict), strlen("{'a\\n': {}}"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_limit_is_exact),
                cmocka_unit_test(test_characters_among_ascii),
                cmocka_unit_test(test_characters_not_bytes),
                cmocka_unit_test(test_result_is_measured_without_args),
                cmocka_unit_test(test_values_as_python_writes_them),
        };

        memset(filler, 'x', sizeof(filler));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
