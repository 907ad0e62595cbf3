/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The temporary folder of one worker, below TMPDIR: nobody else's, and gone with it.
 */

#include <event2/event.h>

/* Makes an empty one. Return: 0 or a negative errno. */
int scratch_new(char **ret);

/* Removes it; a process of its own (`launcher`) removes what is in it. NULL does nothing. Return: NULL. */
char *scratch_free(char *path, struct event_base *base, const char *launcher);

/* For the end of this process, while the loop is still there: waits up to a second for folders that are being emptied. */
void scratch_end(void);
