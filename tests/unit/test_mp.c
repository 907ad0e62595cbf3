/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "wire/mp.h"

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static enum mp_scan_status scan(const uint8_t *data, size_t len, size_t limit) {
        struct mp_scan state = {0};

        return mp_scan(&state, data, len, limit);
}

static void assert_text(const char *bytes, const char *expected) {
        CLEANUP_BUF struct buf buf = {0};
        struct mp_cur cur;
        struct mp text;

        mp_put_text(&buf, bytes, strlen(bytes));
        cur = mp_cur((struct mp){buf.data, buf.len});
        assert_true(mp_read_str(&cur, &text));
        assert_int_equal(text.len, strlen(expected));
        assert_memory_equal(text.data, expected, text.len);
}

static void test_text_is_utf_8(void **state) {
        (void)state;
        assert_text("", "");
        assert_text("plain", "plain");
        assert_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d");
        assert_text("a\xff\x80z", "a??z");
        assert_text("cut \xe2\x82", "cut ??");
        assert_text("\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "?? ??? ????"); /* overlong */
        assert_text("\xed\x9f\xbf \xed\xa0\x80", "\xed\x9f\xbf ???"); /* the last before the surrogates, the first of them */
        assert_text("\xf4\x8f\xbf\xbf \xf4\x90\x80\x80", "\xf4\x8f\xbf\xbf ????");
}

static void test_scan_refuses_what_cannot_become_acceptable(void **state) {
        (void)state;
        assert_int_equal(scan(BYTES(0xdd, 0xff, 0, 0, 0), 1 << 20), MP_SCAN_BIG);
        assert_int_equal(scan(BYTES(0xdd, 0x00, 0xff, 0, 0), 1 << 20), MP_SCAN_BIG);
        assert_int_equal(scan(BYTES(0xc6, 0xff, 0xff, 0xff, 0xff), 1 << 20), MP_SCAN_BIG);
        assert_int_equal(scan(BYTES(0xdf, 0x80, 0, 0, 0), 1 << 20), MP_SCAN_BIG);
        assert_int_equal(scan(BYTES(0xc1), 16), MP_SCAN_BAD);
        assert_int_equal(scan(BYTES(0x92, 0x01, 0xc1), 16), MP_SCAN_BAD);
}

static void test_scan_limit_is_exact(void **state) {
        const uint8_t str[] = {0xd9, 3, 'a', 'b', 'c'};

        (void)state;
        assert_int_equal(scan(str, sizeof(str), 5), MP_SCAN_DONE);
        assert_int_equal(scan(str, sizeof(str), 4), MP_SCAN_BIG);
        assert_int_equal(scan(BYTES(0x92, 1, 2), 3), MP_SCAN_DONE);
        assert_int_equal(scan(BYTES(0x92, 1, 2), 2), MP_SCAN_BIG);
}

static void test_scan_depth_is_exact(void **state) {
        uint8_t nested[MP_DEPTH_MAX + 2];

        (void)state;
        memset(nested, 0x91, sizeof(nested));
        nested[MP_DEPTH_MAX] = 0xc0;
        assert_int_equal(scan(nested, MP_DEPTH_MAX + 1, 4096), MP_SCAN_DONE);
        nested[MP_DEPTH_MAX] = 0x91;
        nested[MP_DEPTH_MAX + 1] = 0xc0;
        assert_int_equal(scan(nested, MP_DEPTH_MAX + 2, 4096), MP_SCAN_DEEP);
}

/* Every format, fed byte by byte: the scan is done exactly at the end. */
static void test_scan_resumes_at_every_byte(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct mp_scan walk = {0};
        char text[70000];

        (void)state;
        memset(text, 'x', sizeof(text));
        mp_put_map(&buf, 9);
        mp_put_str(&buf, "a");
        mp_put_strn(&buf, text, 40);
        mp_put_str(&buf, "b");
        mp_put_strn(&buf, text, 300);
        mp_put_str(&buf, "c");
        mp_put_bin(&buf, text, sizeof(text));
        mp_put_str(&buf, "d");
        mp_put_float(&buf, 1.5);
        mp_put_str(&buf, "e");
        mp_put_int(&buf, -70000);
        mp_put_str(&buf, "f");
        mp_put_uint(&buf, UINT64_MAX);
        mp_put_str(&buf, "g");
        mp_put_array(&buf, 0);
        mp_put_str(&buf, "h");
        mp_put_array(&buf, 20);
        for (int i = 0; i < 20; i++)
                mp_put_nil(&buf);
        mp_put_str(&buf, "i");
        mp_put_bin(&buf, text, 3);
        assert_int_equal(buf_error(&buf), 0);
        for (size_t len = 0; len < buf.len; len++)
                assert_int_equal(mp_scan(&walk, buf.data, len, buf.len), MP_SCAN_MORE);
        assert_int_equal(mp_scan(&walk, buf.data, buf.len, buf.len), MP_SCAN_DONE);
        assert_int_equal(walk.pos, buf.len);
        assert_true(mp_is_value((struct mp){buf.data, buf.len}));
        assert_false(mp_is_value((struct mp){buf.data, buf.len - 1}));
}

static uint64_t count(const uint8_t *data, size_t len, uint64_t most) {
        return mp_count((struct mp){data, len}, 0, most);
}

static void test_declared_values_are_counted(void **state) {
        (void)state;
        assert_int_equal(count(BYTES(0xc0), 9), 0);
        assert_int_equal(count(BYTES(0x93, 0x92, 1, 2, 3, 0x81, 0xa1, 'k', 0x90), 9), 3 + 2 + 2);
        assert_int_equal(count(BYTES(0x93, 0x92, 1, 2, 3, 0x81, 0xa1, 'k', 0x90), 4), 3 + 2);
        assert_int_equal(count(BYTES(0x92, 0xc1), 9), 0); /* more than there are bytes */
}

static void test_integers_at_their_boundaries(void **state) {
        const int64_t values[] = {0,  127, 128, 255,  256,  65535,  65536,  INT32_MAX, INT64_MAX,
                                  -1, -32, -33, -128, -129, -32768, -32769, INT32_MIN, INT64_MIN};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(values); i++) {
                CLEANUP_BUF struct buf buf = {0};
                struct mp_cur cur;
                int64_t got;

                mp_put_int(&buf, values[i]);
                cur = mp_cur((struct mp){buf.data, buf.len});
                assert_true(mp_read_int(&cur, &got));
                assert_true(got == values[i]);
                assert_ptr_equal(cur.at, cur.end);
        }
}

