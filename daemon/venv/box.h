/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The box in which packages are installed, and a new venv is tried out: what a package brings with it is code, and it runs then. The launcher
 * locks it up as it does workers (worker-shim/launch); here is what one installation may do: write to the new venv and nowhere
 * else, read what the requirements and the settings name, and reach the network where it has to.
 */

#include "base/clock.h"
#include "base/util.h"

struct words {
        char **items;
        size_t n;
};
int words_add(struct words *words, const char *word); /* a copy. Return: 0 or -ENOMEM */
void words_done(struct words *words);

struct box {
        bool off;                /* no box: what is installed may do all that the user may */
        bool require;            /* nothing is run where the kernel lacks a piece */
        bool network;            /* TCP and UDP */
        bool alone;              /* no process beside the one that is run */
        const char *interpreter; /* the base */
        const char *tasks;       /* RLIMIT_NPROC; NULL: none */
        const char *cgroup;      /* the folder of the control group that it is in; NULL: ours */
        uint64_t max_bytes;      /* of the venv with all that lies beside it for the time; 0: any */
        struct words read, env;  /* of the settings */

        char *launcher;
        struct words named_read, named_write; /* of the requirements, and of variables that name files */
        char *folder;                         /* the new venv; NULL: not there yet */
        bool finished;                        /* nothing is installed any more: no network, no changes */
        usec_t next_look_usec;
};
void box_done(struct box *box);

/* Finds the launcher, beside this program. Return: 0, or negative with the reason. */
int box_find_launcher(struct box *box, char **ret_error);

/* Takes everything out of the environment but what installers need, and `box->env`. */
int box_clean_environment(const struct box *box, char **ret_error);

/* Lets a file or folder that the requirements name be read (and changed), if it lies below `folder` or the settings let it be read.
 * Return: 0, or negative with the sentence that says what to do. */
int box_allow_named(struct box *box, const char *path, const char *folder, bool change, char **ret_error);

/* Lets the files be read that variables for installers name: certificates, constraints, folders of wheels. Return: as above. */
int box_allow_variables(struct box *box, char **ret_error);

/* Return: the command with the box around it, to be freed; NULL without memory. */
const char **box_command(const struct box *box, const char *const *argv);

/* Return: whether the venv takes more than it may; looks now and then. */
bool box_is_full(struct box *box, usec_t now);
