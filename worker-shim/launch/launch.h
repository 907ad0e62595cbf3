/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the daemon and cpexd-launch agree upon: descriptors and exit statuses. Statuses below 120 are the worker's own.
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LAUNCH_FD_SOCKET 3
#define LAUNCH_FD_STACKS 4 /* where Python writes its stacks, by a signal and when it crashes */

#define LAUNCH_SIGNAL_STACKS (SIGRTMAX - 1) /* has them written; shim/cpexd_worker/__main__.py and the daemon have it too */

#define LAUNCH_EXIT_USAGE 120     /* the command line is wrong */
#define LAUNCH_EXIT_SETUP 121     /* a step before Python failed; descriptor 2 says which */
#define LAUNCH_EXIT_EXEC 126      /* the interpreter is there and cannot be run */
#define LAUNCH_EXIT_NO_PYTHON 127 /* there is no such interpreter */

struct texts {
        const char **items;
        size_t n;
};

enum profile {
        PROFILE_OFF,
        PROFILE_DEFAULT,
        PROFILE_STRICT, /* no processes beside the worker */
};

struct launch {
        const char *python, *shim, *ext, *sdk, *name;
        char *const *program; /* what to run in the place of a worker: an installer of venvs; NULL: a worker */
        const char *cgroup;   /* of the worker; NULL: that of the daemon */
        pid_t parent;         /* 0: not checked */
        unsigned long long as_bytes, nofile, tasks, file_bytes; /* 0: not limited */

        enum profile profile;
        bool require;               /* refuse to start where the kernel lacks a piece */
        const char *tmp;            /* the worker's own folder; NULL: none */
        struct texts read, write;   /* folders and files beside what every worker gets */
        bool network_all, unix_all; /* TCP and UDP; Unix sockets */
        struct texts ports;         /* TCP ports to connect to, as numbers */
        struct texts lacks;         /* what the daemon cannot do for it, as launch_lacks() has it */
};

/* Says on descriptor 2 what is wrong, and ends the process. */
void launch_fail(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* A piece of the sandbox that is not to be had here: is said, or ends the process where all of it is required. */
void launch_lacks(const struct launch *launch, const char *what);

/* Has the kernel send signal `with` when the parent ends. It may have ended already: then this process does, for nobody waits for it. 0: not
 * checked. */
void follow_parent(pid_t parent, int with);

void close_from(int first);

/* Forks. Returns in the child, which is to become the worker; this process stays behind and guards it. */
void guard_enter(const struct launch *launch);

/* Removes from the environment what a worker must not inherit. */
void clean_environment(void);

/* Files, TCP ports, abstract sockets and signals. */
void landlock_enter(const struct launch *launch);

/* From now on signals of this process, and of those that it starts, reach none that it has not started. Takes new privileges away as well.
 * Return: whether that is so; kernels before 6.12 cannot. */
bool landlock_scope_signals(void);

/* Nothing of the file system but what lies below `folder`. */
void landlock_only(const char *folder);

/* System calls. Return: whether the guard logs what is denied. */
bool seccomp_enter(const struct launch *launch);

#define TYPE_MASK 0xfu /* of a socket's type, without SOCK_CLOEXEC and SOCK_NONBLOCK */
#define NEW_NAMESPACES (CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWUTS)

/* The guard is told of what the filter denies (notify.c): before the fork; whether that has worked; the way to the guard becomes `fd`, if
 * there is one (return: the first descriptor that is not needed); the listener goes to the guard. */
void notify_prepare(const struct launch *launch);
bool notify_is_possible(void);
int notify_keep_in_worker(int fd);
void notify_hand_over(int fd);

/* In the guard: what it needs for that becomes `first` and those that follow (return: as above); waits for one of the signals, which are blocked,
 * and answers meanwhile. Return: the signal's number. */
int notify_keep_in_guard(int first);
int notify_wait(const sigset_t *awaited);

/* The same for an installer, whose changes of modes and times the guard does itself (marks.c): whether it can; as above; whether a call is one of
 * those; does what is asked for, if it may be. Return: 0 or a negative errno, for the caller. */
struct seccomp_notif;
bool marks_prepare(const struct launch *launch);
int marks_keep(int first);
bool marks_are(int call);
int marks_answer(int listener, const struct seccomp_notif *request);

/* All of the sandbox: after this the process can do what a plugin may. */
void sandbox_enter(const struct launch *launch);

/* Puts process `number` from one control group into another. Return: the exit status, 0 or an errno. */
int enter_cgroup(const char *number, const char *from, const char *to);

/* Empties a folder that a plugin has filled. Return: the exit status. */
int remove_content(const char *folder);
