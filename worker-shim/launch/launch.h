/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the daemon and cpexd-launch agree upon: descriptors and exit statuses. Statuses below 120 are the worker's own.
 */

#include <sys/types.h>

#define LAUNCH_FD_SOCKET 3
#define LAUNCH_FD_STACKS 4 /* where Python writes its stacks, by a signal and when it crashes */

#define LAUNCH_EXIT_USAGE 120     /* the command line is wrong */
#define LAUNCH_EXIT_SETUP 121     /* a step before Python failed; descriptor 2 says which */
#define LAUNCH_EXIT_EXEC 126      /* the interpreter is there and cannot be run */
#define LAUNCH_EXIT_NO_PYTHON 127 /* there is no such interpreter */

struct launch {
        const char *python, *shim, *ext, *sdk, *name;
        pid_t parent;                        /* 0: not checked */
        unsigned long long as_bytes, nofile; /* 0: not limited */
};

/* Removes from the environment what a worker must not inherit. */
void clean_environment(void);
