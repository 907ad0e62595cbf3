/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who goes first when the machine has no memory left. A unit may protect the daemon (OOMScoreAdjust=), which what it starts inherits, and must not
 * keep.
 */

#include <stdio.h>

#define OOM_SCORE_MAX 1000
#define OOM_SCORE_WORKER 300
#define OOM_SCORE_BUILDER 500 /* what builds a venv can be built again, and nobody has it yet */

/* Makes this process a likelier victim than others are by default. It is advice: a failure changes nothing. */
static inline void oom_expose(int by) {
        FILE *file = fopen("/proc/self/oom_score_adj", "r+e");
        int score;

        if (!file)
                return;
        if (fscanf(file, "%d", &score) == 1) {
                score = (score > 0 ? score : 0) + by;
                rewind(file);
                (void)fprintf(file, "%d", score > OOM_SCORE_MAX ? OOM_SCORE_MAX : score);
        }
        (void)fclose(file);
}
