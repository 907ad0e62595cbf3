/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "pipeline/extensions.h"

/* {"request": 1, "http": 2, "security": {"labels": 3, "data": 4, "subject": {"id": 5, "roles": 6, "teams": 7}}, "unknown": 8} */
static void put_all(struct buf *buf) {
        mp_put_map(buf, 4);
        mp_put_str(buf, "request");
        mp_put_int(buf, 1);
        mp_put_str(buf, "http");
        mp_put_int(buf, 2);
        mp_put_str(buf, "security");
        mp_put_map(buf, 3);
        mp_put_str(buf, "labels");
        mp_put_int(buf, 3);
        mp_put_str(buf, "data");
        mp_put_int(buf, 4);
        mp_put_str(buf, "subject");
        mp_put_map(buf, 3);
        mp_put_str(buf, "id");
        mp_put_int(buf, 5);
        mp_put_str(buf, "roles");
        mp_put_int(buf, 6);
        mp_put_str(buf, "teams");
        mp_put_int(buf, 7);
        mp_put_str(buf, "unknown");
        mp_put_int(buf, 8);
}

/* What a plugin sees, as the sum of 2^n of the numbers above. */
static unsigned seen(char **capabilities, size_t n) {
        const struct strlist list = {.items = capabilities, .n = n};
        CLEANUP_BUF struct buf all = {0}, filtered = {0};
        unsigned sum = 0;

        put_all(&all);
        extensions_put_filtered(&filtered, (struct mp){all.data, all.len}, &list);
        assert_true(mp_is_value((struct mp){filtered.data, filtered.len}));
        /* All strings are ASCII and all maps are written with a 32-bit count, so a small byte is one of the numbers. */
        for (size_t i = 0; i < filtered.len; i++) {
                if (filtered.data[i] == 0xdf)
                        i += 4;
                else if (filtered.data[i] > 0 && filtered.data[i] < 9)
                        sum |= 1u << filtered.data[i];
        }
        return sum;
}

#define BIT(n) (1u << (n))

static void test_open_slots_only(void **state) {
        (void)state;
        assert_int_equal(seen(NULL, 0), BIT(1) | BIT(4));
}

static void test_capabilities_open_their_slots(void **state) {
        (void)state;
        assert_int_equal(seen((char *[]){"write_headers"}, 1), BIT(1) | BIT(2) | BIT(4));
        assert_int_equal(seen((char *[]){"append_labels"}, 1), BIT(1) | BIT(3) | BIT(4));
        assert_int_equal(seen((char *[]){"read_subject"}, 1), BIT(1) | BIT(4) | BIT(5));
        assert_int_equal(seen((char *[]){"read_roles"}, 1), BIT(1) | BIT(4) | BIT(5) | BIT(6));
}

static void test_none_given_is_nil(void **state) {
        const struct strlist none = {0};
        CLEANUP_BUF struct buf buf = {0};

        (void)state;
        extensions_put_filtered(&buf, (struct mp){0}, &none);
        assert_int_equal(buf.len, 1);
        assert_int_equal(buf.data[0], 0xc0);
}

/* Return: whether `name` is still there, as a header in that map of that slot. */
static bool is_left(const char *slot, const char *map, const char *name) {
        CLEANUP_BUF struct buf all = {0}, stripped = {0};
        struct mp value;

        mp_put_map(&all, 2);
        mp_put_str(&all, slot);
        mp_put_map(&all, 2);
        mp_put_str(&all, map);
        mp_put_map(&all, 2);
        mp_put_str(&all, "X-Before");
        mp_put_str(&all, "1");
        mp_put_str(&all, name);
        mp_put_str(&all, "Bearer x");
        mp_put_str(&all, "path");
        mp_put_str(&all, "/");
        mp_put_str(&all, "after");
        mp_put_int(&all, 2);
        extensions_put_stripped(&stripped, (struct mp){all.data, all.len});
        value = (struct mp){stripped.data, stripped.len};
        assert_true(mp_is_value(value));
        assert_true(mp_map_get(value, "after", &(struct mp){0}));
        assert_true(mp_map_get(value, slot, &value));
        assert_true(mp_map_get(value, "path", &(struct mp){0}));
        assert_true(mp_map_get(value, map, &value));
        assert_true(mp_map_get(value, "X-Before", &(struct mp){0}));
        return mp_map_get(value, name, &(struct mp){0});
}

static void test_sensitive_headers(void **state) {
        (void)state;
        assert_false(is_left("http", "headers", "Authorization"));
        assert_false(is_left("http", "headers", "aUTHORIZATION"));
        assert_false(is_left("http", "headers", "cookie"));
        assert_false(is_left("http", "headers", "X-Api-Key"));
        assert_false(is_left("http", "request_headers", "cookie"));
        assert_false(is_left("http", "response_headers", "Set-Cookie"));
        assert_true(is_left("http", "headers", "Authorizatio"));
        assert_true(is_left("http", "headers", "Authorization2"));
        assert_true(is_left("http", "other", "Authorization"));
        assert_true(is_left("custom", "headers", "Authorization"));
}

#define MP(bytes) ((struct mp){(const uint8_t *)(bytes), sizeof(bytes) - 1})

static void test_odd_values(void **state) {
        const struct mp values[] = {
                MP("\xc0"),
                MP("\x01"),
                MP("\x81\xa4http\xc0"),
                MP("\x81\xa4http\x81\xa7headers\x07"),
                MP("\x81\xa4http\x81\xa7headers\x81\x01\xa1x"),
                MP("\x81\xa4http\x81\xa7headers\x81\xc4\x06"
                   "Cookie\xa1x"),
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(values); i++) {
                CLEANUP_BUF struct buf buf = {0};

                extensions_put_stripped(&buf, values[i]);
                assert_true(mp_is_value((struct mp){buf.data, buf.len}));
                assert_null(memmem(buf.data, buf.len, "Cookie", 6)); /* a name as bytes is one, too */
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_open_slots_only),   cmocka_unit_test(test_capabilities_open_their_slots),
                cmocka_unit_test(test_none_given_is_nil), cmocka_unit_test(test_sensitive_headers),
                cmocka_unit_test(test_odd_values),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