/* A positive number in a signed format is the same number. */
static void test_positive_in_signed_format(void **state) {
        const uint8_t seven[] = {0xd0, 7};
        struct mp_cur cur = mp_cur((struct mp){seven, sizeof(seven)});
        uint64_t got;

        (void)state;
        assert_int_equal(mp_peek(&cur), MP_UINT);
        assert_true(mp_read_uint(&cur, &got));
        assert_int_equal(got, 7);
}

static void test_readers_stay_on_another_type(void **state) {
        const uint8_t text[] = {0xa1, 'x'};
        struct mp_cur cur = mp_cur((struct mp){text, sizeof(text)});
        struct mp got;
        uint32_t n;
        bool b;

        (void)state;
        assert_false(mp_read_map(&cur, &n));
        assert_false(mp_read_bool(&cur, &b));
        assert_false(mp_read_bin(&cur, &got));
        assert_true(mp_read_str(&cur, &got));
        assert_int_equal(mp_peek(&cur), MP_END);
        assert_false(mp_read_str(&cur, &got));
}

static void test_secret_ext(void **state) {
        const uint8_t ext[] = {0xc7, 2, MP_EXT_SECRET, 'p', 'w'};
        struct mp_cur cur = mp_cur((struct mp){ext, sizeof(ext)});
        struct mp got;
        int8_t type;

        (void)state;
        assert_true(mp_read_ext(&cur, &type, &got));
        assert_int_equal(type, MP_EXT_SECRET);
        assert_int_equal(got.len, 2);
        assert_memory_equal(got.data, "pw", 2);
}

static void test_merge_is_dict_update(void **state) {
        CLEANUP_BUF struct buf base = {0}, over = {0}, merged = {0};
        struct mp map, value;
        struct mp_cur cur;
        int64_t got;
        uint32_t n;

        (void)state;
        mp_put_map(&base, 2);
        mp_put_str(&base, "a");
        mp_put_int(&base, 1);
        mp_put_str(&base, "b");
        mp_put_int(&base, 2);
        mp_put_map(&over, 3);
        mp_put_str(&over, "b");
        mp_put_int(&over, 3);
        mp_put_str(&over, "secret");
        mp_put_int(&over, 4);
        mp_put_str(&over, "c");
        mp_put_int(&over, 5);
        mp_put_merged(&merged, (struct mp){base.data, base.len}, (struct mp){over.data, over.len}, "secret");
        map = (struct mp){merged.data, merged.len};
        assert_true(mp_is_value(map));
        cur = mp_cur(map);
        assert_true(mp_read_map(&cur, &n));
        assert_int_equal(n, 3);
        assert_true(mp_map_get(map, "b", &value));
        cur = mp_cur(value);
        assert_true(mp_read_int(&cur, &got));
        assert_int_equal(got, 3);
        assert_false(mp_map_get(map, "secret", &value));
        assert_true(mp_map_get(map, "c", &value));
}

