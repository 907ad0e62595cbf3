/* SPDX-License-Identifier: Apache-2.0 */

/* The builder is a script that prints what cpexd-venv could print. */

#include "unit.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "scratch.h"
#include "venv/job.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct seen {
        struct event_base *base;
        struct venv_job *job;
        int calls;
        bool frees, built;
        char error[512], python[512], fingerprint[128];
};

static int setup(void **state) {
        struct seen *seen = calloc(1, sizeof(*seen));

        seen->base = event_base_new();
        *state = seen;
        return scratch_setup(state);
}

static int teardown(void **state) {
        struct seen *seen = *state;
        bool clean;

        (void)venv_job_free(seen->job);
        clean = waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
        event_base_free(seen->base);
        free(seen);
        return scratch_teardown(state) || !clean;
}

static void on_done(void *data, const struct venv_result *result) {
        struct seen *seen = data;

        seen->calls++;
        (void)snprintf(seen->error, sizeof(seen->error), "%s", result->error ?: "");
        (void)snprintf(seen->python, sizeof(seen->python), "%s", result->python ?: "");
        (void)snprintf(seen->fingerprint, sizeof(seen->fingerprint), "%s", result->fingerprint ?: "");
        seen->built = result->built;
        if (seen->frees)
                seen->job = venv_job_free(seen->job);
        event_base_loopbreak(seen->base);
}

static int start(struct seen *seen, const char *script, const char *requirements) {
        struct venv_spec spec = {.cache_dir = "/var/cache", .python = "python3", .requirements = requirements, .plugin = "p"};
        char text[1024];

        (void)snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", script);
        spec.builder = scratch_write("builder", text);
        assert_int_equal(chmod(spec.builder, 0755), 0);
        return venv_job_start(&seen->job, seen->base, &spec, on_done, seen);
}

static void loop(struct seen *seen, int msec) {
        const struct timeval wait = {.tv_sec = msec / 1000, .tv_usec = msec % 1000 * 1000};

        assert_int_equal(event_base_loopexit(seen->base, &wait), 0);
        assert_true(event_base_dispatch(seen->base) >= 0);
}

static void run(struct seen *seen, const char *script) {
        seen->job = venv_job_free(seen->job);
        seen->calls = 0;
        assert_int_equal(start(seen, script, NULL), 0);
        loop(seen, 10000);
        assert_int_equal(seen->calls, 1);
}

static void test_success(void **state) {
        struct seen *seen = *state;

        run(seen, "echo working >&2; echo python=/v/bin/python; echo future=1; echo fingerprint=" HEX "; echo built=1");
        assert_string_equal(seen->error, "");
        assert_string_equal(seen->python, "/v/bin/python");
        assert_string_equal(seen->fingerprint, HEX);
        assert_true(seen->built);
        run(seen, "echo python=/v/bin/python; echo fingerprint=" HEX "; printf built=0");
        assert_string_equal(seen->error, "");
        assert_false(seen->built);
}

static void test_arguments(void **state) {
        struct seen *seen = *state;
        char expected[256];

        assert_int_equal(start(seen, "echo error=\"$* $PPID\"; exit 1", "/r.txt"), 0);
        loop(seen, 10000);
        (void)snprintf(expected, sizeof(expected),
                       "build --parent %d --cache /var/cache --python python3 --requirements /r.txt %d", (int)getpid(),
                       (int)getpid());
        assert_string_equal(seen->error, expected);
}

static void test_failures_have_words(void **state) {
        struct seen *seen = *state;

        run(seen, "echo error=pip cannot; exit 1");
        assert_string_equal(seen->error, "pip cannot");
        run(seen, "exit 3");
        assert_string_equal(seen->error, "cpexd-venv ended with status 3 and no result");
        run(seen, "kill -9 $$");
        assert_string_equal(seen->error, "cpexd-venv was killed by signal 9 (Killed)");
        run(seen, "echo python=/v/bin/python; echo fingerprint=" HEX "; exit 1");
        assert_string_equal(seen->error, "cpexd-venv ended with status 1 and no result");
        run(seen, "echo python=relative; echo fingerprint=" HEX);
        assert_string_equal(seen->error, "cpexd-venv ended with status 0 and no result");
        run(seen, "echo python=/v/bin/python; echo fingerprint=0" HEX);
        assert_string_equal(seen->error, "cpexd-venv ended with status 0 and no result");
        run(seen, "echo python=/v/bin/python; echo fingerprint=0123456789ABCDEF");
        assert_string_equal(seen->error, "cpexd-venv ended with status 0 and no result");
}

/* More than a pipe holds, on both. */
static void test_floods_do_no_harm(void **state) {
        struct seen *seen = *state;

        run(seen, "head -c 300000 /dev/zero | tr '\\0' x >&2; head -c 300000 /dev/zero; echo; echo error=after all; exit 1");
        assert_string_equal(seen->error, "after all");
}

static void test_freed_in_the_callback(void **state) {
        struct seen *seen = *state;

        seen->frees = true;
        run(seen, "echo error=x; exit 1");
        assert_null(seen->job);
}

static void test_cancel_kills_all(void **state) {
        struct seen *seen = *state;
        struct pollfd held;
        int fds[2];
        char byte;

        assert_int_equal(mkfifo(scratch_path("held"), 0600), 0);
        fds[0] = open(scratch_path("held"), O_RDONLY | O_NONBLOCK);
        assert_true(fds[0] >= 0);
        held = (struct pollfd){.fd = fds[0], .events = POLLIN};
        assert_int_equal(start(seen, "exec 3>\"${0%/*}/held\"; trap '' TERM; echo x >&3; sleep 60 & sleep 60", NULL), 0);
        assert_int_equal(poll(&held, 1, 5000), 1);
        seen->job = venv_job_free(seen->job);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        assert_int_equal(poll(&held, 1, 5000), 1);
        assert_int_equal(read(fds[0], &byte, 1), 0); /* nobody holds it any more */
        (void)close(fds[0]);
        loop(seen, 20);
        assert_int_equal(seen->calls, 0);
        assert_null(venv_job_free(NULL));
}

static void test_nothing_is_inherited(void **state) {
        struct seen *seen = *state;

        assert_int_equal(dup2(STDERR_FILENO, 77), 77); /* not CLOEXEC */
        run(seen, "[ -e /proc/$$/fd/77 ] && echo error=inherited || echo error=no; exit 1");
        (void)close(77);
        assert_string_equal(seen->error, "no");
}

static void test_no_builder(void **state) {
        const struct venv_spec spec = {.builder = scratch_path("missing"), .cache_dir = "/c", .python = "p", .plugin = "p"};
        struct seen *seen = *state;

        int r = venv_job_start(&seen->job, seen->base, &spec, on_done, seen);

        if (r == 0) { /* under valgrind posix_spawn() cannot tell; the child then exits */
                loop(seen, 10000);
                assert_string_equal(seen->error, "cpexd-venv ended with status 127 and no result");
                return;
        }
        assert_int_equal(r, -ENOENT);
        assert_null(seen->job);
        assert_int_equal(seen->calls, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_success),
                TEST(test_arguments),
                TEST(test_failures_have_words),
                TEST(test_floods_do_no_harm),
                TEST(test_freed_in_the_callback),
                TEST(test_cancel_kills_all),
                TEST(test_nothing_is_inherited),
                TEST(test_no_builder),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
