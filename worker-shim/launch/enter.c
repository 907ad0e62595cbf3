/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Puts a worker that was forked into its control group, which it cannot enter itself, being in a sandbox. The kernel takes some ten
 * milliseconds for that, so the daemon has it done by a process of its own.
 *
 * Control groups know processes by number, and by the time a number may be somebody else's. So the process is held on to all the while, and must be in the
 * group that it is expected in: what is moved is in any case one of this plugin's.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launch.h"

static FILE *open_processes(const char *group, const char *mode) {
        char *path = NULL;
        FILE *file;

        if (asprintf(&path, "%s/cgroup.procs", group) < 0)
                return NULL;
        file = fopen(path, mode);
        free(path);
        return file;
}

/* Return: 0, EPERM where it is in another one, or another errno. */
static int find_in(pid_t pid, const char *group) {
        FILE *file = open_processes(group, "re");
        bool found = false;
        int each;

        if (!file)
                return errno;
        while (!found && fscanf(file, "%d", &each) == 1)
                found = each == pid;
        (void)fclose(file);
        return found ? 0 : EPERM;
}

static int put_into(pid_t pid, const char *group) {
        FILE *file = open_processes(group, "we");

        if (!file)
                return errno;
        (void)fprintf(file, "%d", (int)pid);
        return fclose(file) == 0 ? 0 : errno;
}

/* The group may have been entered: by the one before an upgrade. */
static int move(pid_t pid, const char *from, const char *to) {
        int r = find_in(pid, to);

        if (r != EPERM)
                return r;
        r = find_in(pid, from);
        r = r ? r : put_into(pid, to);
        return r ? r : find_in(pid, to);
}

int enter_cgroup(const char *number, const char *from, const char *to) {
        pid_t pid = (pid_t)atoi(number);
        struct pollfd process = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
        int r = process.fd < 0 ? errno : move(pid, from, to);

        return process.fd >= 0 && poll(&process, 1, 0) != 0 ? ESRCH : r; /* whatever else is wrong with one that has ended */
}
