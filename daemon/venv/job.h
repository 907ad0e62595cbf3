/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Getting a plugin's venv without blocking the loop: a job is one run of the program cpexd-venv, which computes the
 * fingerprint, finds the venv in the cache or builds it there, and says where it is. What it prints on standard error is logged
 * line by line.
 *
 * The callback is called exactly once, from the loop, unless the job is cancelled (venv_job_free), which kills the program and all
 * it started.
 */

#include <event2/event.h>

#include "config/model.h"
#include "pool/cgroup.h"

struct venv_spec {
        const char *builder; /* path of cpexd-venv */
        const char *cache_dir;
        const char *python;            /* a path, or a name to look up in PATH */
        const char *requirements;      /* absolute path of the file; NULL: none */
        const char *code;              /* a folder, whose state is to be told; NULL: none */
        const char *plugin;            /* for the log */
        const struct strlist *options; /* venv_options(); NULL: none */
        struct cgroup_limits limits;   /* venv_limits(), of what is run in the build */
        const char *verify; /* the fingerprint of a venv: it is compared with what was built, and nothing is built; NULL: build */
};

struct venv_result {
        const char *error;                 /* NULL: success; else a sentence with the telling lines of the installer */
        const char *python;                /* absolute path of the venv's interpreter */
        const char *fingerprint;           /* 64 hexadecimal digits */
        const char *code;                  /* likewise, of the folder's content; NULL: not known */
        bool built;                        /* false: it was in the cache */
        const struct strlist *differences; /* of a venv that was verified: at most VENV_DIFFERENCES_MAX */
};

#define VENV_DIFFERENCES_MAX 100

typedef void (*venv_callback)(void *data, const struct venv_result *result);

struct venv_job;

/* Return: 0, or a negative errno when the program cannot be started; the callback is then not called. */
int venv_job_start(struct venv_job **ret, struct event_base *base, const struct venv_spec *spec, venv_callback callback,
                   void *data);
struct venv_job *venv_job_free(struct venv_job *job);
