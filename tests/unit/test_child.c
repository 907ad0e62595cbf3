/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/children.h"

struct seen {
        struct event_base *base;
        struct child *child;
        int calls, status;
        bool frees;
};

static void on_exit_seen(void *data, int status) {
        struct seen *seen = data;

        seen->calls++;
        seen->status = status;
        if (seen->frees)
                seen->child = child_free(seen->child);
        event_base_loopbreak(seen->base);
}

/* A child that runs `script`, as leader of its own process group. */
static pid_t spawn(const char *script) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void)setpgid(0, 0);
                (void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
                _exit(127);
        }
        (void)setpgid(pid, pid);
        return pid;
}

static void watch(struct seen *seen, const char *script) {
        assert_int_equal(child_watch(&seen->child, seen->base, spawn(script), on_exit_seen, seen), 0);
}

static void loop(struct event_base *base, int msec) {
        const struct timeval wait = {.tv_sec = msec / 1000, .tv_usec = msec % 1000 * 1000};

        assert_int_equal(event_base_loopexit(base, &wait), 0);
        assert_true(event_base_dispatch(base) >= 0);
}

static int count_fds(void) {
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static int setup(void **state) {
        struct seen *seen = calloc(1, sizeof(*seen));

        seen->base = event_base_new();
        *state = seen;
        return 0;
}

/* Whatever a test did, nothing is left to wait for. */
static int teardown(void **state) {
        struct seen *seen = *state;

        (void)child_free(seen->child);
        event_base_free(seen->base);
        free(seen);
        return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : -1;
}

static void test_exit_status_comes_once(void **state) {
        struct seen *seen = *state;

        watch(seen, "exit 7");
        loop(seen->base, 5000);
        loop(seen->base, 50);
        assert_int_equal(seen->calls, 1);
        assert_true(WIFEXITED(seen->status));
        assert_int_equal(WEXITSTATUS(seen->status), 7);
}

static void test_signals(void **state) {
        struct seen *seen = *state;

        char script[64], byte;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        (void)snprintf(script, sizeof(script), "echo x >&%d; exec sleep 60", fds[1]);
        watch(seen, script);
        assert_int_equal(read(fds[0], &byte, 1), 1); /* from here on it is no copy of ours, which valgrind keeps signals from */
        (void)close(fds[0]);
        (void)close(fds[1]);
        child_signal(seen->child, SIGTERM);
        loop(seen->base, 5000);
        assert_int_equal(seen->calls, 1);
        assert_true(WIFSIGNALED(seen->status));
        assert_int_equal(WTERMSIG(seen->status), SIGTERM);
        /* Now the number may be somebody else's. */
        child_signal(seen->child, SIGKILL);
        child_kill_group(seen->child);
}

static void test_may_be_freed_in_its_callback(void **state) {
        struct seen *seen = *state;

        seen->frees = true;
        watch(seen, "exit 0");
        loop(seen->base, 5000);
        assert_int_equal(seen->calls, 1);
        assert_null(seen->child);
}

/* Reads until every process that holds the other end has gone. */
static bool all_gone(int fd) {
        char byte;

        return read(fd, &byte, 1) == 0;
}

static void test_group_goes_with_its_leader(void **state) {
        struct seen *seen = *state;
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        watch(seen, "sleep 60 & exit 0");
        (void)close(fds[1]);
        loop(seen->base, 5000);
        assert_int_equal(seen->calls, 1);
        assert_true(all_gone(fds[0]));
        (void)close(fds[0]);
}

static void test_free_kills_all(void **state) {
        struct seen *seen = *state;
        int fds[2], before = count_fds();

        assert_int_equal(pipe(fds), 0);
        watch(seen, "trap '' TERM; sleep 60 & sleep 60; sleep 60");
        (void)close(fds[1]);
        seen->child = child_free(seen->child);
        assert_true(all_gone(fds[0]));
        (void)close(fds[0]);
        loop(seen->base, 20);
        assert_int_equal(seen->calls, 0);
        assert_int_equal(count_fds(), before);
        assert_null(child_free(NULL));
}

/* Last: from here on this process cannot open a pidfd. */
static void test_without_pidfd(void **state) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {.len = ELEMENTS(filter), .filter = filter};

        assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0), 0);
        test_exit_status_comes_once(state);
        ((struct seen *)*state)->calls = 0;
        ((struct seen *)*state)->child = child_free(((struct seen *)*state)->child);
        test_free_kills_all(state);
}

