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

#define GROUPS 64

/* The last groups that were killed in one look at the children. */
struct groups {
        pid_t killed[GROUPS];
        unsigned n;
};

static inline bool groups_have(const struct groups *groups, pid_t group) {
        for (unsigned i = 0; i < GROUPS; i++)
                if (groups->killed[i] == group)
                        return true;
        return false;
}

/* Kills a child, and at once the group that it is in, if that is of a session that began below us: all of it are our descendants then. Who forks
 * and exits all the time has always another number, but is mostly still in the group of a child that is dead. A group of our own session may be
 * of others. Once is enough: thousands of children may be in one group of thousands. Return: whether there is such a child. */
static inline bool kill_with_group(pid_t pid, struct groups *groups) {
        bool found = kill(pid, SIGKILL) == 0; /* first: after that it changes its group no more */
        pid_t group = getpgid(pid), session = getsid(pid);

        if (found && group > 1 && session > 0 && session != getsid(0) && !groups_have(groups, group)) {
                (void)kill(-group, SIGKILL);
                groups->killed[groups->n++ % GROUPS] = group;
        }
        return found;
}

struct killing {
        int n;
        struct groups groups;
};

static inline void kill_child(pid_t pid, void *data) {
        struct killing *killing = data;

        killing->n += kill_with_group(pid, &killing->groups);
}

/* Kills them. Return: how many, -1 where they could not be looked for. */
static inline int kill_children(void) {
        struct killing killing = {0};

        return each_child(kill_child, &killing) ? killing.n : -1;
}
