/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "config/merged.h"

static char *names[] = {(char *)"TOKEN"};
static const struct plugin_entry local = {
        .name = (char *)"remote",
        .kind = (char *)"external",
        .class_name = (char *)"a.B",
        .requirements_file = (char *)"/r.txt",
        .mode = PLUGIN_AUDIT,
        .isolation = {.python = (char *)"python3", .workers_max = 3, .env = {names, 1}},
        .line = 4,
};

static void put_texts(struct buf *buf, const char *key, size_t n, const char *text) {
        mp_put_str(buf, key);
        mp_put_array(buf, n);
        for (size_t i = 0; i < n; i++)
                mp_put_str(buf, text);
}

static int merge(const struct buf *buf, struct plugin_entry **ret) {
        assert_int_equal(buf_error(buf), 0);
        assert_true(mp_is_value((struct mp){buf->data, buf->len}));
        return plugin_entry_merged(ret, &local, (struct mp){buf->data, buf->len});
}

static void test_what_a_server_says(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct plugin_entry *entry = NULL;

        (void)state;
        mp_put_map(&buf, 10);
        put_texts(&buf, "hooks", 2, "h");
        put_texts(&buf, "tags", 1, "t");
        put_texts(&buf, "capabilities", 1, "read_headers");
        put_texts(&buf, "config_keys", 1, "k");
        mp_put_str(&buf, "mode");
        mp_put_str(&buf, "fire_and_forget");
        mp_put_str(&buf, "on_error");
        mp_put_str(&buf, "disable");
        mp_put_str(&buf, "priority");
        mp_put_int(&buf, -5);
        mp_put_str(&buf, "version");
        mp_put_str(&buf, "1.2");
        mp_put_str(&buf, "author");
        mp_put_nil(&buf);
        mp_put_str(&buf, "conditions");
        mp_put_array(&buf, 2);
        mp_put_map(&buf, 2);
        put_texts(&buf, "tools", 1, "x");
        mp_put_str(&buf, "prompts");
        mp_put_nil(&buf);
        mp_put_map(&buf, 0);
        assert_int_equal(merge(&buf, &entry), 0);

        assert_int_equal(entry->hooks.n, 2);
        assert_string_equal(entry->hooks.items[1], "h");
        assert_string_equal(entry->tags.items[0], "t");
        assert_string_equal(entry->capabilities.items[0], "read_headers");
        assert_string_equal(entry->config_keys.items[0], "k");
        assert_int_equal(entry->mode, PLUGIN_FIRE_AND_FORGET);
        assert_int_equal(entry->on_error, ON_ERROR_DISABLE);
        assert_int_equal(entry->priority, -5);
        assert_string_equal(entry->version, "1.2");
        assert_null(entry->author);
        assert_null(entry->description);
        assert_int_equal(entry->n_conditions, 2);
        assert_string_equal(entry->conditions[0].tools.items[0], "x");
        assert_int_equal(entry->conditions[0].prompts.n, 0);
        assert_int_equal(entry->conditions[1].tools.n, 0);
        /* and what no server has a say in */
        assert_string_equal(entry->name, "remote");
        assert_string_equal(entry->kind, "external");
        assert_string_equal(entry->class_name, "a.B");
        assert_null(entry->script_path);
        assert_string_equal(entry->requirements_file, "/r.txt");
        assert_string_equal(entry->isolation.python, "python3");
        assert_int_equal(entry->isolation.workers_max, 3);
        assert_string_equal(entry->isolation.env.items[0], "TOKEN");
        assert_ptr_not_equal(entry->isolation.env.items[0], names[0]);
        assert_int_equal(entry->line, 4);
        assert_null(plugin_entry_free(entry));
}

static void test_nothing_said_is_the_default(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct plugin_entry *entry = NULL;

        (void)state;
        mp_put_map(&buf, 0);
        assert_int_equal(merge(&buf, &entry), 0);
        assert_int_equal(entry->mode, PLUGIN_SEQUENTIAL);
        assert_int_equal(entry->on_error, ON_ERROR_FAIL);
        assert_int_equal(entry->priority, 100);
        assert_int_equal(entry->hooks.n, 0);
        assert_int_equal(entry->n_conditions, 0);
        (void)plugin_entry_free(entry);
}

/* `put` writes the value under the key. */
static void assert_refused(const char *key, void (*put)(struct buf *buf)) {
        CLEANUP_BUF struct buf buf = {0};
        struct plugin_entry *entry = NULL;

        mp_put_map(&buf, 1);
        mp_put_str(&buf, key);
        put(&buf);
        assert_int_equal(merge(&buf, &entry), -EINVAL);
        assert_null(entry);
}

static void put_number(struct buf *buf) {
        mp_put_uint(buf, UINT64_MAX);
}

static void put_text(struct buf *buf) {
        mp_put_str(buf, "x");
}

static void put_text_with_nul(struct buf *buf) {
        mp_put_strn(buf, "a\0b", 3);
}

static void put_numbers(struct buf *buf) {
        mp_put_array(buf, 2);
        mp_put_uint(buf, 1);
        mp_put_uint(buf, 2);
}

static void put_1001(struct buf *buf) {
        mp_put_array(buf, 1001);
        for (int i = 0; i < 1001; i++)
                mp_put_str(buf, "x");
}

static void put_1001_maps(struct buf *buf) {
        mp_put_array(buf, 1001);
        for (int i = 0; i < 1001; i++)
                mp_put_map(buf, 0);
}

static void put_wrong_condition(struct buf *buf) {
        mp_put_array(buf, 1);
        mp_put_map(buf, 1);
        mp_put_str(buf, "tools");
        mp_put_str(buf, "x");
}

static void test_what_is_no_configuration(void **state) {
        static const char *const lists[] = {"hooks", "tags", "capabilities", "config_keys"};
        CLEANUP_BUF struct buf text = {0};
        struct plugin_entry *entry = NULL;

        (void)state;
        put_text(&text);
        assert_int_equal(merge(&text, &entry), -EINVAL);
        assert_null(entry);
        for (size_t i = 0; i < ELEMENTS(lists); i++) {
                assert_refused(lists[i], put_text);
                assert_refused(lists[i], put_numbers);
                assert_refused(lists[i], put_1001);
        }
        assert_refused("mode", put_text);
        assert_refused("mode", put_number);
        assert_refused("on_error", put_text);
        assert_refused("priority", put_text);
        assert_refused("priority", put_number);
        assert_refused("version", put_number);
        assert_refused("description", put_text_with_nul);
        assert_refused("conditions", put_text);
        assert_refused("conditions", put_numbers);
        assert_refused("conditions", put_wrong_condition);
        assert_refused("conditions", put_1001_maps);
}

static void test_a_thousand_hooks_are_taken(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct plugin_entry *entry = NULL;

        (void)state;
        mp_put_map(&buf, 1);
        put_texts(&buf, "hooks", 1000, "h");
        assert_int_equal(merge(&buf, &entry), 0);
        assert_int_equal(entry->hooks.n, 1000);
        (void)plugin_entry_free(entry);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_a_server_says),
                cmocka_unit_test(test_nothing_said_is_the_default),
                cmocka_unit_test(test_what_is_no_configuration),
                cmocka_unit_test(test_a_thousand_hooks_are_taken),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
