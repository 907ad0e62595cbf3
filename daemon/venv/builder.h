/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Making a venv in one place that will be used from another. */

#include <jansson.h>

#include "venv/install.h"

struct build {
        struct interpreter *interpreter;
        const char *requirements; /* absolute path; NULL: nothing to install */
        const char *building;     /* where it is made, absolute */
        const char *place;        /* where it will be: in the same folder */
        const struct rules *rules;
        struct box *box;
        json_t **packages; /* what was installed (audit.h); stays NULL when nothing was */
        enum installer installer;
        usec_t timeout_usec;
};

/* Return: 0 with what installed the requirements ("none"), or negative with the reason; `building` then holds whatever there is. */
int build_venv(const struct build *build, char **ret_installer, char **ret_error);
