/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Timers of the loop that must not be lost.
 */

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/clock.h"

/* Has the timer expire after `usec`. Where there is no memory for that it expires at once: better too early than never. Not for timers that
 * start themselves again, which would then hold the loop. */
static inline void timer_start(struct event *timer, usec_t usec) {
        const struct timeval after = usec_to_timeval(usec);

        if (event_add(timer, &after) < 0)
                event_active(timer, EV_TIMEOUT, 0);
}

/* Return: when it expires, on our clock, which is the loop's; 0: it does not. */
static inline usec_t timer_at(const struct event *timer) {
        if (!event_pending(timer, EV_TIMEOUT, NULL))
                return 0;
        return (usec_t)timer->ev_timeout.tv_sec * USEC_PER_SEC + (usec_t)timer->ev_timeout.tv_usec;
}

/* Has it expire at that time, at once where that is over; at 0: not at all. */
static inline void timer_start_at(struct event *timer, usec_t at_usec) {
        usec_t now = clock_now_usec();

        if (at_usec > 0)
                timer_start(timer, at_usec > now ? at_usec - now : 0);
}
