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

static inline void kill_child(pid_t pid, void *n) {
        *(int *)n += kill(pid, SIGKILL) == 0;
}

/* Kills them. Return: how many, -1 where they could not be looked for. */
static inline int kill_children(void) {
        int n = 0;

        return each_child(kill_child, &n) ? n : -1;
}
