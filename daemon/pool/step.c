/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything that gives a step its outcome comes through step_finish(), so that nothing is counted twice or forgotten.
 */

#include "pool/step.h"

const usec_t step_bucket_usec[STEP_BUCKETS] = {
        50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 1000000, 5000000, 30000000, USEC_INFINITY,
};

const char *step_cause_name(enum step_cause cause) {
        static const char *const names[STEP_CAUSE_MAX_] = {
                [STEP_ANSWERED] = "answered",         [STEP_RAISED] = "exception",
                [STEP_TIMEOUT] = "timeout",           [STEP_CRASHED] = "crash",
                [STEP_MALFORMED] = "malformed",       [STEP_OVERSIZE] = "oversize",
                [STEP_QUEUE_FULL] = "queue_full",     [STEP_QUEUE_TIMEOUT] = "queue_timeout",
                [STEP_START_FAILED] = "start_failed", [STEP_STOPPED] = "stopped",
                [STEP_NO_MEMORY] = "no_memory",
        };

        return names[cause];
}

void step_finish(struct step *step, const struct step_outcome *outcome) {
        usec_t now = clock_now_usec(), took = now - step->submitted_usec;
        struct step_stats *stats = step->stats;
        size_t i = 0;

        while (took > step_bucket_usec[i])
                i++;
        stats->in_bucket[i]++;
        stats->by_cause[outcome->cause]++;
        stats->total_usec += took;
        stats->waited_usec += (step->given_usec ? step->given_usec : now) - step->submitted_usec;
        step->done_usec = now;
        step->on_done(step, outcome);
}
