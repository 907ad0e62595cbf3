/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A zygote: a worker that has loaded its plugin's class and forks workers from there, in the place of becoming one.
 *
 *     cpexd ── guard ── zygote ─┬─ guard ── worker ── what the plugin starts
 *                               └─ guard ── worker ── what the plugin starts
 *
 * Each worker has a guard of its own, as one that was started has (launch/guard.c), but that is forked here and so is inside of the zygote's sandbox.
 * What keeps a plugin from it is a domain of Landlock's more for each of the two: signals do not leave a domain. That is also how the guard
 * finds whatever is left: kill(-1) reaches all in its domain and those below, so all that came of the worker, and nobody else. So
 * it is tried out that signals are held back before anything is forked; where they are not nothing is.
 *
 * cpexd is not the guard's parent. Both hold a control socket (SOCK_SEQPACKET), in which stand
 *
 *     "p"            by the worker, whose process id cpexd has from the kernel
 *     "s" and a status as of wait(2)     by the guard: the worker has ended, and all that came of it
 *     "e" and a text     by whoever cannot go on: there will be no worker, nor any other
 *     "a" and a text     likewise, but the next one may be: there is no memory, or there are too many processes or files
 *     one byte       by cpexd: have the stacks written
 *
 * When cpexd closes its side the worker is killed; when the other is closed it is over.
 *
 * Before the first byte comes over its own socket a worker runs no code of the plugin, not even what that has registered for forks.
 */

#include "cpexd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FS_REFER (UINT64_C(1) << 13)
#define SCOPE_SIGNAL (UINT64_C(1) << 1) /* ABI 6 */
#define STACKS_SIGNAL (SIGRTMAX - 1)    /* as launch/launch.h has it */

enum { FD_SOCKET = STDERR_FILENO + 1, FD_STACKS };

/* What a worker is forked with, in the order in which cpexd sends it. */
struct parts {
        int socket, output, stacks, control;
};

/* Return: whether none of them stands where a worker has something else. */
static bool are_out_of_the_way(const struct parts *parts) {
        return parts->socket > FD_STACKS && parts->output > FD_STACKS && parts->stacks > FD_STACKS && parts->control > FD_STACKS;
}

static void close_parts(struct parts *parts) {
        (void)close(parts->socket);
        (void)close(parts->output);
        (void)close(parts->stacks);
        (void)close(parts->control);
}

/* `error`: the errno that it failed with. One that passes says more than `why`; ESRCH says that all is about to end. */
static void refuse(int control, int error, const char *why) {
        bool passes = error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
        char text[160] = {passes ? 'a' : 'e'};

        if (error == ESRCH)
                return;
        (void)strncat(text, passes ? strerror(error) : why, sizeof(text) - 2);
        (void)send(control, text, strlen(text), MSG_NOSIGNAL);
}

/* Return: whether a worker is to be forked; cpexd sends nothing else to a zygote, but when it is done with it. */
static bool take_request(int fd, struct parts *ret) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(*ret))];
        } control;
        char byte;
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        ssize_t n;
        int *fds;

        do
                n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n != 1 || message.msg_controllen != sizeof(control) || control.header.cmsg_len != CMSG_LEN(sizeof(*ret)) ||
            control.header.cmsg_type != SCM_RIGHTS)
                return false;
        fds = (int *)(void *)CMSG_DATA(&control.header);
        for (size_t i = 0; i < sizeof(*ret) / sizeof(*fds); i++) {
                int high = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_STACKS + 1);

                if (high >= 0) {
                        (void)close(fds[i]);
                        fds[i] = high;
                }
        }
        memcpy(ret, fds, sizeof(*ret));
        return true;
}

/* Return: how many there are, or a negative errno. */
static int count_threads(void) {
        DIR *dir = opendir("/proc/self/task");
        struct dirent *entry;
        int n = 0;

        if (!dir)
                return -errno;
        while ((entry = readdir(dir)))
                n += entry->d_name[0] != '.';
        (void)closedir(dir);
        return n;
}

/* From here on signals reach only what this process starts. A domain that does not allow it also forbids to move a file to another folder.
 * Return: 0 when it is so, seen by `outside`, a process that is not below; else an errno. */
static int hold_signals(pid_t outside) {
        const struct { uint64_t fs, net, scoped; } domain = {.fs = FS_REFER, .scoped = SCOPE_SIGNAL};
        struct landlock_path_beneath_attr all = {.allowed_access = FS_REFER, .parent_fd = open("/", O_PATH | O_CLOEXEC)};
        int fd = (int)syscall(SYS_landlock_create_ruleset, &domain, sizeof(domain), 0);
        bool held = fd >= 0 && all.parent_fd >= 0 &&
                    syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &all, 0) == 0 &&
                    syscall(SYS_landlock_restrict_self, fd, 0) == 0;
        int error = held ? 0 : errno;

        (void)close(fd);
        (void)close(all.parent_fd);
        if (!held)
                return error;
        if (kill(outside, 0) == 0)
                return ENOTSUP;
        return errno == EPERM ? 0 : errno;
}

/* ---- The guard ---- */

