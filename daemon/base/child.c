/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pidfd becomes readable when its process ends, and the loop waits for that like for any other descriptor. Where the kernel has
 * none (before 5.3, or a filter forbids it) a timer asks instead.
 *
 * Until it is reaped, a process keeps its number even when dead; so every signal goes out before that, and by number.
 *
 * Orphans are looked for whenever a child was reaped, in the kernel's list of our children: those that we do not know are somebody's
 * leftovers. They are killed and watched like any child, and what they leave behind comes to light when they are reaped. That may fail for want
 * of a descriptor; so they are looked for, too, when a child was started, for then there are some again.
 *
 * A killed process is gone within a millisecond or so, and child_free() waits for it; a guard for which that is not long enough leaves what it
 * guards to us. Should it hang in the kernel (a dead network file system), the loop must not hang with it: the object then stays behind, on its
 * own, and reaps when it can.
 */

#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/children.h"
#include "base/core.h"

#define ASK_MSEC 20
#define BUCKETS 1024
#define FREE_WAIT_MSEC 100
#define END_WAIT_MSEC 1000

struct child {
        LIST_ENTRY(child) link;
        struct event_base *base;
        pid_t pid;
        int pidfd; /* -1: none */
        bool reaped;
        bool guards; /* others, and has not been asked to end yet */
        struct event *event;
        child_callback on_exit; /* NULL: freed by its owner */
        void *data;
};

/* By pid: each of thousands is looked up whenever one of them starts or ends. */
static LIST_HEAD(, child) children[BUCKETS];
static bool adopting;
static struct strangers strangers; /* children that were there before */

static void child_destroy(struct child *child) {
        LIST_REMOVE(child, link);
        if (child->event)
                event_free(child->event);
        (void)fd_close(child->pidfd);
        free(child);
}

static bool has_ended(const struct child *child) {
        siginfo_t info = {0};

        if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                return errno == ECHILD; /* somebody reaped it: there is nothing to wait for */
        return info.si_pid == child->pid;
}

/* Return: whether it has ended, and is reaped then. */
static bool child_reap(struct child *child, int *ret_status) {
        int status;

        if (!has_ended(child))
                return false;
        (void)kill(-child->pid, SIGKILL);
        if (waitpid(child->pid, &status, WNOHANG) != child->pid)
                status = W_EXITCODE(255, 0);
        child->reaped = true;
        *ret_status = status;
        return true;
}

static bool is_known(pid_t pid) {
        const struct child *child;

        LIST_FOREACH(child, &children[(unsigned)pid % BUCKETS], link)
                if (child->pid == pid)
                        return true;
        for (size_t i = 0; i < strangers.n; i++)
                if (strangers.pids[i] == pid)
                        return true;
        return false;
}

/* One look at the orphans. */
struct look {
        struct event_base *base;
        struct groups groups;
        bool left;
};

static void kill_orphan(pid_t pid, void *data) {
        struct look *look = data;
        struct child *orphan;

        if (is_known(pid))
                return;
        (void)kill_with_group(pid, &look->groups);
        (void)child_watch(&orphan, look->base, pid, NULL, NULL); /* if it fails, the next sweep finds it again */
}

static void kill_orphans(struct event_base *base) {
        struct look look = {.base = base};

        if (adopting)
                (void)each_child(kill_orphan, &look);
}

static void note_stranger(pid_t pid, void *data) {
        (void)data;
        if (strangers.n < ELEMENTS(strangers.pids))
                strangers.pids[strangers.n++] = pid;
}

void child_adopt_orphans(void) {
        (void)each_child(note_stranger, NULL);
        adopting = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
}

const struct strangers *child_strangers(void) {
        return &strangers;
}

void child_adopt_again(struct event_base *base, const struct strangers *those) {
        strangers = *those;
        adopting = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
        kill_orphans(base);
}

static void end_orphan(pid_t pid, void *data) {
        struct look *look = data;

        if (!is_known(pid) && kill_with_group(pid, &look->groups) && waitpid(pid, NULL, WNOHANG) == 0)
                look->left = true;
}

void child_end_orphans(void) {
        for (int i = 0; adopting && i < END_WAIT_MSEC; i++) {
                struct look look = {0};

                each_child(end_orphan, &look);
                if (!look.left)
                        return;
                (void)poll(NULL, 0, 1);
        }
}

