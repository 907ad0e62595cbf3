/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An installer starts compilers that start others; killing the installer alone leaves those behind. So between us and the
 * program stands a guard, a fork of ourselves that leads the process group: it waits for the program, and on SIGTERM, which it
 * gets from the kernel when we die of whatever cause, it kills the group, itself included. The group is of a session of its own, so that nothing
 * below joins a group of the terminal's, and all groups below may be killed.
 *
 * What detaches itself from the group becomes our child when its parent ends, and is killed when the program has ended: a package must not
 * leave a process behind.
 *
 * Signals that ask us to stop stay blocked and arrive through a descriptor, so that they are looked at where there is a way to
 * clean up, and nowhere else.
 */

#include "venv/run.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/children.h"
#include "venv/say.h"

#define LINE_BYTES 2048
#define TICK_MSEC 100
#define ORPHANS_USEC (10 * USEC_PER_SEC)

static int stop_fd = -1;
static bool stopped;

static void stop_signals(sigset_t *set) {
        (void)sigemptyset(set);
        (void)sigaddset(set, SIGTERM);
        (void)sigaddset(set, SIGINT);
        (void)sigaddset(set, SIGHUP);
}

int stop_watch(void) {
        sigset_t set;

        stop_signals(&set);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        stop_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return stop_fd < 0 ? -errno : 0;
}

bool stop_asked(void) {
        return stop_wait(0);
}

bool stop_wait(int msec) {
        struct pollfd fd = {.fd = stop_fd, .events = POLLIN};

        if (!stopped && poll(&fd, 1, msec) > 0)
                stopped = true;
        return stopped;
}

/* ---- The far side of the fork ---- */

static void guard_on_term(int signal) {
        (void)signal;
        (void)kill(0, SIGKILL);
}

/* Return: whether that was written to a file of the control group, or there is none. */
static bool tell_cgroup(const struct run *run, const char *name, const char *text) {
        CLEANUP_FD int fd = -1;
        char path[PATH_MAX];

        if (!run->box || !run->box->cgroup)
                return true;
        (void)snprintf(path, sizeof(path), "%s/%s", run->box->cgroup, name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd >= 0 && write(fd, text, strlen(text)) >= 0;
}

/* The program's own process. A failure to start it goes through `report_fd`, as an errno. */
static void exec_program(const struct run *run, const char *const *argv, int output_fd, int report_fd) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC), error;
        sigset_t none;

        (void)sigemptyset(&none);
        (void)signal(SIGTERM, SIG_DFL);
        (void)signal(SIGPIPE, SIG_DFL);
        if (null >= 0 && dup2(null, STDIN_FILENO) == STDIN_FILENO && dup2(output_fd, STDOUT_FILENO) == STDOUT_FILENO &&
            dup2(output_fd, STDERR_FILENO) == STDERR_FILENO && (!run->folder || chdir(run->folder) == 0) &&
            sigprocmask(SIG_SETMASK, &none, NULL) == 0 && tell_cgroup(run, "cgroup.procs", "0"))
                (void)execv(argv[0], (char *const *)argv);
        error = errno;
        (void)!write(report_fd, &error, sizeof(error));
        _exit(127);
}

/* Does not return. `parent` is the process that the group must not outlive. */
static void guard(const struct run *run, const char *const *argv, pid_t parent, int output_fd, int report_fd) {
        const struct sigaction on_term = {.sa_handler = guard_on_term};
        int status, error;
        sigset_t none;
        pid_t pid;

        (void)setsid();
        (void)sigaction(SIGTERM, &on_term, NULL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
                _exit(127);
        pid = fork();
        if (pid == 0)
                exec_program(run, argv, output_fd, report_fd);
        if (pid < 0) {
                error = errno;
                (void)!write(report_fd, &error, sizeof(error));
                _exit(127);
        }
        (void)close(output_fd);
        (void)close(report_fd);
        while (waitpid(pid, &status, 0) != pid)
                ;
        _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)); /* as shells do */
}

/* ---- The near side ---- */

struct reader {
        const struct run *run;
        size_t len;
        char line[LINE_BYTES + 1];
};

static void reader_emit(struct reader *reader) {
        while (reader->len > 0 && strchr("\r \t", reader->line[reader->len - 1]))
                reader->len--;
        reader->line[reader->len] = 0;
        if (reader->len > 0)
                reader->run->on_line(reader->run->data, reader->line);
        reader->len = 0;
}

/* Part of a line that is too long: up to its last blank, so that no URL is cut in the middle of a password. */
static void reader_emit_words(struct reader *reader) {
        const char *blank = memrchr(reader->line, ' ', reader->len);
        char rest[LINE_BYTES];
        size_t len = blank ? (size_t)(reader->line + reader->len - blank) - 1 : 0;

        memcpy(rest, reader->line + reader->len - len, len);
        reader->len -= len;
        reader_emit(reader);
        memcpy(reader->line, rest, len);
        reader->len = len;
}

