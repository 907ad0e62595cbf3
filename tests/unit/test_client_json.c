/* SPDX-License-Identifier: Apache-2.0 */

/* cpexctl's JSON and its text for terminals. */

#include "unit.h"

#include <stdio.h>

#include "cpexctl/json.h"
#include "cpexctl/text.h"

static void assert_text(struct buf *buf, const char *right) {
        CLEANUP_FREE char *text = buf_take_str(buf);

        assert_string_equal(text, right);
}

static void assert_json(struct mp value, const char *right) {
        CLEANUP_BUF struct buf out = {0};

        assert_true(mp_is_value(value));
        json_write(&out, value, 0);
        assert_text(&out, right);
}

#define MP(text) ((struct mp){(const uint8_t *)(text), sizeof(text) - 1})

static void assert_same(const char *json) {
        CLEANUP_BUF struct buf mp = {0};
        char *problem = NULL;

        assert_int_equal(json_read(&mp, json, strlen(json), "x", "1", &problem), 0);
        assert_json((struct mp){mp.data, mp.len}, json);
}

static void test_there_and_back(void **state) {
        (void)state;
        assert_same("null");
        assert_same("[true, false, null]");
        assert_same("{}");
        assert_same("[]");
        assert_same("{\"b\": {\"z\": [1, [2]]}, \"a\": \"\"}");
        assert_same("9223372036854775807");
        assert_same("-9223372036854775808");
        assert_same("[0.1, 1.0, -0.0, 1e+300, 1.7976931348623157e+308]");
        assert_same("\"\\\"\\\\\\n\\t\\u0000\\u001f\\u007f\\u0085é漢😀/\"");
}

