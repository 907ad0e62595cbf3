/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"

/* What log_write() writes for a text, without the time, the level and the newline. The caller frees it. */
static char *written(const struct log_scope *scope, const char *text) {
        char line[8192], *start;
        int ends[2], saved = dup(STDERR_FILENO);
        ssize_t n;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
        log_write(LOG_LEVEL_NOTICE, scope, "%s", text);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        (void)close(saved);
        (void)close(ends[1]);
        n = read(ends[0], line, sizeof(line) - 1);
        (void)close(ends[0]);
        assert_true(n > 0);
        line[n] = 0;
        assert_int_equal(line[n - 1], '\n');
        line[n - 1] = 0;
        start = strstr(line, " notice: ");
        assert_non_null(start);
        return strdup(start + 9);
}

static void check(const char *text, const char *expected) {
        CLEANUP_FREE char *got = written(NULL, text);

        assert_string_equal(got, expected);
}

static void test_what_is_printable_stays(void **state) {
        (void)state;
        check("plain \t text ~", "plain \t text ~");
        check("\xc2\xa0 \xc3\xa9 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf",
              "\xc2\xa0 \xc3\xa9 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf");
}

static void on_tapped(void *data, enum log_level level, const struct log_scope *scope, const char *text) {
        struct buf *buf = data;

        buf_printf(buf, "%s %s %d %llu %s;", log_level_name(level), scope->plugin ? scope->plugin : "-", (int)scope->worker,
                   (unsigned long long)scope->generation, text);
}

static void test_whoever_keeps_lines_gets_them_raw_and_from_info_on(void **state) {
        const struct log_scope scope = {.plugin = "p", .worker = 7};
        CLEANUP_BUF struct buf tapped = {0};

        (void)state;
        log_set_tap(on_tapped, &tapped);
        log_set_generation(3);
        log_write(LOG_LEVEL_DEBUG, &scope, "not this");
        log_write(LOG_LEVEL_INFO, &scope, "in\x1b"); /* nothing is written: the level is notice */
        errno = ERANGE;
        log_write(LOG_LEVEL_INFO, NULL, "of nobody");
        assert_int_equal(errno, ERANGE);
        log_set_tap(NULL, NULL);
        log_write(LOG_LEVEL_INFO, &scope, "nor this");
        log_set_generation(0);
        buf_append(&tapped, "", 1);
        assert_string_equal((const char *)tapped.data, "info p 7 3 in\x1b;info - 0 3 of nobody;");
}

static void test_what_controls_is_made_visible(void **state) {
        (void)state;
        check("a\nb\rc\x1b[31m\x7f", "a\\x0ab\\x0dc\\x1b[31m\\x7f");
        check("\xc2\x9b"
              "2J",
              "\\xc2\\x9b2J"); /* CSI, as one character */
}

static void test_what_is_no_utf8_is_made_visible(void **state) {
        (void)state;
        check("\x80", "\\x80");
        check("\xc0\xaf", "\\xc0\\xaf");
        check("\xe0\x9f\xbf", "\\xe0\\x9f\\xbf");
        check("\xed\xa0\x80", "\\xed\\xa0\\x80");
        check("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf");
        check("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");
        check("\xf5\x80", "\\xf5\\x80");
        check("\xc3", "\\xc3");
        check("\xc3x", "\\xc3x");
        check("\xe2\x82", "\\xe2\\x82");
        check("\xf0\x9f\x98", "\\xf0\\x9f\\x98");
}

static void test_long_lines_are_cut(void **state) {
        char text[10000];
        CLEANUP_FREE char *plain = NULL, *escaped = NULL;

        (void)state;
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        plain = written(NULL, text);
        assert_in_range(strlen(plain), 4080, 4096);
        memset(text, 1, sizeof(text) - 1);
        escaped = written(NULL, text);
        assert_in_range(strlen(escaped), 4080, 4096);
        assert_int_equal(strlen(escaped) % 4, 0);
}

static void test_scopes(void **state) {
        CLEANUP_FREE char *plugin = NULL, *both = NULL;

        (void)state;
        plugin = written(&(struct log_scope){.plugin = "p", .generation = 3, .request_id = "r", .request_id_len = 1}, "m");
        both = written(&(struct log_scope){.plugin = "p", .worker = 7}, "m");
        assert_string_equal(plugin, "plugin \"p\": m");
        assert_string_equal(both, "plugin \"p\" worker 7: m");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_is_printable_stays),
                cmocka_unit_test(test_whoever_keeps_lines_gets_them_raw_and_from_info_on),
                cmocka_unit_test(test_what_controls_is_made_visible),
                cmocka_unit_test(test_what_is_no_utf8_is_made_visible),
                cmocka_unit_test(test_long_lines_are_cut),
                cmocka_unit_test(test_scopes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
