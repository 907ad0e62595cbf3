/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Choosing variables of the environment by their names. */

#include "base/util.h"

/* Return: whether the name that `variable` ("NAME=value") begins with is one of the patterns, NAME or NAME*. */
bool variable_is_named(const char *variable, char *const *patterns, size_t n);
