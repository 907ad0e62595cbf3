/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where a thread waits for the next message: on the processor that the daemon keeps to while calls come one after the other (notification
 * `core`, docs/protocol.md), if it may run there at all. It is held there only while it waits, so neither the thread nor what it starts notices.
 *
 * Often the scheduler wakes it there by itself, and holding it costs system calls, some fiftieth of what it costs to be woken elsewhere. So it is held
 * only once that has happened, for one wait, and for ever more, the more often it happens again without.
 */

#include <sched.h>
#include <stdbool.h>

struct stay {
        bool wanted;
        unsigned core;
        unsigned holds_left; /* waits until it is tried without */
        unsigned holds;      /* how many they were; less by one for each that went well without */
};

struct stay_hold {
        bool held;
        unsigned core;
        cpu_set_t before;
};

/* Changes where it waits from now on. `core` < 0: anywhere. */
void stay_on(struct stay *stay, long core);

/* Around each wait, by the thread that waits; errno stays as it is. */
void stay_begin(const struct stay *stay, struct stay_hold *hold);
void stay_end(struct stay *stay, const struct stay_hold *hold);
