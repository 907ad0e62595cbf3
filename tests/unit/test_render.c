/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "config/render.h"

#define PYTHON "/usr/bin/python3"
#define SCRIPT SOURCE_ROOT "/daemon/config/render.py"

static unsigned seconds = 20;

struct seen {
        struct event_base *base;
        struct render *render;
        unsigned calls, line;
        char *text, *error;
};

static void on_rendered(void *data, const struct render_result *result) {
        struct seen *seen = data;

        seen->calls++;
        seen->line = result->line;
        seen->text = result->text ? strndup(result->text, result->len) : NULL;
        seen->error = result->error ? strdup(result->error) : NULL;
        seen->render = render_free(seen->render);
}

static void seen_done(struct seen *seen) {
        (void)render_free(seen->render);
        event_base_free(seen->base);
        free(seen->text);
        free(seen->error);
}

static struct seen render_with(const char *python, const char *script, const char *text) {
        const struct render_job job = {.python = python, .script = script, .text = text, .len = strlen(text), .seconds = seconds};
        struct seen seen = {.base = event_base_new()};

        assert_int_equal(render_start(&seen.render, seen.base, &job, on_rendered, &seen), 0);
        assert_int_equal(seen.calls, 0);
        assert_true(event_base_dispatch(seen.base) >= 0);
        assert_int_equal(seen.calls, 1);
        return seen;
}

#define RENDER(name, text) CLEANUP(seen_done) struct seen name = render_with(PYTHON, SCRIPT, text)

static void assert_renders(const char *text, const char *expected) {
        RENDER(seen, text);

        assert_null(seen.error);
        assert_string_equal(seen.text, expected);
}

static void assert_fails(const char *text, unsigned line, const char *error) {
        RENDER(seen, text);

        assert_null(seen.text);
        assert_string_equal(seen.error, error);
        assert_int_equal(seen.line, line);
}

static int setup(void **state) {
        int *fds = calloc(1, sizeof(*fds));

        for (int fd = 0; fd < 256; fd++)
                *fds += fcntl(fd, F_GETFD) >= 0;
        *state = fds;
        return 0;
}

