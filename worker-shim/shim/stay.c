/* SPDX-License-Identifier: Apache-2.0 */

#include "stay.h"

#include <errno.h>

#define HOLDS_MAX 4096
#define DECAY 40 /* so that the number of holds falls where less than one wait in fifty needs one, and rises where more do */

void stay_on(struct stay *stay, long core) {
        *stay = (struct stay){.wanted = core >= 0 && core < CPU_SETSIZE, .core = (unsigned)core};
}

/* Unless somebody else has held it somewhere meanwhile. */
static void let_go(const struct stay_hold *hold) {
        cpu_set_t now;

        if (sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_COUNT(&now) == 1 && CPU_ISSET(hold->core, &now))
                (void)sched_setaffinity(0, sizeof(hold->before), &hold->before);
}

void stay_begin(const struct stay *stay, struct stay_hold *hold) {
        int error = errno;
        cpu_set_t only;

        hold->held = false;
        hold->core = stay->core;
        if (stay->holds_left == 0)
                return;
        CPU_ZERO(&only);
        CPU_SET(stay->core, &only);
        hold->held = sched_getaffinity(0, sizeof(hold->before), &hold->before) == 0 && CPU_ISSET(stay->core, &hold->before) &&
                     sched_setaffinity(0, sizeof(only), &only) == 0;
        errno = error;
}

void stay_end(struct stay *stay, const struct stay_hold *hold) {
        int error = errno;

        if (hold->held)
                let_go(hold);
        if (!stay->wanted)
                return;
        if (stay->holds_left > 0) {
                stay->holds_left--;
        } else if (sched_getcpu() == (int)stay->core) {
                stay->holds -= (stay->holds + DECAY - 1) / DECAY;
        } else {
                stay->holds = stay->holds < HOLDS_MAX / 4 ? stay->holds * 4 + 1 : HOLDS_MAX;
                stay->holds_left = stay->holds;
        }
        errno = error;
}
