/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libevent does not tell when it has ceased to wait, so the clock is that of the thread's processor time, which stands still while it waits:
 * one look at it a turn. That is a system call, so turns that together take less than GLANCE_USEC by the wall's clock are taken as one. What is
 * not seen are system calls that wait in the kernel; there are none that can wait long.
 */

#include "base/loop.h"

#include <errno.h>

#include "base/log.h"
#include "base/timer.h"

#define GLANCE_USEC USEC_PER_MSEC

static struct loop_figures figures;
static usec_t turn_began; /* in processor time */

static usec_t busy_usec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (usec_t)now.tv_sec * USEC_PER_SEC + (usec_t)now.tv_nsec / 1000;
}

static void note_turn(usec_t usec) {
        if (usec > figures.longest_usec)
                figures.longest_usec = usec;
        if (usec <= LOOP_LONG_USEC)
                return;
        figures.n_long++;
        log_notice("the loop was busy for %llu ms at a stretch, and calls had to wait",
                   (unsigned long long)(usec / USEC_PER_MSEC));
}

/* A turn is over. `looked`: when the last look at the processor's clock was. Return: when it was by now. */
static usec_t look(usec_t looked) {
        usec_t now = clock_now_usec(), busy;

        if (now - looked < GLANCE_USEC)
                return looked;
        busy = busy_usec();
        note_turn(busy - turn_began);
        turn_began = busy;
        return now;
}

int loop_run(struct event_base *base) {
        usec_t looked = clock_now_usec();
        int r;

        turn_began = busy_usec();
        do {
                r = event_base_loop(base, EVLOOP_ONCE);
                looked = look(looked);
        } while (r == 0 && !event_base_got_break(base) && !event_base_got_exit(base));
        return r < 0 ? -EIO : 0;
}

struct loop_figures loop_figures(void) {
        return figures;
}

bool loop_is_late(void) {
        return busy_usec() - turn_began > LOOP_LATE_USEC;
}

void loop_next_turn(struct event *event) {
        timer_start(event, 0);
}
