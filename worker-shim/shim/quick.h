/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Plain calls in one step, from the request's bytes to the answer's: no more of Python runs for them than the plugin itself.
 *
 * Plain is a request for a hook that Python has prepared here after it has served it once (Hook.quick() of _hook.py), whose
 * values have the types of their fields, and a result that says nothing but a payload, metadata and a delay. Whatever else comes is
 * left to Python: a request before anything has happened, a call that has begun with all that there is of it. So nothing is decided
 * here that is not decided in _hook.py, too.
 */

#include "cpexd.h"

#include <stdbool.h>
#include <stdint.h>

enum quick_outcome {
        QUICK_FAILED = -1, /* an exception is set */
        QUICK_NOT,         /* not a plain request */
        QUICK_ANSWERED,    /* the pieces to send */
        QUICK_BEGUN,       /* a tuple: see Quick in quick.c */
};

/* Return: whether it is a Quick; if not, with TypeError. */
bool quick_check(PyObject *object);

/* `quick`: a Quick. `ret`: a new reference. */
enum quick_outcome quick_serve(PyObject *quick, const uint8_t *data, size_t len, PyObject **ret);

/* Return: a new reference to the type Quick, NULL with an exception. */
PyObject *quick_type_new(void);
