/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "venv/report.h"
#include "venv/run.h"

struct seen {
        char text[16384];
        int lines;
};

static void on_line(void *data, const char *line) {
        struct seen *seen = data;
        size_t len = strlen(seen->text);

        (void)snprintf(seen->text + len, sizeof(seen->text) - len, "%s|", line);
        seen->lines++;
}

static int sh(const char *script, usec_t timeout_usec, struct seen *seen, int *ret_status, char **ret_error) {
        const char *argv[] = {"/bin/sh", "-c", script, NULL};
        const struct run run = {.argv = argv, .timeout_usec = timeout_usec, .on_line = on_line, .data = seen};

        return run_command(&run, ret_status, ret_error);
}

/* Whether all who hold the other end are gone, soon. */
static bool all_gone(int fd) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        char byte;

        return poll(&poll_fd, 1, 5000) == 1 && read(fd, &byte, 1) == 0;
}

static void test_lines_and_status(void **state) {
        CLEANUP_FREE char *error = NULL;
        struct seen seen = {0};
        int status;

        (void)state;
        assert_int_equal(
                sh("echo one; echo two >&2; cat; printf '\\n  three  \\r'; exit 3", USEC_PER_SEC * 10, &seen, &status, &error),
                0);
        assert_string_equal(seen.text, "one|two|  three|");
        assert_int_equal(WEXITSTATUS(status), 3);
        assert_int_equal(sh("kill -9 $$", USEC_PER_SEC * 10, &seen, &status, &error), 0);
        assert_int_equal(WEXITSTATUS(status), 128 + 9);
}

static void test_long_lines_come_in_pieces(void **state) {
        CLEANUP_FREE char *error = NULL;
        struct seen seen = {0};
        int status;

        (void)state;
        assert_int_equal(sh("head -c 2048 /dev/zero | tr '\\0' x; echo", USEC_PER_SEC * 10, &seen, &status, &error), 0);
        assert_int_equal(seen.lines, 1);
        seen = (struct seen){0};
        assert_int_equal(sh("head -c 2049 /dev/zero | tr '\\0' x; echo", USEC_PER_SEC * 10, &seen, &status, &error), 0);
        assert_int_equal(seen.lines, 2);
        assert_int_equal(strlen(seen.text), 2049 + 2);
        /* between words, where there are any */
        seen = (struct seen){0};
        assert_int_equal(sh("head -c 2040 /dev/zero | tr '\\0' x; echo ' https://ann:hunter2@host/ end'", USEC_PER_SEC * 10,
                            &seen, &status, &error),
                         0);
        assert_int_equal(seen.lines, 2);
        assert_non_null(strstr(seen.text, "x|https://ann:hunter2@host/ end|"));
}