/* What has left its group becomes ours when its parent dies, is killed then, and leaves no zombie. */
static void test_orphans_are_killed(void **state) {
        struct seen *seen = *state;
        char path[] = "/tmp/test-child-XXXXXX";
        CLEANUP_FD int fd = mkstemp(path);
        char script[256], text[32] = "";

        assert_true(fd >= 0);
        child_adopt_orphans();
        (void)snprintf(script, sizeof(script), "setsid -f sh -c 'echo $$ >%s; exec sleep 100'; sleep 0.3", path);
        watch(seen, script);
        loop(seen->base, 600);
        assert_int_equal(seen->calls, 1);
        assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
        for (int i = 0; i < 200 && kill(atoi(text), 0) == 0; i++)
                loop(seen->base, 10);
        assert_int_equal(kill(atoi(text), 0), -1);
        child_end_orphans();
        (void)unlink(path);
}

/* One whose parent's end we did not hear of, as when there was no descriptor to watch it with. */
static void test_an_orphan_is_found_when_a_child_is_started(void **state) {
        const struct child_spec spec = {.argv = (const char *[]){"/bin/sleep", "100", NULL}, .output = 1, .error = 2};
        struct seen *seen = *state;
        pid_t parent, orphan;
        int fds[2];

        child_adopt_orphans();
        assert_int_equal(pipe(fds), 0);
        parent = fork();
        if (parent == 0) {
                orphan = fork();
                if (orphan == 0) {
                        (void)alarm(20);
                        (void)pause();
                }
                _exit(write(fds[1], &orphan, sizeof(orphan)) != sizeof(orphan));
        }
        assert_int_equal(read(fds[0], &orphan, sizeof(orphan)), sizeof(orphan));
        assert_int_equal(waitpid(parent, NULL, 0), parent);
        assert_int_equal(kill(orphan, 0), 0);
        assert_int_equal(child_spawn(&seen->child, seen->base, &spec, on_exit_seen, seen), 0);
        for (int i = 0; i < 200 && kill(orphan, 0) == 0; i++)
                loop(seen->base, 10);
        assert_int_equal(kill(orphan, 0), -1);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void begin_session(void) {
        (void)setsid();
}

static void begin_group(void) {
        (void)setpgid(0, 0);
}

/* Kills a child that has a child itself, in the group that it `begins`. Return: whether that one has ended, too. */
static bool goes_with_its_group(void (*begins)(void)) {
        struct pollfd end = {.events = POLLIN};
        pid_t child, below;
        int fds[2];
        bool gone;

        assert_int_equal(pipe(fds), 0);
        child = fork();
        if (child == 0) {
                begins();
                below = fork();
                if (below > 0)
                        _exit(write(fds[1], &below, sizeof(below)) != sizeof(below));
                (void)alarm(20);
                (void)pause();
        }
        (void)close(fds[1]);
        end.fd = fds[0];
        assert_int_equal(read(fds[0], &below, sizeof(below)), sizeof(below));
        assert_int_equal(kill_children(), 1);
        gone = poll(&end, 1, 100) == 1;
        if (!gone)
                (void)kill(below, SIGKILL);
        assert_true(all_gone(fds[0]));
        (void)close(fds[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        return gone;
}

/* Who is on the run has exited itself, and left a child in its group. */
static void test_a_group_below_goes_with_a_dead_child(void **state) {
        (void)state;
        assert_true(goes_with_its_group(begin_session));
        assert_false(goes_with_its_group(begin_group)); /* of our session: might be anybody's */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_exit_status_comes_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
                cmocka_unit_test_setup_teardown(test_may_be_freed_in_its_callback, setup, teardown),
                cmocka_unit_test_setup_teardown(test_group_goes_with_its_leader, setup, teardown),
                cmocka_unit_test_setup_teardown(test_free_kills_all, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_group_below_goes_with_a_dead_child, setup, teardown),
                cmocka_unit_test_setup_teardown(test_without_pidfd, setup, teardown),
                cmocka_unit_test_setup_teardown(test_orphans_are_killed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_an_orphan_is_found_when_a_child_is_started, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
