/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>

#include "pipeline/models.h"
#include "pipeline/pytext.h"

static struct mp mp_of(const struct buf *buf) {
        return (struct mp){buf->data, buf->len};
}

/* The rest is held against the real models by tests/conformance/models. */

static void test_a_payload_is_filled_in(void **state) {
        CLEANUP_BUF struct buf in = {0}, out = {0}, want = {0};
        CLEANUP_INVALID struct invalid invalid = {0};
        static const char hook[] = "tool_pre_invoke";

        (void)state;
        mp_put_map(&in, 2);
        mp_put_str(&in, "name");
        mp_put_bin(&in, "t", 1);
        mp_put_str(&in, "unknown");
        mp_put_int(&in, 1);
        mp_put_map(&want, 3);
        mp_put_str(&want, "name");
        mp_put_str(&want, "t");
        mp_put_str(&want, "args");
        mp_put_map(&want, 0);
        mp_put_str(&want, "headers");
        mp_put_nil(&want);
        lax_read(model_payload((struct mp){(const uint8_t *)hook, strlen(hook)}), mp_of(&in), &out, &invalid);
        assert_int_equal(invalid.n, 0);
        assert_true(mp_same_value(mp_of(&out), mp_of(&want)));
}

static void test_other_hooks_have_no_model(void **state) {
        static const char hook[] = "tool_pre_invoked";

        (void)state;
        assert_null(model_payload((struct mp){(const uint8_t *)hook, strlen(hook)}));
        assert_null(model_payload((struct mp){(const uint8_t *)hook, 0}));
}

static const struct lax_type number = {.kind = LAX_INT}, numbers = {.kind = LAX_LIST, .item = &number};

static void test_complaints_are_counted_and_some_are_told(void **state) {
        CLEANUP_BUF struct buf in = {0}, error = {0};
        CLEANUP_INVALID struct invalid invalid = {0};

        (void)state;
        mp_put_array(&in, INVALID_SHOWN_MAX + 2);
        for (size_t i = 0; i < INVALID_SHOWN_MAX + 2; i++)
                mp_put_nil(&in);
        lax_read(&numbers, mp_of(&in), NULL, &invalid);
        assert_int_equal(invalid.n, INVALID_SHOWN_MAX + 2);
        assert_int_equal(invalid.n_shown, INVALID_SHOWN_MAX);
        mp_put_map(&error, 5);
        assert_int_equal(invalid_put(&invalid, "Numbers", &error), 5);
        assert_true(mp_is_value(mp_of(&error)));
}

static void test_long_complaints_end_earlier(void **state) {
        static const struct lax_type dict = {.kind = LAX_DICT, .item = &numbers};
        static char key[INVALID_BYTES_MAX];
        CLEANUP_BUF struct buf in = {0};
        CLEANUP_INVALID struct invalid invalid = {0};

        (void)state;
        memset(key, 'k', sizeof(key));
        mp_put_map(&in, 1);
        mp_put_strn(&in, key, sizeof(key));
        mp_put_array(&in, 50);
        for (size_t i = 0; i < 50; i++)
                mp_put_nil(&in);
        lax_read(&dict, mp_of(&in), NULL, &invalid);
        assert_int_equal(invalid.n, 50);
        assert_int_equal(invalid.n_shown, 1);
}

static bool tells(const struct invalid *invalid, const char *text) {
        return invalid->lines.len > 0 && memmem(invalid->lines.data, invalid->lines.len, text, strlen(text));
}

/* {"http": {"headers": {NAME: [TEXT]}}, "agent": {"turn": {NAME: TEXT}}} */
static void complain_of(struct invalid *invalid, const char *name, const char *text) {
        CLEANUP_BUF struct buf in = {0};

        mp_put_map(&in, 2);
        mp_put_str(&in, "http");
        mp_put_map(&in, 1);
        mp_put_str(&in, "headers");
        mp_put_map(&in, 1);
        mp_put_str(&in, name);
        mp_put_array(&in, 1);
        mp_put_str(&in, text);
        mp_put_str(&in, "agent");
        mp_put_map(&in, 1);
        mp_put_str(&in, "turn");
        mp_put_map(&in, 1);
        mp_put_str(&in, name);
        mp_put_str(&in, text);
        lax_read(&model_extensions, mp_of(&in), NULL, invalid);
        assert_int_equal(invalid->n, 2);
}

static void test_secrets_are_masked(void **state) {
        CLEANUP_INVALID struct invalid secret = {0}, brief = {0}, plain = {0};

        (void)state;
        complain_of(&secret, "X-Api-Key", "0123456789ab");
        assert_false(tells(&secret, "0123"));
        assert_true(tells(&secret, "input_value=**********, input_type=list"));
        assert_true(tells(&secret, "input_value=**********, input_type=dict"));
        complain_of(&brief, "x-api-key", "0123456789a");
        assert_true(tells(&brief, "input_value=['0123456789a']"));
        complain_of(&plain, "x-other", "0123456789ab");
        assert_true(tells(&plain, "input_value={'x-other': '0123456789ab'}"));
}

static const char *shown(struct buf *value) {
        static char text[1024];
        CLEANUP_BUF struct buf buf = {0};

        pytext_put(&buf, mp_of(value));
        (void)snprintf(text, sizeof(text), "%.*s", (int)buf.len, (const char *)buf.data);
        buf_done(value);
        *value = (struct buf){0};
        return text;
}

static void test_python_text(void **state) {
        struct buf value = {0};
        char *large = calloc(1, 1 << 20);

        (void)state;
        mp_put_str(&value, "it's \xe2\x80\x8b\n\xc3\xa9");
        assert_string_equal(shown(&value), "\"it's \\u200b\\n\xc3\xa9\"");
        mp_put_strn(&value, "\xff\xe2\x80", 3); /* no UTF-8: never beyond its end */
        assert_string_equal(shown(&value), "'\\xff\\xe2\\x80'");
        mp_put_bin(&value, "\xff'\"", 3);
        assert_string_equal(shown(&value), "b'\\xff\\'\"'");
        mp_put_ext(&value, MP_EXT_BIGINT, "\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 9);
        assert_string_equal(shown(&value), "-9223372036854775809");
        mp_put_ext(&value, MP_EXT_SECRET, "token", 5);
        assert_string_equal(shown(&value), "SecretStr('**********')");
        mp_put_float(&value, 1e22);
        assert_string_equal(shown(&value), "1e+22");
        mp_put_strn(&value, large, 1 << 20); /* only its beginning */
        assert_true(strlen(shown(&value)) < 300);
        free(large);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_payload_is_filled_in),
                cmocka_unit_test(test_other_hooks_have_no_model),
                cmocka_unit_test(test_complaints_are_counted_and_some_are_told),
                cmocka_unit_test(test_long_complaints_end_earlier),
                cmocka_unit_test(test_secrets_are_masked),
                cmocka_unit_test(test_python_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
