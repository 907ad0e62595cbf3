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

/* Everything else in an answer is, or becomes, part of the next plugin's input, or ends the call. */
bool answer_leaves_input(struct mp error, struct mp result) {
        static const char *const harmless[] = {"metadata", "retry_delay_ms", "contexts", "http_headers"};
        struct mp_cur cur = mp_cur(result);
        struct mp key, value;
        uint32_t n;

        if (!mp_is_nil(error) || !mp_read_map(&cur, &n))
                return false;
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                size_t i = 0;

                while (i < ELEMENTS(harmless) && !mp_eq_str(key, harmless[i]))
                        i++;
                if (i == ELEMENTS(harmless))
                        return false;
        }
        return n == 0;
}

void step_return_chain(struct step *step) {
        struct step *next;

        while ((next = step->then)) {
                step->then = next->then;
                next->then = NULL;
                next->place = STEP_NOWHERE;
                next->on_returned(next);
        }
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
