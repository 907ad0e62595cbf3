/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The temporary folder of one worker, nobody else's, and gone with it. All lie in one folder of this daemon, TMPDIR/cpexd-tmp-XXXXXX, which
 * the daemon locks; what a daemon has left that was killed is recognized by that nobody holds its lock, and removed by the next one.
 *
 * One that was forked has its folder in that of its zygote, for it is in the zygote's sandbox.
 */

#include <event2/event.h>

#include "wire/carry.h"

/* Makes an empty one, in the zygote's if that is not NULL. `launcher` removes what earlier daemons have left. Return: 0 or a negative errno. */
int scratch_new(char **ret, struct event_base *base, const char *launcher, const char *zygote);

/* Removes it; a process of its own (`launcher`) removes what is in it. NULL does nothing. Return: NULL. */
char *scratch_free(char *path, struct event_base *base, const char *launcher);

/* wire/carry.h. */
void scratch_save(struct carry *carry);
int scratch_adopt(struct event_base *base, struct mp saved);

/* For the end of this process, while the loop is still there: waits up to a second for folders that are being emptied, and removes the
 * daemon's own. */
void scratch_end(void);
