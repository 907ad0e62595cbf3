/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether others crowd the processor is told by how long this thread was ready to run and did not, which the kernel counts. Among those who
 * take turns that is some microseconds a call; waiting for somebody who computes takes milliseconds.
 */

#include "base/core.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#define CALLS_BEFORE 32               /* in a row, before it gathers */
#define CALLS_A_LOOK 256              /* between two looks at how crowded it is */
#define CROWDED_USEC 1000             /* that a call waits for the processor, in the mean */
#define PAUSE_USEC (1 * USEC_PER_SEC) /* after it was crowded; doubles up to the next one */
#define PAUSE_MAX_USEC (64 * USEC_PER_SEC)

static bool may_gather;
static const void *last_host;
static unsigned in_a_row; /* calls; since the last look, while gathered */
static int core = CORE_NONE;
static cpu_set_t before; /* while gathered: where it may run otherwise */
static usec_t waited;    /* at the last look */
static usec_t pause_usec = PAUSE_USEC, paused_until;

/* Return: how long this thread has waited for a processor so far; 0: not known. */
static usec_t waited_usec(void) {
        unsigned long long ran, waited_nsec = 0;
        CLEANUP_FD int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
        char text[128];
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

        if (n <= 0)
                return 0;
        text[n] = '\0';
        return sscanf(text, "%llu %llu", &ran, &waited_nsec) == 2 ? waited_nsec / 1000 : 0;
}

/* Whether somebody else has held us somewhere meanwhile (taskset), and is to have his way. */
static bool is_moved(void) {
        cpu_set_t now;

        return sched_getaffinity(0, sizeof(now), &now) == 0 && !(CPU_COUNT(&now) == 1 && CPU_ISSET((unsigned)core, &now));
}

static void gather(void) {
        int here = sched_getcpu();
        cpu_set_t only;

        in_a_row = 0;
        if (clock_now_usec() < paused_until || here < 0 || sched_getaffinity(0, sizeof(before), &before) < 0 ||
            CPU_COUNT(&before) < 2)
                return;
        CPU_ZERO(&only);
        CPU_SET((unsigned)here, &only);
        if (sched_setaffinity(0, sizeof(only), &only) < 0)
                return;
        core = here;
        waited = waited_usec();
        log_debug("calls come one after the other: staying on processor %d", core);
}

static void look(void) {
        usec_t now_waited = waited_usec();
        bool crowded = now_waited - waited > (usec_t)CALLS_A_LOOK * CROWDED_USEC;

        in_a_row = 0;
        waited = now_waited;
        if (is_moved()) {
                core_spread();
                return;
        }
        if (!crowded) {
                pause_usec = PAUSE_USEC;
                return;
        }
        log_debug("processor %d is crowded: leaving the choice to the scheduler for %llu s", core,
                  (unsigned long long)(pause_usec / USEC_PER_SEC));
        core_spread();
        paused_until = clock_now_usec() + pause_usec;
        pause_usec = MIN(pause_usec * 2, PAUSE_MAX_USEC);
}

void core_set(bool may) {
        may_gather = may;
        if (!may)
                core_spread();
}

void core_on_call(const void *host, bool alone) {
        if (!alone || host != last_host) {
                last_host = host;
                core_spread();
                return;
        }
        if (!may_gather)
                return;
        in_a_row++;
        if (core == CORE_NONE && in_a_row >= CALLS_BEFORE)
                gather();
        else if (core != CORE_NONE && in_a_row >= CALLS_A_LOOK)
                look();
}

void core_spread(void) {
        bool moved;

        in_a_row = 0;
        if (core == CORE_NONE)
                return;
        moved = is_moved();
        core = CORE_NONE;
        if (moved || sched_setaffinity(0, sizeof(before), &before) == 0)
                return;
        (void)memset(&before, 0xff, sizeof(before)); /* none of those is left to us, but of all there are some */
        (void)sched_setaffinity(0, sizeof(before), &before);
}

int core_gathered(void) {
        return core;
}
