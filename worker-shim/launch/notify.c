/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the filter of system calls denies is said in the worker's log: by the guard, since whoever is denied something may be a library that
 * swallows the error, and may not be trusted to tell. The kernel asks the guard (seccomp's user notification), which answers with the same
 * EPERM that the filter would give. It looks at the numbers that the kernel hands over, and at no memory of the worker's; it never lets a call
 * go on. Should there be no guard any more, the kernel answers ENOSYS; while it is stopped, the call waits until its worker is killed.
 *
 * The worker has the listener to hand over before Python starts. It must not keep it: it could answer itself.
 *
 * Each kind of call is told of once, so what a worker can have written is bounded. And it can keep the guard busy for no more than so many calls a
 * second: the others wait, and slow down nobody but who makes them.
 *
 * Between poll() and receiving the call may have ended, as its process was killed. Then the kernel has nothing, and says so, for it counts
 * what came and not what is there: receiving does not block.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "launch.h"

#define TICK_MSEC 100
#define ANSWERS 1000 /* in a tick */
#define CALLS 1024
#define FAMILIES 64

static int worker_end = -1; /* of the channel for the listener */
static int channel = -1, listener = -1, signals = -1;
static int output = -1;  /* the worker's standard error, but so that writing does not block */
static unsigned answers; /* in this tick */
static bool for_installer;
static bool in_list; /* the plugin has some network already: what is missing goes into that list */
static struct seccomp_notif *request;
static struct seccomp_notif_resp *answer;

/* ---- Before there are two ---- */

static bool prepare(void) {
        sigset_t none;
        int ends[2];

        (void)sigemptyset(&none);
        output = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        signals = signalfd(-1, &none, SFD_CLOEXEC);
        if (output < 0 || signals < 0 || seccomp_notify_alloc(&request, &answer) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return false;
        channel = ends[0];
        worker_end = ends[1];
        return true;
}

void notify_prepare(const struct launch *launch) {
        for_installer = launch->program != NULL;
        in_list = launch->unix_all || launch->network_all || launch->ports.n > 0;
        if (launch->profile != PROFILE_OFF && (!for_installer || marks_prepare(launch)))
                (void)prepare();
}

/* ---- In the worker ---- */

int notify_keep_in_worker(int fd) {
        if (worker_end < 0)
                return fd;
        if (worker_end != fd && dup3(worker_end, fd, O_CLOEXEC) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot keep the way to the guard: %m");
        worker_end = fd;
        return fd + 1;
}

bool notify_is_possible(void) {
        return worker_end >= 0;
}

void notify_hand_over(int fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
        struct iovec byte = {.iov_base = "", .iov_len = 1};
        const struct msghdr message = {
                .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        if (sendmsg(worker_end, &message, MSG_NOSIGNAL) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot hand over to the guard who asks what is denied: %m");
        (void)close(fd);
        (void)close(worker_end);
}

/* ---- In the guard ---- */

static void drop(int *fd) {
        (void)close(*fd);
        *fd = -1;
}

/* Its own end of the channel goes with the worker that ends before. */
static void receive_listener(void) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        char byte;
        struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        const struct cmsghdr *header = NULL;

        if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) > 0)
                header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_type == SCM_RIGHTS)
                memcpy(&listener, CMSG_DATA(header), sizeof(listener));
        drop(&channel);
}

static const char *family_name(unsigned family) {
        static const char *const names[] = {
                [AF_UNIX] = "AF_UNIX",     [AF_INET] = "AF_INET",           [AF_INET6] = "AF_INET6", [AF_NETLINK] = "AF_NETLINK",
                [AF_PACKET] = "AF_PACKET", [AF_BLUETOOTH] = "AF_BLUETOOTH", [AF_ALG] = "AF_ALG",     [AF_VSOCK] = "AF_VSOCK",
        };

        return family < sizeof(names) / sizeof(names[0]) ? names[family] : NULL;
}

/* shim/cpexd_worker/_sandbox.py says the same of an exception. */
#define IN_ENTRY "; to allow it, add to isolation.sandbox in the plugin's entry: %s"
#define BY_NOTHING "; nothing less than profile: off in isolation.sandbox allows it, which is no sandbox"
#define BY_NOTHING_FOR_INSTALLERS "; nothing less than venv.sandbox: false in cpexd.yaml allows it, which is no sandbox"

/* Of a line that is not written now, as the pipe is full, no part is. Return: whether it was. */
static bool say(const char *call, const char *setting) {
        char text[256];
        int n = snprintf(text, sizeof(text), "the sandbox has denied %s", call);

        if (for_installer || !setting)
                n += snprintf(text + n, sizeof(text) - (size_t)n, "%s\n", for_installer ? BY_NOTHING_FOR_INSTALLERS : BY_NOTHING);
        else
                n += snprintf(text + n, sizeof(text) - (size_t)n, IN_ENTRY "\n", setting);
        return write(output, text, (size_t)n) == n;
}

static bool say_socket(unsigned family, bool internet) {
        const char *name = family_name(family);
        char call[48];

        if (name)
                (void)snprintf(call, sizeof(call), "socket(%s)", name);
        else
                (void)snprintf(call, sizeof(call), "socket() of family %u", family);
        if (internet)
                return say(call, in_list ? "network: [HOST:PORT] or [all]" : "network: [HOST:PORT] or all");
        return say(call, family != AF_UNIX ? NULL : in_list ? "network: [unix]" : "network: unix");
}

static void tell_socket(const struct seccomp_data *call) {
        static bool told[FAMILIES][2];
        const unsigned family = (unsigned)call->args[0], type = (unsigned)call->args[1] & TYPE_MASK;
        const bool internet = (family == AF_INET || family == AF_INET6) && (type == SOCK_STREAM || type == SOCK_DGRAM);
        bool *it = &told[internet ? AF_INET : family < FAMILIES ? family : 0][internet];

        if (!*it)
                *it = say_socket(family, internet);
}

/* Whether it is for a new process; the default profile denies that only with a namespace. */
static bool is_fork(const char *name, const struct seccomp_data *call) {
        return strcmp(name, "fork") == 0 || strcmp(name, "vfork") == 0 ||
               (strcmp(name, "clone") == 0 && !(call->args[0] & NEW_NAMESPACES));
}

static void tell_call(const struct seccomp_data *call) {
        static bool told[CALLS];
        bool *it = &told[call->nr > 0 && call->nr < CALLS ? call->nr : 0];
        char *name = *it ? NULL : seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call->nr);

        /* venv.only_binary lets an installer start nothing, and installers try that to say what system this is. */
        if (name && for_installer && is_fork(name, call))
                *it = true;
        if (!*it)
                *it = say(name ? name : "a system call without a name", name && is_fork(name, call) ? "profile: default" : NULL);
        free(name);
}

