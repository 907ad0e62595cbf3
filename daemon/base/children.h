/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The children of this thread, which in a process with one thread are all that it has: those that it started, and as a subreaper also what these
 * have left behind.
 */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* Calls `found` with each. Return: whether they could be looked for; a kernel may lack the list. */
static inline bool each_child(void (*found)(pid_t pid, void *data), void *data) {
        FILE *file = fopen("/proc/thread-self/children", "re");
        int pid;

        if (!file)
                return false;
        while (fscanf(file, "%d", &pid) == 1)
                found(pid, data);
        (void)fclose(file);
        return true;
}

/* Kills a child, and at once the group that it is in, if that is of a session that began below us: all of it are our descendants then. Who forks
 * and exits all the time has always another number, but is mostly still in the group of a child that is dead. A group of our own session may be
 * of others. Return: whether there is such a child. */
static inline bool kill_with_group(pid_t pid) {
        bool found = kill(pid, SIGKILL) == 0; /* first: after that it changes its group no more */
        pid_t group = getpgid(pid), session = getsid(pid);

        if (found && group > 1 && session > 0 && session != getsid(0))
                (void)kill(-group, SIGKILL);
        return found;
}

static inline void kill_child(pid_t pid, void *n) {
        *(int *)n += kill_with_group(pid);
}

/* Kills them. Return: how many, -1 where they could not be looked for. */
static inline int kill_children(void) {
        int n = 0;

        return each_child(kill_child, &n) ? n : -1;
}
