/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The SDK's models for other files of the extension; what Python sees of them stands in cpexd.h.
 */

#include "codec.h"

#include <stdbool.h>

/* Return: a new reference to the type Model, from which BaseModel comes; NULL with an exception. */
PyObject *model_type_new(void);

enum outcome {
        FAILED = -1, /* an exception is set */
        NOT_PLAIN,
        PLAIN,
};

/* Makes a new model, an instance of Model, of a dict, as fill() does. `owned`: nobody else has the data, so nothing is copied. */
enum outcome model_fill_from(PyObject *model, PyObject *plain, PyObject *data, bool owned);