static void test_what_json_lacks(void **state) {
        (void)state;
        assert_json(MP("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615");
        assert_json(MP("\xc4\x00"), "\"\"");
        assert_json(MP("\xc4\x01\xff"), "\"/w==\"");
        assert_json(MP("\xc4\x02\xff\xfe"), "\"//4=\"");
        assert_json(MP("\xc4\x03\x00\x10\x83"), "\"ABCD\"");
        assert_json(MP("\xd4\x01x"), "\"**********\"");
        assert_json(MP("\xc7\x00\x01"), "\"**********\"");
        assert_json(MP("\xd5\x05\x01\x02"), "{\"$ext\": [5, \"AQI=\"]}");
        assert_json(MP("\xcb\x7f\xf0\0\0\0\0\0\0"), "\"Infinity\"");
        assert_json(MP("\xcb\xff\xf0\0\0\0\0\0\0"), "\"-Infinity\"");
        assert_json(MP("\xcb\x7f\xf8\0\0\0\0\0\0"), "\"NaN\"");
        assert_json(MP("\x83\x01\xa1x\xc0\xa1y\xc4\x01\xff\xa1z"), "{\"1\": \"x\", \"null\": \"y\", \"/w==\": \"z\"}");
}

static void test_integers_beyond_64_bits(void **state) {
        (void)state;
        assert_json(MP("\xc7\x09\x02\x01\0\0\0\0\0\0\0\0"), "18446744073709551616");
        assert_json(MP("\xc7\x09\x02\xff\0\0\0\0\0\0\0\0"), "-18446744073709551616");
        assert_json(MP("\xd8\x02\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "-170141183460469231731687303715884105728");
        assert_json(MP("\xd8\x02\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                    "170141183460469231731687303715884105727");
        assert_json(MP("\xd4\x02\xff"), "-1");
        assert_json(MP("\xd4\x02\x00"), "0");
        assert_json(MP("\xc7\x00\x02"), "0");
        assert_json(MP("\xd6\x02\x3b\x9a\xca\x00"), "1000000000"); /* one group exactly full */
}

/* The longest that is written as a number, and one byte more. */
static void test_the_largest_integer(void **state) {
        for (size_t n = 512; n <= 513; n++) {
                CLEANUP_BUF struct buf mp = {0}, out = {0};

                (void)state;
                buf_append(&mp, (const uint8_t[]){0xc8, (uint8_t)(n >> 8), (uint8_t)n, 2}, 4);
                memset(buf_reserve(&mp, n), 0x7f, n);
                mp.len += n;
                json_write(&out, (struct mp){mp.data, mp.len}, 0);
                assert_int_equal(out.data[0], n == 512 ? '5' : '{');
                if (n == 512)
                        assert_int_equal(out.len, 1233); /* digits of 127 * (256^512 - 1) / 255 */
        }
}

static void test_indented(void **state) {
        CLEANUP_BUF struct buf out = {0};

        (void)state;
        json_write(&out,
                   MP("\x83\xa1"
                      "a\x92\x01\x80\xa1"
                      "b\x90\xa1"
                      "c\x81\xa1"
                      "d\xc0"),
                   2);
        assert_text(&out, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": [],\n  \"c\": {\n    \"d\": null\n  }\n}");
}

static void refuse(const char *json, const char *beginning) {
        CLEANUP_BUF struct buf mp = {0};
        char *problem = NULL;

        assert_int_equal(json_read(&mp, json, strlen(json), "--payload", "{\"a\": 1}", &problem), -EINVAL);
        if (strncmp(problem, beginning, strlen(beginning)) != 0)
                fail_msg("%s", problem);
        free(problem);
}

static void test_refused(void **state) {
        char deep[300];

        (void)state;
        refuse("", "--payload:1:1: ");
        refuse("{\"a\": }", "--payload:1:7: unexpected token near '}'; one JSON value is needed, like {\"a\": 1}");
        refuse("[1,\n 2 3]", "--payload:2:4: ");
        refuse("1 2", "--payload:1:3: ");
        refuse("{\"a\": 1, \"a\": 2}", "--payload:1:12: duplicate");
        refuse("9223372036854775808", "--payload:1:19: too big integer near '9223372036854775808'; numbers must fit");
        for (int n = 119; n <= 121; n++) {
                CLEANUP_BUF struct buf mp = {0};
                char *problem = NULL;

                memset(deep, '[', (size_t)n);
                memset(deep + n, ']', (size_t)n);
                assert_int_equal(json_read(&mp, deep, 2 * (size_t)n, "x", "1", &problem), n <= 120 ? 0 : -EINVAL);
                free(problem);
        }
}

static void test_bad_utf8(void **state) {
        CLEANUP_BUF struct buf out = {0};

        (void)state;
        json_write_str(&out, "a\xff\xc3\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80z", 13);
        assert_text(&out, "\"a�����������z\"");
        text_put(&out, "\x1b[31m\n\xc2\x9b\xc3\xa9\x80", 11);
        assert_text(&out, "\\x1b[31m\\x0a\\x9bé�");
}

static void test_table(void **state) {
        CLEANUP_TABLE struct text_table table = {.columns = 2};
        CLEANUP_BUF struct buf out = {0};

        (void)state;
        text_table_add(&table, TEXT_PLAIN, "é");
        text_table_add_mp(&table, TEXT_PLAIN, MP("\x92\xa1x\xff"));
        text_table_add(&table, TEXT_PLAIN, "long\n");
        text_table_add_mp(&table, TEXT_PLAIN, MP("\xc0"));
        assert_int_equal(text_table_put(&table, &out, 1), 0);
        assert_text(&out, " é         x, -1\n long\\x0a  -\n");
}

/* Columns align up to TEXT_ALIGN_MAX characters; a longer cell moves its own row only. */
static void test_a_long_cell(void **state) {
        char text[TEXT_ALIGN_MAX + 2];

        (void)state;
        memset(text, 'x', sizeof(text));
        for (int n = TEXT_ALIGN_MAX - 1; n <= TEXT_ALIGN_MAX + 1; n++) {
                CLEANUP_TABLE struct text_table table = {.columns = 2};
                CLEANUP_BUF struct buf out = {0}, right = {0};

                text_table_add(&table, TEXT_PLAIN, "%.*s", n, text);
                text_table_add(&table, TEXT_PLAIN, "a");
                text_table_add(&table, TEXT_PLAIN, "y");
                text_table_add(&table, TEXT_PLAIN, "b");
                assert_int_equal(text_table_put(&table, &out, 0), 0);
                buf_printf(&right, "%.*s  a\n%-*s  b\n", n, text, MIN(n, TEXT_ALIGN_MAX), "y");
                assert_int_equal(out.len, right.len);
                assert_memory_equal(out.data, right.data, right.len);
        }
}

/* Far beyond the time of a test where the work goes with the square of the cells. */
static void test_a_large_table(void **state) {
        CLEANUP_TABLE struct text_table table = {.columns = 2};
        CLEANUP_BUF struct buf out = {0};

        (void)state;
        for (int i = 0; i < 1000000; i++)
                text_table_add(&table, TEXT_PLAIN, "x");
        assert_int_equal(text_table_put(&table, &out, 0), 0);
        assert_int_equal(out.len, 500000 * 5); /* "x  x" and a newline */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_there_and_back),
                cmocka_unit_test(test_what_json_lacks),
                cmocka_unit_test(test_integers_beyond_64_bits),
                cmocka_unit_test(test_the_largest_integer),
                cmocka_unit_test(test_indented),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_bad_utf8),
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_a_long_cell),
                cmocka_unit_test(test_a_large_table),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
