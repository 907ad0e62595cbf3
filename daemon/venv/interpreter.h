/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The Python interpreter that a venv is made with. */

#include "base/util.h"

struct interpreter {
        char *path;    /* of the base interpreter, when the one asked for is a venv's; without symbolic links */
        char *version; /* "3.11.2" */
        char *build;   /* what else tells it apart: "cpython cpython-311 30b02f0 x86_64-linux-gnu" */
        char *pip;     /* version of the pip it can import; NULL: none */
        char *runner;  /* the script of that pip which works for another interpreter */
        bool ensurepip;
};
void interpreter_done(struct interpreter *interpreter);
#define CLEANUP_INTERPRETER CLEANUP(interpreter_done)

/* `python`: a path, or a name to look up in PATH. Refuses what is older than 3.11.
 * Return: 0, or negative with the reason. */
int interpreter_query(struct interpreter *ret, const char *python, char **ret_error);

/* Fills in what only an installation needs to know: pip and ensurepip. */
int interpreter_query_pip(struct interpreter *interpreter, char **ret_error);