static bool same(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
        bool same = mp_same_value((struct mp){a, a_len}, (struct mp){b, b_len});

        assert_int_equal(same, mp_same_value((struct mp){b, b_len}, (struct mp){a, a_len}));
        return same;
}

static void test_same_value_is_python_s(void **state) {
        (void)state;
        assert_true(same(BYTES(0x01), BYTES(0xc3)));                               /* 1, True */
        assert_true(same(BYTES(0x01), BYTES(0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0))); /* 1, 1.0 */
        assert_true(same(BYTES(0xff), BYTES(0xcb, 0xbf, 0xf0, 0, 0, 0, 0, 0, 0))); /* -1, -1.0 */
        assert_true(same(BYTES(0x00), BYTES(0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0)));    /* 0, -0.0 */
        assert_true(same(BYTES(0x05), BYTES(0xcd, 0, 5)));                         /* two forms of 5 */
        assert_false(same(BYTES(0x01), BYTES(0x02)));
        assert_false(same(BYTES(0xff), BYTES(0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))); /* -1, 2^64 - 1 */
        assert_false(same(BYTES(0xcf, 0, 0x20, 0, 0, 0, 0, 0, 1), /* 2^53 + 1, as no float can be */
                          BYTES(0xcb, 0x43, 0x40, 0, 0, 0, 0, 0, 0)));
        assert_false(same(BYTES(0xa1, '1'), BYTES(0x01)));
        assert_false(same(BYTES(0xc0), BYTES(0xc2)));
        assert_true(same(BYTES(0xa1, 'a'), BYTES(0xd9, 1, 'a')));
        assert_false(same(BYTES(0xa1, 'a'), BYTES(0xc4, 1, 'a')));
        assert_true(same(BYTES(0xd4, 1, 'a'), BYTES(0xc7, 1, 1, 'a')));
        assert_false(same(BYTES(0xd4, 1, 'a'), BYTES(0xd4, 2, 'a')));
}

static void test_same_value_in_containers(void **state) {
        (void)state;
        assert_true(same(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'b', 0x91, 2), BYTES(0x82, 0xa1, 'b', 0x91, 0xcc, 2, 0xa1, 'a', 0xc3)));
        assert_false(same(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'b', 2), BYTES(0x81, 0xa1, 'a', 1)));
        assert_false(same(BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'a', 1), BYTES(0x82, 0xa1, 'a', 1, 0xa1, 'b', 2)));
        assert_false(same(BYTES(0x82, 0xa1, 'a', 2, 0xa1, 'a', 1), BYTES(0x81, 0xa1, 'a', 1)));
        assert_true(same(BYTES(0x92, 1, 2), BYTES(0xdc, 0, 2, 1, 2)));
        assert_false(same(BYTES(0x92, 1, 2), BYTES(0x92, 2, 1)));
        assert_false(same(BYTES(0x90), BYTES(0x80)));
}

/* Maps in maps, whose keys are in another order on each level: the work is bounded, if need be by calling them different. */
static void test_same_value_takes_no_long_time(void **state) {
        enum { LEVELS = 100, FILLER = 1 << 20 };
        CLEANUP_BUF struct buf a = {0}, b = {0};
        char *filler = calloc(1, FILLER);

        (void)state;
        for (int i = 0; i < LEVELS; i++) {
                mp_put_map(&a, 2);
                mp_put_str(&a, "n");
                mp_put_int(&a, 1);
                mp_put_str(&a, "next");
                mp_put_map(&b, 2);
                mp_put_str(&b, "next");
        }
        mp_put_strn(&a, filler, FILLER);
        mp_put_strn(&b, filler, FILLER);
        for (int i = 0; i < LEVELS; i++) {
                mp_put_str(&b, "n");
                mp_put_int(&b, 1);
        }
        assert_false(same(a.data, a.len, b.data, b.len));
        free(filler);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_scan_refuses_what_cannot_become_acceptable),
                cmocka_unit_test(test_scan_limit_is_exact),
                cmocka_unit_test(test_scan_depth_is_exact),
                cmocka_unit_test(test_scan_resumes_at_every_byte),
                cmocka_unit_test(test_declared_values_are_counted),
                cmocka_unit_test(test_integers_at_their_boundaries),
                cmocka_unit_test(test_positive_in_signed_format),
                cmocka_unit_test(test_readers_stay_on_another_type),
                cmocka_unit_test(test_secret_ext),
                cmocka_unit_test(test_text_is_utf_8),
                cmocka_unit_test(test_merge_is_dict_update),
                cmocka_unit_test(test_same_value_is_python_s),
                cmocka_unit_test(test_same_value_in_containers),
                cmocka_unit_test(test_same_value_takes_no_long_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
