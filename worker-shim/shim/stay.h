/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where a thread waits for the next message: on the processor that the daemon keeps to while calls come one after the other (notification
 * `core`, docs/protocol.md). It is held there only while it waits, so neither the thread nor what it starts notices.
 *
 * Often the scheduler wakes it there by itself, and holding it costs two system calls. So it is held only once it has been woken elsewhere, and now
 * and then it is tried again whether that is still needed.
 */

#include <sched.h>
#include <stdbool.h>

struct stay {
        bool wanted;
        unsigned core;
        unsigned holds_left, holds; /* waits until the next trial; between the last two */
};

struct stay_hold {
        bool held;
        cpu_set_t before;
};

/* Changes where it waits from now on. `core` < 0: anywhere. */
void stay_on(struct stay *stay, long core);

/* Around each wait, by the thread that waits; errno stays as it is. */
void stay_begin(const struct stay *stay, struct stay_hold *hold);
void stay_end(struct stay *stay, const struct stay_hold *hold);