static void hear(struct pollfd *control, pid_t worker) {
        char byte;
        ssize_t n = recv(control->fd, &byte, 1, MSG_DONTWAIT);

        if (n > 0) {
                (void)kill(worker, STACKS_SIGNAL);
        } else if (n == 0 || errno != EAGAIN) {
                (void)kill(worker, SIGKILL);
                control->events = 0;
                if (control->revents & POLLHUP) /* which is told whatever is asked for */
                        control->fd = -1;
        }
}

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

static void guard(pid_t worker, int control, int ended) __attribute__((noreturn));
static void guard(pid_t worker, int control, int ended) {
        struct pollfd fds[] = {{.fd = control, .events = POLLIN}, {.fd = ended, .events = POLLIN}};
        struct signalfd_siginfo info;
        unsigned char message[1 + sizeof(int)] = "s";
        int status = 0;

        while (!reap(worker, &status)) {
                (void)poll(fds, 2, -1);
                if (fds[0].revents)
                        hear(&fds[0], worker);
                if (fds[1].revents)
                        (void)!read(ended, &info, sizeof(info));
        }
        do
                (void)kill(-1, SIGKILL); /* see above: all below */
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
        memcpy(message + 1, &status, sizeof(status));
        (void)send(control, message, sizeof(message), MSG_NOSIGNAL);
        _exit(0);
}

/* ---- The worker ---- */

static void become_worker(const struct parts *parts, pid_t above, const sigset_t *mask, const struct sigaction *on_child) {
        struct pollfd first = {.fd = FD_SOCKET, .events = POLLIN};
        int error;

        if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != above) /* its guard has ended */
                _exit(1);
        error = hold_signals(above);
        if (error) {
                refuse(parts->control, error, "this system does not keep a worker from its guard");
                _exit(1);
        }
        (void)sigaction(SIGCHLD, on_child, NULL);
        (void)sigprocmask(SIG_SETMASK, mask, NULL);
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* so that cpexd finds it in /proc; it hides again with its connection */
        (void)send(parts->control, "p", 1, MSG_NOSIGNAL);
        if (dup2(parts->output, STDOUT_FILENO) < 0 || dup2(parts->output, STDERR_FILENO) < 0 ||
            dup2(parts->socket, FD_SOCKET) < 0 || dup3(parts->stacks, FD_STACKS, O_CLOEXEC) < 0 ||
            syscall(SYS_close_range, FD_STACKS + 1, ~0u, 0) < 0)
                _exit(1);
        while (poll(&first, 1, -1) < 0 && errno == EINTR)
                ;
}

/* In a process that the zygote has forked: forks again, and returns in the worker. */
static void split(const struct parts *parts, pid_t zygote, const struct sigaction *on_child) {
        pid_t above = getpid(), worker;
        sigset_t all, mask, child;
        int ended, error;

        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &mask);
        (void)signal(SIGCHLD, SIG_DFL);
        (void)sigemptyset(&child);
        (void)sigaddset(&child, SIGCHLD);
        (void)prctl(PR_SET_NAME, "cpexd-guard");
        ended = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
        error = ended < 0 || setsid() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? errno : hold_signals(zygote);
        if (error) {
                refuse(parts->control, error, "this system does not keep a plugin's signals to itself (Landlock; Linux 6.12)");
                _exit(1);
        }
        worker = fork();
        if (worker < 0) {
                refuse(parts->control, errno, strerror(errno));
                _exit(1);
        }
        if (worker == 0) {
                become_worker(parts, above, &mask, on_child);
                return;
        }
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                (void)close(fd);
        (void)dup2(parts->control, STDIN_FILENO);
        (void)dup2(ended, STDOUT_FILENO);
        (void)syscall(SYS_close_range, STDERR_FILENO, ~0u, 0);
        guard(worker, STDIN_FILENO, STDOUT_FILENO);
}

/* ---- The zygote ---- */

/* Return: whether this is the worker. */
static bool fork_worker(struct parts *parts, const struct sigaction *on_child) {
        pid_t zygote = getpid(), pid;
        int n_threads = are_out_of_the_way(parts) ? count_threads() : -EMFILE;

        if (n_threads != 1) {
                refuse(parts->control, n_threads < 0 ? -n_threads : 0,
                       n_threads < 0 ? strerror(-n_threads) : "its process has more than one thread");
                close_parts(parts);
                return false;
        }
        PyOS_BeforeFork();
        pid = _Fork(); /* what libraries do at a fork is to be done once, and in the worker */
        if (pid == 0) {
                split(parts, zygote, on_child);
                PyOS_AfterFork_Child();
                return true;
        }
        if (pid < 0)
                refuse(parts->control, errno, strerror(errno));
        close_parts(parts);
        PyOS_AfterFork_Parent();
        return false;
}

PyObject *zygote_fork(PyObject *module, PyObject *fd) {
        struct sigaction on_child, ignored = {.sa_handler = SIG_IGN};
        struct parts parts;
        int from = (int)PyLong_AsLong(fd);

        (void)module;
        if (PyErr_Occurred())
                return NULL;
        (void)sigaction(SIGCHLD, &ignored, &on_child); /* nobody waits for the guards */
        while (take_request(from, &parts))
                if (fork_worker(&parts, &on_child))
                        Py_RETURN_TRUE;
        Py_RETURN_FALSE;
}
