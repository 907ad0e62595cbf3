/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/util.h"

/* Return: a copy of the text in which what stands between "://" and "@" of each URL, a user's name and perhaps a password, is four stars; the
 * caller frees it; NULL without memory. */
char *mask_credentials(const char *text);
