/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "venv/mask.h"

static void assert_masked(const char *text, const char *expected) {
        CLEANUP_FREE char *masked = mask_credentials(text);

        assert_string_equal(masked, expected);
}

static void test_credentials(void **state) {
        (void)state;
        assert_masked("", "");
        assert_masked("a://", "a://");
        assert_masked("https://user:secret@host/simple", "https://****@host/simple");
        assert_masked("https://secret@host", "https://****@host");
        assert_masked("git+https://user:se%40cret@host:8/x@v1#egg=x", "git+https://****@host:8/x@v1#egg=x");
        assert_masked("'https://u:s@cret@host/' and \"http://a:b@c\"", "'https://****@host/' and \"http://****@c\"");
        assert_masked("https://user:****@host", "https://****@host");
        assert_masked("https://:secret@host", "https://****@host");
        /* not encoded */
        assert_masked("https://user:se/c?r#et@host/simple x@y", "https://****@host/simple x@y");
        /* cut off in the middle */
        assert_masked("at https://user:secr", "at https://****@");
}

static void test_what_is_none(void **state) {
        static const char *const texts[] = {"https://host/simple",
                                            "https://host:8080/a@b",
                                            "https://host",
                                            "https://host:8080",
                                            "https://host:/a@b",
                                            "mail ann@example.com",
                                            "file:///a:b@c",
                                            "://",
                                            "a:b@c"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_masked(texts[i], texts[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_credentials),
                cmocka_unit_test(test_what_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
