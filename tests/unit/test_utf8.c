/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "base/utf8.h"

static void assert_character(const char *bytes, size_t len, uint32_t character) {
        uint32_t c = 0;

        assert_int_equal(utf8_decode((const uint8_t *)bytes, strlen(bytes), &c), len);
        assert_int_equal(c, character);
}

static void test_first_and_last_of_each_length(void **state) {
        (void)state;
        assert_character("a", 1, 'a');
        assert_character("\x7f", 1, 0x7f);
        assert_character("\xc2\x80", 2, 0x80);
        assert_character("\xdf\xbf", 2, 0x7ff);
        assert_character("\xe0\xa0\x80", 3, 0x800);
        assert_character("\xef\xbf\xbf", 3, 0xffff);
        assert_character("\xf0\x90\x80\x80", 4, 0x10000);
        assert_character("\xf4\x8f\xbf\xbf", 4, 0x10ffff);
        assert_character("\xed\x9f\xbf", 3, 0xd7ff); /* beside the surrogates */
        assert_character("\xee\x80\x80", 3, 0xe000);
}

static void test_what_is_none(void **state) {
        static const char *const none[] = {
                "\x80",
                "\xbf",
                "\xc0\xaf",
                "\xc1\xbf",
                "\xe0\x9f\xbf",
                "\xf0\x8f\xbf\xbf",
                "\xed\xa0\x80",
                "\xed\xbf\xbf",
                "\xf4\x90\x80\x80",
                "\xf5\x80\x80\x80",
                "\xff",
                "\xc3",
                "\xe2\x82",
                "\xf0\x90\x80",
                "\xc3(",
                "\xe2(\x80",
                "\xf0\x90(\x80",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(none); i++) {
                assert_character(none[i], 0, 0);
                assert_false(utf8_is_valid((const uint8_t *)none[i], strlen(none[i])));
        }
}

/* What is behind the end does not count. */
static void test_the_end(void **state) {
        uint32_t c = 7;

        (void)state;
        assert_int_equal(utf8_decode((const uint8_t *)"\xc3\xa4", 1, &c), 0);
        assert_int_equal(c, 7);
        assert_true(utf8_is_valid((const uint8_t *)"\xc3\xa4\xff", 2));
        assert_false(utf8_is_valid((const uint8_t *)"\xc3\xa4\xff", 3));
        assert_true(utf8_is_valid((const uint8_t *)"", 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_and_last_of_each_length),
                cmocka_unit_test(test_what_is_none),
                cmocka_unit_test(test_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