/* Return: whether there may be more. */
static bool reader_read(struct reader *reader, int fd) {
        char bytes[4096];
        ssize_t n = read(fd, bytes, sizeof(bytes));

        for (ssize_t i = 0; i < n; i++) {
                if (bytes[i] == '\n')
                        reader_emit(reader);
                else if (reader->len == LINE_BYTES)
                        reader_emit_words(reader);
                if (bytes[i] != '\n')
                        reader->line[reader->len++] = bytes[i] ? bytes[i] : '?';
        }
        return n > 0 || (n < 0 && errno == EINTR);
}

static bool has_ended(pid_t pid) {
        siginfo_t info = {0};

        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Reads until all who could write have gone, or the program has ended and nobody writes for a moment. */
static int read_output(const struct run *run, pid_t pid, int fd, char **ret_error) {
        const usec_t until = clock_now_usec() + run->timeout_usec;
        struct reader reader = {.run = run};
        usec_t now;

        for (;;) {
                struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};

                if (stop_asked())
                        return fail(ret_error, "it was told to stop");
                now = clock_now_usec();
                if (now >= until) {
                        reader_emit(&reader);
                        return fail(ret_error, "it took longer than %llu s",
                                    (unsigned long long)((run->timeout_usec + USEC_PER_SEC - 1) / USEC_PER_SEC));
                }
                if (run->box && box_is_full(run->box, now))
                        return fail(ret_error, "it takes more than %llu MiB of the disk (venv.max_bytes)",
                                    (unsigned long long)(run->box->max_bytes >> 20));
                if (poll(fds, ELEMENTS(fds), (int)MIN((until - now) / USEC_PER_MSEC + 1, (usec_t)TICK_MSEC)) == 0 &&
                    has_ended(pid))
                        break;
                if (fds[0].revents && !reader_read(&reader, fd))
                        break;
        }
        reader_emit(&reader);
        return 0;
}

/* Kills what is left of the group, and reaps its leader. The leader keeps its number until then. */
static int reap_group(pid_t pid) {
        siginfo_t info;
        int status = 0;

        while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                ;
        (void)kill(-pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return status;
}

/* What is our child now was left behind. When one is killed its children become ours. */
static void end_orphans(void) {
        const usec_t until = clock_now_usec() + ORPHANS_USEC;

        while (kill_children() > 0 && clock_now_usec() < until) {
                (void)poll(NULL, 0, 1);
                while (waitpid(-1, NULL, WNOHANG) > 0)
                        ;
        }
}

/* Return: as run_command(). Closes the ends of the pipes that belong to the guard. */
static int start_guard(const struct run *run, const char *const *argv, int output[2], int report[2], pid_t *ret_pid,
                       char **ret_error) {
        pid_t parent = getpid(), pid = fork();
        int error;

        if (pid < 0)
                return fail(ret_error, "fork failed: %m");
        if (pid == 0)
                guard(run, argv, parent, output[1], report[1]);
        output[1] = fd_close(output[1]);
        report[1] = fd_close(report[1]);
        if (read(report[0], &error, sizeof(error)) == sizeof(error)) {
                (void)reap_group(pid);
                errno = error;
                return fail(ret_error, "%s cannot be run: %m", run->argv[0]);
        }
        *ret_pid = pid;
        return 0;
}

static void pipe_done(int (*fds)[2]) {
        (void)fd_close((*fds)[0]);
        (void)fd_close((*fds)[1]);
}

int run_command(const struct run *run, int *ret_status, char **ret_error) {
        CLEANUP(pipe_done) int output[2] = {-1, -1};
        CLEANUP(pipe_done) int report[2] = {-1, -1};
        CLEANUP_FREE const char **boxed = run->box ? box_command(run->box, run->argv) : NULL;
        pid_t pid = -1;
        int r;

        if (run->box && !boxed)
                return fail(ret_error, "out of memory");
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        if (pipe2(output, O_CLOEXEC) < 0 || pipe2(report, O_CLOEXEC) < 0)
                return fail(ret_error, "no pipe: %m");
        r = start_guard(run, boxed ? boxed : run->argv, output, report, &pid, ret_error);
        if (r < 0)
                return r;
        r = read_output(run, pid, output[0], ret_error);
        if (r < 0)
                (void)kill(-pid, SIGKILL);
        (void)tell_cgroup(run, "cgroup.kill", "1"); /* Linux 5.14 */
        *ret_status = reap_group(pid);
        end_orphans();
        return r;
}

static bool is_executable(const char *path) {
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *run_find(const char *name) {
        const char *folders = getenv("PATH");
        char path[PATH_MAX];

        if (strchr(name, '/')) {
                CLEANUP_FREE char *here = name[0] == '/' ? NULL : getcwd(NULL, 0);

                /* Symbolic links stay: a program may look at the name it is called by. */
                if (snprintf(path, sizeof(path), "%s%s%s", here ? here : "", here ? "/" : "", name) < PATH_MAX &&
                    is_executable(path))
                        return strdup(path);
                return NULL;
        }
        for (const char *at = folders ? folders : "/usr/local/bin:/usr/bin:/bin"; *at;) {
                size_t len = strcspn(at, ":");

                /* What is relative in PATH depends on where one stands, and is no place to take programs from. */
                if (at[0] == '/' && snprintf(path, sizeof(path), "%.*s/%s", (int)len, at, name) < PATH_MAX && is_executable(path))
                        return strdup(path);
                at += len + (at[len] == ':');
        }
        return NULL;
}
