/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One that was forked is no child of ours, nor is its guard (worker-shim/shim/fork.c): a socket that both hold stands for it. What comes over that
 * is of the zygote's making, so of a plugin's, but for the process id. It decides how the end is told, and nothing else: should processes be left
 * they are in the zygote's sandbox and limits, and end with it.
 */

#include "pool/forked.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef SO_PASSPIDFD /* Linux 6.5 */
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

static void on_control_end(struct process *process) {
        (void)event_del(process->on_control);
        if (process->refusal[0])
                process_tell_end(process, process->refusal);
        else if (process->status >= 0)
                process_on_child_exit(process, process->status);
        else
                process_tell_end(process, "its guard has ended, and did not say how the worker did");
}

static void on_entered(void *data, int status) {
        struct process *process = data;

        process->entering = child_free(process->entering);
        if (status == 0) {
                free(TAKE(process->zygote_cgroup));
                process->handler->on_started(process->data);
                return;
        }
        if (WEXITSTATUS(status) != ESRCH) { /* else it has ended, and its guard says how */
                (void)snprintf(process->refusal, sizeof(process->refusal), "it does not get into its control group: %s",
                               WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : strsignal(WTERMSIG(status)));
                process->for_now = true;
        }
        (void)process_kill(process);
}

/* Until that is done it waits for its first message, and has nothing to do with the plugin. */
static void enter_cgroup(struct process *process) {
        char pid[16];
        const char *const argv[] = {process->spec->launcher, "--enter-cgroup", pid,
                                    process->zygote_cgroup,  process->cgroup,  NULL};
        const struct child_spec child = {.argv = argv, .output = STDERR_FILENO, .error = STDERR_FILENO};

        (void)snprintf(pid, sizeof(pid), "%d", (int)process->pid);
        if (!process->zygote_cgroup)
                process->handler->on_started(process->data);
        else if (child_spawn(&process->entering, process->base, &child, on_entered, process) < 0)
                on_entered(process, W_EXITCODE(EAGAIN, 0));
}

/* Who has sent a message. */
struct sender {
        pid_t pid;  /* as it was then */
        int handle; /* pidfd; -1: it has ended, or the kernel has none */
};

static bool is_running(const struct sender *sender) {
        struct pollfd ended = {.fd = sender->handle, .events = POLLIN};

        return sender->handle >= 0 && poll(&ended, 1, 0) == 0;
}

static void take(struct process *process, const char *text, size_t len, const struct sender *sender) {
        if (text[0] == 'p' && process->pid == 0 && sender->pid > 0) {
                process->refusal[0] = 0;
                process->for_now = false;
                process_started(process, sender->pid);
                if (!is_running(sender)) /* its number may be somebody else's by now */
                        process->memory = fd_close(process->memory);
                enter_cgroup(process);
        } else if (text[0] == 's' && len == 1 + sizeof(process->status)) {
                memcpy(&process->status, text + 1, sizeof(process->status));
        } else if ((text[0] == 'e' || text[0] == 'a') && process->pid == 0) {
                (void)snprintf(process->refusal, sizeof(process->refusal), "%s", text + 1);
                process->for_now = text[0] == 'a';
        }
}

/* What it says of the sender is the kernel's word. Descriptors are the plugin's doing. */
static struct sender sender_of(struct msghdr *message) {
        struct sender sender = {.handle = -1};

        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
                const size_t len = header->cmsg_len - CMSG_LEN(0);
                struct ucred credentials;
                int fd;

                if (header->cmsg_type == SCM_CREDENTIALS && len == sizeof(credentials)) {
                        memcpy(&credentials, CMSG_DATA(header), sizeof(credentials));
                        sender.pid = credentials.pid;
                } else if (header->cmsg_type == SCM_PIDFD && len == sizeof(fd)) {
                        memcpy(&sender.handle, CMSG_DATA(header), sizeof(fd));
                } else if (header->cmsg_type == SCM_RIGHTS) {
                        for (size_t at = 0; at + sizeof(fd) <= len; at += sizeof(fd)) {
                                memcpy(&fd, CMSG_DATA(header) + at, sizeof(fd));
                                (void)close(fd);
                        }
                }
        }
        return sender;
}

static void hear(struct process *process) {
        char text[LAST_LINE_BYTES];
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = {text, sizeof(text) - 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(process->control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        struct sender sender;

        if (n < 0 && errno == EAGAIN)
                return;
        if (n < 0) {
                on_control_end(process);
                return;
        }
        text[n] = 0;
        sender = sender_of(&message);
        if (n > 0)
                take(process, text, (size_t)n, &sender);
        (void)fd_close(sender.handle);
        if (n == 0)
                on_control_end(process);
}

static void on_control(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        if (what & EV_TIMEOUT)
                enter_cgroup(data);
        else
                hear(data);
}

int process_watch_control(struct process *process) {
        (void)setsockopt(process->control, SOL_SOCKET, SO_PASSPIDFD, &(int){1}, sizeof(int));
        process->on_control = event_new(process->base, process->control, EV_READ | EV_PERSIST, on_control, process);
        return process->on_control && event_add(process->on_control, NULL) == 0 ? 0 : -ENOMEM;
}

/* The zygote is sent one byte, and with it what the new process has. */
static int ask_for_fork(int zygote, const int parts[4]) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control = {.header = {.cmsg_len = CMSG_LEN(4 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
        struct iovec part = {"f", 1};
        const struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

        memcpy(CMSG_DATA(&control.header), parts, 4 * sizeof(int));
        return sendmsg(zygote, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int make_control(struct process *process, int *ret_theirs) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        process->control = pair[0];
        *ret_theirs = pair[1];
        return setsockopt(process->control, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) < 0 ? -errno : 0;
}

int process_fork(struct process **ret, struct event_base *base, const struct process_spec *spec, const struct zygote *zygote,
                 int socket, const struct process_handler *handler, void *data) {
        struct process *process = process_new(base, spec, handler, data);
        CLEANUP_FD int output = -1, control = -1;
        int r;

        if (!process)
                return -ENOMEM;
        r = process_make_parts(process, zygote->process->scratch, &output);
        if (r == 0 && process->cgroup) {
                process->zygote_cgroup = zygote->process->cgroup ? strdup(zygote->process->cgroup) : NULL;
                r = process->zygote_cgroup ? 0 : -ENOMEM;
        }
        r = r ? r : make_control(process, &control);
        r = r ? r : process_watch_control(process);
        r = r ? r : ask_for_fork(zygote->connection, (const int[4]){socket, output, process->stacks, control});
        if (r < 0) {
                (void)process_free(process);
                return r;
        }
        *ret = process;
        return 0;
}