static void test_what_cannot_be_run(void **state) {
        const char *argv[] = {"/nowhere/program", NULL};
        const struct run run = {.argv = argv, .timeout_usec = USEC_PER_SEC, .on_line = on_line};
        CLEANUP_FREE char *error = NULL;
        int status = 4711;

        (void)state;
        assert_true(run_command(&run, &status, &error) < 0);
        assert_string_equal(error, "/nowhere/program cannot be run: No such file or directory");
        assert_int_equal(status, 4711);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A folder in the place of one; the kernel's is in tests/systemd. */
static void test_it_runs_in_a_control_group(void **state) {
        char folder[] = "/tmp/test-run-XXXXXX", procs[64], end[64];
        struct box box = {.off = true, .cgroup = folder};
        const char *argv[] = {"/bin/sh", "-c", "exec cat \"$0\" \"$1\"", procs, end, NULL};
        struct seen seen = {0};
        const struct run run = {.argv = argv, .box = &box, .timeout_usec = 10 * USEC_PER_SEC, .on_line = on_line, .data = &seen};
        CLEANUP_FREE char *error = NULL;
        int status;

        (void)state;
        assert_non_null(mkdtemp(folder));
        (void)snprintf(procs, sizeof(procs), "%s/cgroup.procs", folder);
        (void)snprintf(end, sizeof(end), "%s/cgroup.kill", folder);
        assert_true(run_command(&run, &status, &error) < 0);
        assert_string_equal(error, "/bin/sh cannot be run: No such file or directory");
        (void)close(creat(procs, 0600));
        (void)close(creat(end, 0600));
        assert_int_equal(run_command(&run, &status, &error), 0);
        assert_string_equal(seen.text, "0|"); /* it was there when it began, and was not killed before its end */
        assert_int_equal(run_command(&run, &status, &error), 0);
        assert_string_equal(seen.text, "0|01|");
        (void)unlink(procs);
        (void)unlink(end);
        (void)rmdir(folder);
}

static void test_timeout_kills_the_group(void **state) {
        CLEANUP_FREE char *error = NULL;
        struct seen seen = {0};
        int fds[2], status;
        usec_t start = clock_now_usec();

        (void)state;
        assert_int_equal(pipe(fds), 0);
        assert_true(sh("trap '' TERM; sleep 60 & printf words; sleep 60; sleep 60", USEC_PER_SEC / 5, &seen, &status, &error) <
                    0);
        assert_true(clock_now_usec() - start >= USEC_PER_SEC / 5);
        assert_true(clock_now_usec() - start < 10 * USEC_PER_SEC);
        assert_string_equal(seen.text, "words|");
        (void)close(fds[1]);
        assert_true(all_gone(fds[0]));
        (void)close(fds[0]);
}

static void test_a_background_process_holds_nobody_up(void **state) {
        CLEANUP_FREE char *error = NULL;
        struct seen seen = {0};
        int fds[2], status;
        usec_t start = clock_now_usec();

        (void)state;
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(sh("sleep 60 & echo done", 30 * USEC_PER_SEC, &seen, &status, &error), 0);
        assert_true(clock_now_usec() - start < 10 * USEC_PER_SEC);
        assert_string_equal(seen.text, "done|");
        (void)close(fds[1]);
        assert_true(all_gone(fds[0]));
        (void)close(fds[0]);
}

/* Whatever becomes of us, what we run ends: here by SIGKILL, which nobody can clean up after. */
static void test_nothing_outlives_us(void **state) {
        int held[2], ready[2], status;
        char byte;
        pid_t pid;

        (void)state;
        assert_int_equal(pipe(held), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                CLEANUP_FREE char *error = NULL;
                struct seen seen = {0};
                char script[128];

                (void)fcntl(ready[1], F_SETFD, 0);
                (void)snprintf(script, sizeof(script), "trap '' TERM HUP; sleep 60 & echo x >&%d; exec %d>&-; sleep 60; sleep 60",
                               ready[1], ready[1]);
                (void)sh(script, 60 * USEC_PER_SEC, &seen, &status, &error);
                _exit(0);
        }
        (void)close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        (void)close(held[1]);
        assert_true(all_gone(held[0]));
        (void)close(held[0]);
        (void)close(ready[0]);
}

static void test_find(void **state) {
        CLEANUP_FREE char *sh_path = NULL, *dot = NULL;

        (void)state;
        assert_int_equal(setenv("PATH", "relative:/nowhere::/bin", 1), 0);
        sh_path = run_find("sh");
        assert_string_equal(sh_path, "/bin/sh");
        assert_null(run_find("no-such-program"));
        assert_null(run_find("/etc/passwd"));
        assert_null(run_find("/bin"));
        assert_int_equal(chdir("/"), 0);
        dot = run_find("bin/sh");
        assert_string_equal(dot, "//bin/sh");
}

static void test_report_keeps_what_tells(void **state) {
        CLEANUP_REPORT struct report report = {.prefix = "test"};
        CLEANUP_REPORT struct report plain = {.prefix = "test"};
        CLEANUP_FREE char *nothing = report_text(&report, W_EXITCODE(1, 0)), *text = NULL, *last = NULL;

        (void)state;
        assert_string_equal(nothing, "it said nothing");
        for (int i = 0; i < 10; i++) {
                char line[32];

                (void)snprintf(line, sizeof(line), "line %d", i);
                report_line(&plain, line);
                report_line(&report, line);
        }
        report_line(&report, "  ERROR: No matching distribution found for nope");
        for (int i = 0; i < 10; i++)
                report_line(&report, "later");
        text = report_text(&report, W_EXITCODE(128, 0));
        assert_string_equal(text, "ERROR: No matching distribution found for nope");
        last = report_text(&plain, W_EXITCODE(128 + 9, 0));
        assert_string_equal(last, "line 6; line 7; line 8; line 9; it was killed by signal 9 (Killed)");
}

/* Last: from here on this process hears no SIGTERM. */
static void test_stop(void **state) {
        CLEANUP_FREE char *error = NULL;
        struct seen seen = {0};
        char script[64];
        int status;

        (void)state;
        assert_int_equal(stop_watch(), 0);
        assert_false(stop_asked());
        /* The program must not inherit our deafness: it can be ended by SIGTERM. */
        assert_int_equal(sh("kill -TERM $$; sleep 60", 30 * USEC_PER_SEC, &seen, &status, &error), 0);
        assert_int_equal(WEXITSTATUS(status), 128 + SIGTERM);
        (void)snprintf(script, sizeof(script), "kill -TERM %d; sleep 60", (int)getpid());
        assert_true(sh(script, 30 * USEC_PER_SEC, &seen, &status, &error) < 0);
        assert_string_equal(error, "it was told to stop");
        assert_true(stop_asked());
        assert_true(stop_wait(60000));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines_and_status),        cmocka_unit_test(test_long_lines_come_in_pieces),
                cmocka_unit_test(test_what_cannot_be_run),      cmocka_unit_test(test_it_runs_in_a_control_group),
                cmocka_unit_test(test_timeout_kills_the_group), cmocka_unit_test(test_a_background_process_holds_nobody_up),
                cmocka_unit_test(test_nothing_outlives_us),     cmocka_unit_test(test_find),
                cmocka_unit_test(test_report_keeps_what_tells), cmocka_unit_test(test_stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
