/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the process: its data. process.c has what is a child of ours, and what is the same for all; forked.c those that a
 * zygote forks.
 */

#include <sys/types.h>

#include "base/child.h"
#include "base/lines.h"
#include "pool/process.h"

#define LAST_LINES 5
#define LAST_LINE_BYTES 256

struct process {
        const struct process_spec *spec;
        const struct process_handler *handler;
        void *data;
        struct child *child;      /* the guard; NULL: it was forked */
        int control;              /* the socket to the guard of one that was forked, else -1 */
        struct event *on_control; /* it has something to say */
        unsigned n_kills;
        struct child *entering;        /* puts one that was forked into its control group */
        char *zygote_cgroup;           /* that it is in until then */
        char refusal[LAST_LINE_BYTES]; /* why it was not forked; empty: it was, or nobody said */
        bool for_now;                  /* that may be otherwise the next time */
        int status;                    /* of one that was forked, as its guard has told it; -1: not yet */
        pid_t pid;                     /* of the worker; 0: not told yet */
        struct lines *output;
        usec_t output_since_usec; /* the second in which output_lines are counted */
        unsigned output_lines;
        char last[LAST_LINES][LAST_LINE_BYTES]; /* a ring */
        unsigned n_last;
        int stacks;    /* the shared memory; its offset is where the worker will write */
        char *cgroup;  /* its control group; NULL: none of its own */
        char *scratch; /* its temporary folder; NULL: none of its own */
        struct event_base *base;
        off_t stacks_from; /* what is before was asked for another time */
        int memory;        /* its /proc/PID/statm */
};

/* process.c */
/* Return: NULL: no memory. */
struct process *process_new(struct event_base *base, const struct process_spec *spec, const struct process_handler *handler,
                            void *data);
/* What each process has. *ret_output is where it prints to, the caller's. */
int process_make_parts(struct process *process, const char *zygote_scratch, int *ret_output);
void process_on_child_exit(void *data, int status);
void process_tell_end(struct process *process, const char *how);

/* forked.c */
int process_watch_control(struct process *process); /* hears what is told of one that is forked */
