/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Running other programs, and being told to stop.
 *
 * A program runs in a session of its own with nothing on standard input; its two outputs are read as one, line by line.
 * Nothing of its first group outlives run_command(), nor this process, however it ends; nor does what has left the group outlive run_command().
 */

#include "base/clock.h"
#include "base/util.h"
#include "venv/box.h"

/* From now on SIGTERM, SIGINT and SIGHUP are requests that the functions below answer. Return: 0 or a negative errno. */
int stop_watch(void);
bool stop_asked(void);
/* Sleeps. Return: stop_asked(). */
bool stop_wait(int msec);

struct run {
        const char *const *argv; /* NULL-terminated; argv[0] is a path */
        const char *folder;      /* to run in; NULL: here */
        struct box *box;         /* NULL: none, the program is trusted */
        usec_t timeout_usec;
        void (*on_line)(void *data, const char *line); /* at most 2 KiB; longer lines come in pieces */
        void *data;
};

/* Return: 0 with the program's wait status, or negative with the reason: it cannot be started, ran out of time, or a stop was
 * asked for. */
int run_command(const struct run *run, int *ret_status, char **ret_error);

/* Return: the path of the executable file `name` in PATH (a name with a slash is a path already), NULL if there is none. */
char *run_find(const char *name);
