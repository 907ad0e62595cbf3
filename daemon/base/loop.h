/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The event loop of the process, and how long it has made others wait. A turn is what happens between two looks for events: whoever calls
 * meanwhile waits until it is over. What counts is the processor time of a turn, which a busy machine does not lengthen.
 */

#include <event2/event.h>
#include <stdbool.h>

#include "base/clock.h"

#define LOOP_LATE_USEC (10 * USEC_PER_MSEC)
#define LOOP_LONG_USEC (50 * USEC_PER_MSEC) /* a turn that is longer is counted, and said in the log */

struct loop_figures {
        usec_t longest_usec; /* turn so far */
        uint64_t n_long;     /* turns beyond LOOP_LONG_USEC */
};

/* Runs until event_base_loopbreak() or event_base_loopexit(), or until there is nothing to wait for. Return: 0 or -EIO. */
int loop_run(struct event_base *base);

struct loop_figures loop_figures(void);

/* Return: whether this turn has lasted so long that what can wait had better wait for another. */
bool loop_is_late(void);

/* Has `event`, one without a descriptor, run in the next turn, after what has come in meanwhile; event_active() would have it run in this
 * one, for libevent runs all active events, new ones too, before it looks at descriptors and timers again. For work that is done in pieces. */
void loop_next_turn(struct event *event);
