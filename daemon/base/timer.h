/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Timers of the loop that must not be lost.
 */

#include <event2/event.h>

#include "base/clock.h"

/* Has the timer expire after `usec`. Where there is no memory for that it expires at once: better too early than never. Not for timers that
 * start themselves again, which would then hold the loop. */
static inline void timer_start(struct event *timer, usec_t usec) {
        const struct timeval after = usec_to_timeval(usec);

        if (event_add(timer, &after) < 0)
                event_active(timer, EV_TIMEOUT, 0);
}
