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

static bool is_in(pid_t pid, const char *group) {
        FILE *file = open_processes(group, "re");
        bool found = false;
        int each;

        while (file && !found && fscanf(file, "%d", &each) == 1)
                found = each == pid;
        if (file)
                (void)fclose(file);
        return found;
}

static bool put_into(pid_t pid, const char *group) {
        FILE *file = open_processes(group, "we");

        if (!file)
                return false;
        (void)fprintf(file, "%d", (int)pid);
        return fclose(file) == 0;
}

int enter_cgroup(const char *number, const char *from, const char *to) {
        pid_t pid = (pid_t)atoi(number);
        int process = (int)syscall(SYS_pidfd_open, pid, 0);

        if (process < 0)
                return errno;
        if (!is_in(pid, to)) { /* the one before an upgrade may have done it */
                if (!is_in(pid, from))
                        return ESRCH;
                if (!put_into(pid, to))
                        return errno;
        }
        return is_in(pid, to) && syscall(SYS_pidfd_send_signal, process, 0, NULL, 0) == 0 ? 0 : ESRCH;
}
