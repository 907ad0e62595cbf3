/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which of the daemon's variables a worker inherits: a list of harmless ones, and those that `isolation.env` names.
 */

#include "config/model.h"

/* Return: an environment for exec, NULL-terminated; NULL: no memory. The caller frees the array, but not the texts, which are those
 * of `environ`. */
char **environment_for_worker(const struct strlist *names);
