/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How cpexd-venv talks: a line of progress on standard error, and the one sentence that says why it could not do its work. The
 * sentence is handed up as text, because who meets a problem knows best what to say, and only main() prints it. Neither shows user names
 * and passwords in URLs.
 */

#include "base/util.h"

/* Writes one line to standard error. */
void say(const char *format, ...) PRINTF_LIKE(1, 2);

/* Stores the sentence in *ret_error. Return: -EIO, always, to be returned by the caller. */
int fail(char **ret_error, const char *format, ...) PRINTF_LIKE(2, 3);
