/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The processor that the daemon keeps to while calls come one after the other.
 *
 * Linux puts whoever is woken on a processor that is idle, if there is one, and to wake that takes longer than a small call does. Between a
 * host, the daemon and a worker, of which but one works at a time, that is three times for nothing. So after some calls in a row, each from the same host
 * and with nothing else under way, the daemon gathers: it stays where it runs, and tells those hosts that asked for it, and workers, to wait for their
 * next message there, too (notification `core`, docs/protocol.md). It spreads again, which leaves all to the scheduler, with the first thing that could be done in parallel, and
 * for a while where others crowd that processor.
 *
 * What it starts has all the processors that it had itself: nothing is started while gathered.
 */

#include <stdbool.h>

#define CORE_NONE (-1)

/* Whether it ever gathers (setting `one_core`). */
void core_set(bool may_gather);

/* A call has come. `host`: whose it is, which is only compared; `alone`: no other one is in flight. */
void core_on_call(const void *host, bool alone);

void core_spread(void);

/* Return: the processor, CORE_NONE while spread. */
int core_gathered(void);