static void on_event(evutil_socket_t fd, short what, void *data) {
        struct child *child = data;
        int status;

        (void)fd;
        (void)what;
        if (!child_reap(child, &status))
                return;
        (void)event_del(child->event);
        kill_orphans(child->base);
        if (child->on_exit)
                child->on_exit(child->data, status);
        else
                child_destroy(child);
}

int child_watch(struct child **ret, struct event_base *base, pid_t pid, child_callback on_exit, void *data) {
        const struct timeval ask = {.tv_usec = ASK_MSEC * 1000};
        struct child *child = malloc(sizeof(*child));

        if (!child)
                return -ENOMEM;
        *child = (struct child){
                .base = base, .pid = pid, .pidfd = (int)syscall(SYS_pidfd_open, pid, 0), .on_exit = on_exit, .data = data};
        LIST_INSERT_HEAD(&children[(unsigned)pid % BUCKETS], child, link);
        if (child->pidfd < 0 && (errno == EMFILE || errno == ENFILE)) {
                LIST_REMOVE(child, link);
                free(child);
                return -EMFILE;
        }
        child->event = event_new(base, child->pidfd, (child->pidfd < 0 ? 0 : EV_READ) | EV_PERSIST, on_event, child);
        if (!child->event || event_add(child->event, child->pidfd < 0 ? &ask : NULL) < 0) {
                child_destroy(child);
                return -ENOMEM;
        }
        *ret = child;
        return 0;
}

pid_t child_pid(const struct child *child) {
        return child->pid;
}

void child_signal(struct child *child, int signal) {
        if (!child->reaped)
                (void)kill(child->pid, signal);
}

void child_set_guard(struct child *child) {
        child->guards = true;
}

void child_kill_group(struct child *child) {
        if (child->reaped)
                return;
        if (child->guards) {
                child->guards = false;
                (void)kill(child->pid, SIGTERM);
                return;
        }
        (void)kill(-child->pid, SIGKILL);
        (void)kill(child->pid, SIGKILL);
}

static void kill_and_wait(struct child *child) {
        int status;

        child_kill_group(child);
        for (int i = 0; i < FREE_WAIT_MSEC && !child->reaped && !child_reap(child, &status); i++)
                (void)poll(&(struct pollfd){.fd = child->pidfd, .events = POLLIN}, 1, 1);
}

struct child *child_free(struct child *child) {
        if (!child)
                return NULL;
        if (child->guards)
                kill_and_wait(child);
        kill_and_wait(child);
        if (child->reaped)
                child_destroy(child);
        else
                child->on_exit = NULL;
        return NULL;
}

int child_spawn(struct child **ret, struct event_base *base, const struct child_spec *spec, child_callback on_exit, void *data) {
        short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (spec->group ? POSIX_SPAWN_SETPGROUP : 0);
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        pid_t pid;
        int r;

        core_spread();
        if (posix_spawn_file_actions_init(&actions) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                (void)posix_spawn_file_actions_destroy(&actions);
                return -ENOMEM;
        }
        (void)sigemptyset(&none);
        (void)sigfillset(&all);
        r = posix_spawnattr_setsigmask(&attributes, &none);
        r = r ? r : posix_spawnattr_setsigdefault(&attributes, &all);
        r = r ? r : posix_spawnattr_setpgroup(&attributes, 0);
        r = r ? r : posix_spawnattr_setflags(&attributes, flags);
        r = r ? r : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, spec->output, STDOUT_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, spec->error, STDERR_FILENO);
        for (unsigned i = 0; i < spec->n_extra; i++)
                r = r ? r : posix_spawn_file_actions_adddup2(&actions, spec->extra[i], STDERR_FILENO + 1 + (int)i);
        if (!spec->heir)
                r = r ? r : posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1 + (int)spec->n_extra);
        r = r ? r
              : posix_spawn(&pid, spec->argv[0], &actions, &attributes, (char *const *)spec->argv,
                            spec->env ? spec->env : environ);
        (void)posix_spawnattr_destroy(&attributes);
        (void)posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                return -r;
        r = child_watch(ret, base, pid, on_exit, data);
        if (r < 0) {
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        kill_orphans(base);
        return r;
}

int child_pipe(int *ret_read, int *ret_write) {
        CLEANUP_FD int read_fd = -1, write_fd = -1;
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        read_fd = fds[0];
        write_fd = fds[1];
        if (fcntl(read_fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        *ret_read = TAKE_FD(read_fd);
        *ret_write = TAKE_FD(write_fd);
        return 0;
}
