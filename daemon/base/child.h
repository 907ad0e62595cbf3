/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A child process on the loop: it is watched, signalled and reaped by its own object, so no module needs a SIGCHLD handler that
 * knows of all the others.
 *
 * A child that leads a process group (setsid or setpgid in it) owns the group: whatever is left of it when the child ends is killed
 * before the child is reaped, while its number cannot yet mean somebody else. What has left the group by then, as daemons do, becomes a
 * child of this process (child_adopt_orphans()) and is killed as well.
 */

#include <event2/event.h>
#include <sys/types.h>

#include "base/util.h"

struct child;

/* Called once, from the loop, when the child has ended and is reaped; `wait_status` as from waitpid(2). May free the child. */
typedef void (*child_callback)(void *data, int wait_status);

struct child_spec {
        const char *const *argv; /* [0]: the program's path; NULL-terminated */
        char *const *env;        /* its environment, NULL-terminated; NULL: ours */
        int output, error;       /* become its descriptors 1 and 2; 0 is /dev/null */
        int extra[2];            /* become 3 and 4; the second is at least 4 here as well. Nothing else is inherited. */
        unsigned n_extra;
        bool group; /* it leads a process group of its own */
        bool heir;  /* it inherits every descriptor that is not close-on-exec; n_extra is 0 then */
};

/* Makes this process the parent of whatever its children leave behind. Children that it has already, and has not started by
 * child_spawn(), are none of its business. */
void child_adopt_orphans(void);

/* The same after an upgrade, once all children are watched that the old program has had: those `strangers` are none of our business, the
 * others are, as orphans. */
struct strangers {
        pid_t pids[64];
        size_t n;
};
const struct strangers *child_strangers(void);
void child_adopt_again(struct event_base *base, const struct strangers *strangers);

/* For the end of this process: kills what is left of anything that its children left behind, and waits for it, for up to a second. */
void child_end_orphans(void);

/* Starts a program, with all signals unblocked and at their defaults, and watches it. Return: 0 or a negative errno. */
int child_spawn(struct child **ret, struct event_base *base, const struct child_spec *spec, child_callback on_exit, void *data);

/* A pipe from a child, whose reading end does not block. Return: 0 or a negative errno. */
int child_pipe(int *ret_read, int *ret_write);

/* Takes charge of `pid`, a child of this process that nobody else waits for. Return: 0 or a negative errno; on failure the
 * child is still the caller's. */
int child_watch(struct child **ret, struct event_base *base, pid_t pid, child_callback on_exit, void *data);

/* Return: its process id, which may mean somebody else once on_exit was called. */
pid_t child_pid(const struct child *child);

/* Both do nothing once the child is reaped. */
void child_signal(struct child *child, int signal);
void child_kill_group(struct child *child); /* SIGKILL, to the child and to the group it leads */

/* It guards other processes: the first time that it is to be killed it has SIGTERM instead, so that it ends them before itself. */
void child_set_guard(struct child *child);

/* Kills the child and its group and reaps it; on_exit is not called any more. NULL does nothing. Return: NULL. */
struct child *child_free(struct child *child);