/* What is gone by now needs no answer. */
static void answer_one(void) {
        bool marks;

        answers++;
        memset(request, 0, sizeof(*request));
        if (seccomp_notify_receive(listener, request) < 0)
                return;
        memset(answer, 0, sizeof(*answer));
        answer->id = request->id;
        marks = for_installer && marks_are(request->data.nr);
        answer->error = marks ? marks_answer(listener, request) : -EPERM;
        (void)seccomp_notify_respond(listener, answer);
        if (marks)
                return;
        if (request->data.nr == SCMP_SYS(socket))
                tell_socket(&request->data);
        else
                tell_call(&request->data);
}

/* Return: how long no more is answered. */
static int pause_msec(void) {
        static int64_t tick;
        struct timespec now;
        int64_t msec;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        msec = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
        if (msec - tick >= TICK_MSEC) {
                tick = msec;
                answers = 0;
        }
        return answers < ANSWERS ? 0 : (int)(tick + TICK_MSEC - msec);
}

int notify_keep_in_guard(int first) {
        int *const kept[] = {&channel, &signals, &output};

        if (channel < 0)
                return first;
        for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
                *kept[i] = dup2(*kept[i], first++);
        return marks_keep(first);
}

int notify_wait(const sigset_t *awaited) {
        struct signalfd_siginfo info;

        if (channel < 0 && listener < 0)
                return sigwaitinfo(awaited, NULL);
        (void)signalfd(signals, awaited, 0); /* of one that is there this changes the set, and cannot fail */
        for (;;) {
                int pause = pause_msec();
                struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
                                       {.fd = channel, .events = POLLIN},
                                       {.fd = pause ? -1 : listener, .events = POLLIN}};

                (void)poll(fds, sizeof(fds) / sizeof(fds[0]), pause ? pause : -1);
                if (fds[0].revents && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
                        return (int)info.ssi_signo;
                if (fds[1].revents)
                        receive_listener();
                if (fds[2].revents & POLLIN)
                        answer_one();
                else if (fds[2].revents) /* nobody is left who could ask */
                        drop(&listener);
        }
}
