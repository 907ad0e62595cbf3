/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where the time of a call went. All times are there anyway, for the metrics; whoever does not ask pays for no more than reading a clock.
 * What is left of the total, the waiting and running of plugins taken away, is the daemon's own.
 */

#include "pipeline/turn.h"

bool turn_times(const struct turn *turn, usec_t now, struct turn_times *ret) {
        const struct step *step = &turn->step;
        usec_t done = step->done_usec ? step->done_usec : now, given = step->given_usec ? step->given_usec : done;

        if (step->submitted_usec == 0)
                return false;
        *ret = (struct turn_times){given - step->submitted_usec, done - given};
        return true;
}

static void put_usec(struct buf *buf, const char *key, usec_t usec) {
        mp_put_str(buf, key);
        mp_put_uint(buf, usec);
}

void invocation_put_timing(const struct invocation *invocation, struct buf *buf) {
        struct turn_times times, sum = {0};
        usec_t now = clock_now_usec();
        size_t plugins, n = 0;

        mp_put_map(buf, 4);
        put_usec(buf, "total_usec", now - invocation->started_usec);
        mp_put_str(buf, "plugins");
        plugins = mp_array_begin(buf);
        for (size_t i = 0; i < invocation->n_turns; i++) {
                if (!turn_times(&invocation->turns[i], now, &times))
                        continue;
                mp_put_map(buf, 3);
                mp_put_str(buf, "name");
                mp_put_str(buf, invocation->turns[i].plugin->entry->name);
                put_usec(buf, "wait_usec", times.wait_usec);
                put_usec(buf, "run_usec", times.run_usec);
                sum.wait_usec += times.wait_usec;
                sum.run_usec += times.run_usec;
                n++;
        }
        mp_array_end(buf, plugins, n);
        put_usec(buf, "wait_usec", sum.wait_usec);
        put_usec(buf, "run_usec", sum.run_usec);
}
