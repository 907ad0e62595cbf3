/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The key of a venv in the cache: what it is made from, as one number. docs/venvs.md says what counts and what does not. */

#include "venv/digest.h"
#include "venv/install.h"
#include "venv/requirements.h"

/* `path` of the requirements file, NULL for none. `rules`: what is not installed without them must not be found under another's name. Return: 0, or negative with the reason. */
int fingerprint_compute(char ret[DIGEST_HEX_BYTES], struct requirements *ret_requirements, const struct interpreter *interpreter,
                        const struct rules *rules, const char *path, char **ret_error);
