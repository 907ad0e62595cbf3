/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is done with a whole folder. */

#include "base/util.h"

/* Removes a folder and all in it, as far as possible. Return: 0 (also when there was none) or a negative errno. */
int tree_remove(const char *path);

/* Return: the disk space it takes, in bytes, as far as it can be read. */
uint64_t tree_size(const char *path);

/* Replaces every `from` by `to` in the text file `path`; leaves files alone in which it does not occur or that are not text.
 * Return: 0 or a negative errno. */
int file_replace(const char *path, const char *from, const char *to);
