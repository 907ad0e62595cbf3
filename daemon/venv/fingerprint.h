/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The key of a venv in the cache: what it is made from, as one number. docs/venvs.md says what counts and what does not. */

#include "venv/digest.h"
#include "venv/interpreter.h"
#include "venv/requirements.h"

/* `path` of the requirements file, NULL for none. Return: 0, or negative with the reason. */
int fingerprint_compute(char ret[DIGEST_HEX_BYTES], struct requirements *ret_requirements, const struct interpreter *interpreter,
                        const char *path, char **ret_error);