/* Nothing is left. */
static int teardown(void **state) {
        int *fds = *state;

        for (int fd = 0; fd < 256; fd++)
                *fds -= fcntl(fd, F_GETFD) >= 0;
        if (*fds != 0 || waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
                return -1;
        free(fds);
        return 0;
}

static void test_as_cpex_renders(void **state) {
        (void)state;
        setenv("RENDER_TEST", "<&>\"' \xff", 1);
        unsetenv("RENDER_MISSING");
        assert_renders("", "");
        assert_renders("{% for i in range(3) %}{{ i }},{% endfor %}\n", "0,1,2,");
        assert_renders("{% set x = env.RENDER_TEST %}{{ x }} {{ x | safe }}", "&lt;&amp;&gt;&#34;&#39; \xff <&>\"' \xff");
        assert_renders("[{{ env.RENDER_MISSING }}] {{ env.RENDER_MISSING is defined }}", "[] False");
        assert_renders("a\r\nb\rc{# x #}\n\n", "a\nb\nc\n");
        assert_renders("ü {{ ''.__class__ }}", "ü ");
}

static void test_mistakes_have_a_line_and_tell_no_value(void **state) {
        static const char not_shown[] = " (its message may hold values and is not shown)";
        char error[128];

        (void)state;
        setenv("RENDER_TEST", "hunter2", 1);
        setenv("RENDER_ATTRIBUTE", "__doc__", 1);
        assert_fails("a\n{% if 1 %}\n{{", 3, "Jinja2: unexpected 'end of template'");
        assert_fails("a\n\n{% frob %}", 3, "Jinja2: Encountered unknown tag 'frob'.");
        assert_fails("a\n\n{{ 1 | frob }}", 3, "Jinja2: No filter named 'frob'.");
        assert_fails("{% for i in [1] %}\n{{ i }}\n\n{{ i.x.y }}{% endfor %}", 4, "Jinja2: 'int object' has no attribute 'x'");
        assert_fails("\n{{ x() }}", 2, "Jinja2: 'x' is undefined");
        assert_fails("\n{{ ''.__class__.mro() }}", 2, "Jinja2: access to attribute '__class__' of 'str' object is unsafe.");
        (void)snprintf(error, sizeof(error), "Jinja2: UndefinedError%s", not_shown);
        assert_fails("\n{{ env[env.RENDER_TEST].x }}", 2, error);
        (void)snprintf(error, sizeof(error), "Jinja2: KeyError%s", not_shown);
        assert_fails("\n{{ env.pop(env.RENDER_TEST) }}", 2, error);
        (void)snprintf(error, sizeof(error), "Jinja2: TemplateRuntimeError%s", not_shown);
        assert_fails("\n{{ [1] | map(env.RENDER_TEST) | list }}", 2, error);
        (void)snprintf(error, sizeof(error), "Jinja2: SecurityError%s", not_shown);
        assert_fails("\n{{ ''[env.RENDER_ATTRIBUTE].mro() }}", 2, error);
        assert_fails("\xff{% x %}", 0, "the file is not UTF-8");
}

static void test_bounds(void **state) {
        CLEANUP_FREE char *exact = calloc(1, (1 << 20) + 2);
        usec_t start;

        (void)state;
        assert_fails("{% for i in range(99999) %}\n{{ 'x' * 100 }}{% endfor %}", 0, "the rendered file is longer than 1 MiB");
        assert_fails("{% for i in range(99999) %}\n{{ 'ü' * 1000000 }}{% endfor %}", 0, "the rendered file is longer than 1 MiB");
        assert_fails("\n\n{{ 'x' * 10 ** 9 }}", 3, "rendering takes too much memory");
        memset(exact, 'x', 1 << 20);
        assert_renders(exact, exact);
        exact[1 << 20] = 'x';
        assert_fails(exact, 0, "the rendered file is longer than 1 MiB");
        start = clock_now_usec();
        seconds = 2;
        assert_fails("{% for i in range(99999) %}\n{% for j in range(99999) %}{% endfor %}{% endfor %}", 2,
                     "rendering takes too long");
        /* one computation, in which Python hears no signal */
        assert_fails("{% set x = 10 ** (10 ** 9) %}", 0, "rendering takes too long");
        seconds = 20;
        assert_true(clock_now_usec() - start < 20 * USEC_PER_SEC);
}

static char *make_program(const char *text) {
        char *path = strdup("/tmp/cpexd-test-XXXXXX");
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        assert_int_equal(fchmod(fd, 0700), 0);
        (void)close(fd);
        return path;
}

static void test_what_is_missing_is_said(void **state) {
        CLEANUP_FREE char *without = make_program("#!/bin/sh\nexec " PYTHON " -S \"$@\"\n"),
                          *dying = make_program("#!/bin/sh\nkill $$\n");
        CLEANUP(seen_done)
        struct seen no_python = render_with("/nonexistent/python3", SCRIPT, "x");
        CLEANUP(seen_done)
        struct seen no_jinja = render_with(without, SCRIPT, "x");
        CLEANUP(seen_done)
        struct seen no_script = render_with(PYTHON, "/nonexistent/render.py", "x");
        CLEANUP(seen_done)
        struct seen killed = render_with(dying, SCRIPT, "x");
        char expected[256];

        (void)state;
        (void)unlink(without);
        (void)unlink(dying);
        assert_string_equal(no_python.error,
                            "this needs Jinja2, and /nonexistent/python3 cannot be run; "
                            "install python3-jinja2, or let template_python of cpexd.yaml name a Python that has it");
        (void)snprintf(
                expected, sizeof(expected),
                "this needs Jinja2, which %s does not have; install python3-jinja2, or let template_python of cpexd.yaml name "
                "a Python that has it",
                without);
        assert_string_equal(no_jinja.error, expected);
        assert_string_equal(no_script.error,
                            "rendering failed with status 2; see what \"" PYTHON " -I /nonexistent/render.py FILE\" says");
        assert_string_equal(killed.error, "rendering was ended by signal 15 (Terminated)");
}

static void test_freed_while_it_runs(void **state) {
        static const char text[] = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
        const struct render_job job = {.python = PYTHON, .script = SCRIPT, .text = text, .len = sizeof(text) - 1, .seconds = 5};
        struct seen seen = {.base = event_base_new()};
        const struct timeval moment = {.tv_usec = 300000};

        (void)state;
        assert_int_equal(render_start(&seen.render, seen.base, &job, on_rendered, &seen), 0);
        assert_int_equal(event_base_loopexit(seen.base, &moment), 0);
        assert_true(event_base_dispatch(seen.base) >= 0);
        seen_done(&seen);
        assert_int_equal(seen.calls, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_as_cpex_renders, setup, teardown),
                cmocka_unit_test_setup_teardown(test_mistakes_have_a_line_and_tell_no_value, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_is_missing_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(test_freed_while_it_runs, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
