/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The guard of a worker, or of an installer: the process that the daemon started, which stays, and whose child becomes Python. It is there for the end.
 *
 *     cpexd ── guard ── Python ── what the plugin starts
 *
 * Whatever the plugin starts, and however that detaches itself, becomes the guard's child when its own parent is gone, for the guard is a
 * subreaper. So when Python ends, or the daemon says so, or the daemon is no more, even by SIGKILL, the guard kills what there is until there is nothing,
 * and only then ends itself, in the way that Python did. To the daemon the guard's end is the end of the whole worker.
 *
 * Meanwhile it answers for the kernel what the sandbox denies the worker (notify.c).
 *
 * Should somebody kill the guard, then Python gets SIGKILL from the kernel, and the rest is the daemon's, which is a subreaper as well. A
 * plugin in the sandbox cannot: Landlock lets it send signals to its own only, and the guard is not in the sandbox.
 *
 * A PID namespace would do the same and more, but not where it is needed: it takes privileges or user namespaces, which containers and
 * many systems do not give, and a /proc of its own, without which a process does not find itself there (psutil).
 */

#include <endian.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/children.h"
#include "launch.h"

/* Of those that end the children become ours, if they have any; where we cannot look for them they become the daemon's with our end. One by
 * one, who forks all the time may be faster than we are. The control group knows them all at once; and so does the kernel where "all to whom we
 * may send a signal" are those that we have started: no fork comes between. All that are dead are reaped before the next look, which
 * is for as many as there are. */
static void end_descendants(int cgroup_kill, bool scoped) {
        int n;

        (void)!write(cgroup_kill, "1", 1);
        if (scoped)
                (void)kill(-1, SIGKILL);
        while ((n = kill_children()) >= 0 && waitpid(-1, NULL, 0) > 0)
                while (--n > 0 && waitpid(-1, NULL, WNOHANG) > 0)
                        ;
}

/* Return: whether the worker has ended; *ret_status is then how. Others are reaped on the way. */
static bool reap(pid_t worker, int *ret_status) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == worker) {
                        *ret_status = status;
                        return true;
                }
        return false;
}

static void end_as(int status) __attribute__((noreturn));
static void end_as(int status) {
        sigset_t none;

        if (WIFSIGNALED(status)) {
                (void)sigemptyset(&none);
                (void)signal(WTERMSIG(status), SIG_DFL);
                (void)sigprocmask(SIG_SETMASK, &none, NULL);
                (void)raise(WTERMSIG(status));
        }
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : LAUNCH_EXIT_SETUP);
}

static void guard(pid_t worker, int cgroup, bool scoped) __attribute__((noreturn));
static void guard(pid_t worker, int cgroup, bool scoped) {
        int cgroup_kill = openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC); /* Linux 5.14; -1: none */
        int number, status = 0;
        sigset_t awaited;

        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* what the plugin is configured with is in this environment, too */
        if (cgroup_kill >= 0)
                cgroup_kill = dup2(cgroup_kill, STDIN_FILENO);
        close_from(notify_keep_in_guard(cgroup_kill + 1));
        (void)sigemptyset(&awaited);
        (void)sigaddset(&awaited, SIGCHLD);
        (void)sigaddset(&awaited, SIGTERM);
        (void)sigaddset(&awaited, LAUNCH_SIGNAL_STACKS);
        while (!reap(worker, &status)) {
                number = notify_wait(&awaited);
                if (number == SIGTERM)
                        (void)kill(worker, SIGKILL);
                else if (number == LAUNCH_SIGNAL_STACKS)
                        (void)kill(worker, number);
        }
        end_descendants(cgroup_kill, scoped);
        end_as(status);
}

/* [2, "started", [{"pid": …}]]: the first message, from a time when nothing could forge it. */
static void tell_daemon(void) {
        unsigned char message[] = "\x93\x02\xa7started\x91\x81\xa3pid\xce....";
        const uint32_t pid = htobe32((uint32_t)getpid());

        memcpy(message + sizeof(message) - 1 - sizeof(pid), &pid, sizeof(pid));
        if (send(LAUNCH_FD_SOCKET, message, sizeof(message) - 1, MSG_NOSIGNAL) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot tell the daemon that it has started: %m");
}

static int open_cgroup(const char *path) {
        int fd = path ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

        if (path && fd < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot open the control group %s: %m", path);
        return fd;
}

static void join(int cgroup) {
        int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);

        if (fd < 0 || write(fd, "0", 1) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot enter the control group: %m");
        (void)close(fd);
}

/* To be born in a group costs nothing. To move there later takes milliseconds, but a filter of system calls (RestrictNamespaces= of a unit) may
 * allow no more. */
static pid_t fork_into(int cgroup) {
        struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
        pid_t pid = cgroup < 0 ? fork() : (pid_t)syscall(SYS_clone3, &args, sizeof(args));

        if (cgroup < 0 || pid >= 0)
                return pid;
        pid = fork();
        if (pid == 0)
                join(cgroup);
        return pid;
}

void guard_enter(const struct launch *launch) {
        int cgroup = open_cgroup(launch->cgroup);
        bool scoped = launch->profile != PROFILE_OFF && landlock_scope_signals();
        pid_t above = getpid(), worker;
        sigset_t all, before;

        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot become the parent of orphans: %m");
        (void)signal(SIGCHLD, SIG_DFL); /* if it were ignored nothing would be told */
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &before);
        notify_prepare(launch);
        worker = fork_into(cgroup);
        if (worker < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot start a process beside the guard: %m");
        if (worker > 0)
                guard(worker, cgroup, scoped);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        follow_parent(above, SIGKILL);
        if (!launch->program)
                tell_daemon();
}
