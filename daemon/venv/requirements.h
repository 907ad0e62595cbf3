/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a requirements.txt asks for, with everything it includes, in the form that two files with the same meaning share.
 */

#include "base/buf.h"
#include "venv/box.h"
#include "venv/digest.h"

struct requirements {
        unsigned n_lines;     /* that say something, in all files; 0: nothing to install */
        char *summary;        /* the first of them, for people, without passwords; "" if none */
        struct words files;   /* that they name: to be read */
        struct words folders; /* packages among them, in which building leaves things */
};
void requirements_done(struct requirements *requirements);
#define CLEANUP_REQUIREMENTS CLEANUP(requirements_done)

/* Reads the file `path` and adds its meaning to `digest`. Return: 0, or negative with the reason. */
int requirements_read(struct requirements *ret, const char *path, struct digest *digest, char **ret_error);
