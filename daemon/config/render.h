/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Having a template rendered by Jinja2, in a process of the system's Python (render.py), whose time, memory and output are bounded.
 */

#include "base/util.h"

struct event_base;

struct render_job {
        const char *python, *script;
        const char *text; /* the template; needed only until render_start() returns */
        size_t len;
        unsigned seconds; /* that it may take */
};

/* Either the text or the error is set. */
struct render_result {
        const char *text;
        size_t len;
        const char *error; /* a sentence */
        unsigned line;     /* of the template; 0: not known */
};

/* Called once, from the loop. May free the render. */
typedef void (*render_callback)(void *data, const struct render_result *result);

struct render;

/* Return: 0 or a negative errno. A Python that cannot be run is a result. */
int render_start(struct render **ret, struct event_base *base, const struct render_job *job, render_callback callback,
                 void *data);

/* Kills the process if it runs. NULL does nothing. Return: NULL. */
struct render *render_free(struct render *render);
