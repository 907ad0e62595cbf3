/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "pool/step.h"

static const struct mp nil = {(const uint8_t *)"\xc0", 1};

/* Return: whether an answer with this key, and one that a chain does not end at, lets it go on. */
static bool goes_on_with(const char *key) {
        CLEANUP_BUF struct buf buf = {0};

        mp_put_map(&buf, 2);
        mp_put_str(&buf, "metadata");
        mp_put_map(&buf, 0);
        mp_put_str(&buf, key);
        mp_put_bool(&buf, true);
        return answer_leaves_input(nil, (struct mp){buf.data, buf.len});
}

static void test_what_the_next_plugin_does_not_see(void **state) {
        static const char *const keys[] = {"metadata", "retry_delay_ms", "contexts", "http_headers"};

        (void)state;
        assert_true(answer_leaves_input(nil, mp_empty_map));
        for (size_t i = 0; i < ELEMENTS(keys); i++)
                assert_true(goes_on_with(keys[i]));
}

static void test_everything_else_ends_a_chain(void **state) {
        static const char *const keys[] = {
                "continue_processing",
                "modified_payload",
                "payload_type",
                "payload_is",
                "violation",
                "modified_extensions",
                "state",
                "global_metadata",
                "denial_metadata",
                "something_else",
                "",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(keys); i++)
                assert_false(goes_on_with(keys[i]));
        assert_false(answer_leaves_input(nil, nil));
        assert_false(answer_leaves_input(nil, (struct mp){0}));
        assert_false(answer_leaves_input(mp_empty_map, nil));
        assert_false(answer_leaves_input(mp_empty_map, mp_empty_map));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_the_next_plugin_does_not_see),
                cmocka_unit_test(test_everything_else_ends_a_chain),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
