/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The zygote of a crew (isolation.zygote): it comes before the first worker, which is forked off it like all others, and stays
 * until the last has gone. Where it cannot be, or a worker was refused, all are started from then on; where one could not be
 * forked for now, they are for a while.
 */

#include "pool/private.h"

void crew_start_unforked(struct crew *crew, const char *why) {
        struct log_scope scope = crew_scope(crew, NULL);

        if (!crew->unforked)
                log_write(LOG_LEVEL_INFO, &scope, "its workers are started and not forked: %s", why);
        crew->unforked = true;
}

/* What cannot be now may be later. Meanwhile workers are started, the more often in a row the longer. */
void crew_put_forks_off(struct crew *crew, const char *why) {
        struct log_scope scope = crew_scope(crew, NULL);
        usec_t now = clock_now_usec(), pause = MAX(crew->fork_pause_usec, BACKOFF_MIN_USEC);

        if (now < crew->fork_at_usec) /* of several that fail together the first counts */
                return;
        log_write(LOG_LEVEL_INFO, &scope, "a worker was not forked and is started: %s; for %.1f s none will be forked", why,
                  (double)pause / (double)USEC_PER_SEC);
        crew->fork_at_usec = now + pause;
        crew->fork_pause_usec = MIN(pause * 2, BACKOFF_MAX_USEC);
}

static void on_zygote_member(void *data, struct worker *worker, unsigned member, struct mp answer) {
        (void)data;
        (void)worker;
        (void)member;
        (void)answer;
}

static void on_zygote_ready(void *data, struct worker *worker) {
        (void)worker;
        crew_schedule(data);
}

static void on_zygote_exit(void *data, struct worker *zygote, const char *reason) {
        struct crew *crew = data;
        struct log_scope scope = crew_scope(crew, zygote);
        usec_t ready = worker_ready_usec(zygote);

        for (unsigned i = 0; i < crew->n_slots; i++)
                if (crew->workers[i])
                        worker_set_zygote(crew->workers[i], NULL);
        crew->zygote = NULL;
        if (crew_is_closing(crew) || worker_was_stopped(zygote)) {
                log_write(LOG_LEVEL_DEBUG, &scope, "%s", reason);
        } else if (worker_was_refused(zygote)) {
                crew_start_unforked(crew, reason);
        } else if (ready > 0) {
                log_write(LOG_LEVEL_WARNING, &scope, "the zygote of its workers has ended, and they with it: %s", reason);
                /* Unless a worker was ready meanwhile, or has failed already, the pause grows: a fork may be what it dies of. */
                if (clock_now_usec() - ready < QUICK_DEATH_USEC && !event_pending(crew->retry, EV_TIMEOUT, NULL))
                        crew_back_off(crew, BACKOFF_MAX_USEC);
        } else {
                crew_forget_lost_venv(crew);
                crew_fail(crew, zygote, reason);
        }
        (void)worker_free(zygote);
        crew_schedule(crew);
}

const struct worker_handler zygote_handler = {
        .on_member = on_zygote_member,
        .on_ready = on_zygote_ready,
        .on_exit = on_zygote_exit,
};

/* Return: why workers cannot be forked, NULL if they may be. */
static const char *obstacle_to_forks(const struct crew *crew) {
        if (crew->n_pools > 1)
                return "it is in a group (isolation.group)";
        switch (crew->settings.sandbox.profile) {
        case SANDBOX_OFF:
                return "without a sandbox nothing keeps a plugin from the guard of its worker (isolation.sandbox.profile: off)";
        case SANDBOX_STRICT:
                return "isolation.sandbox.profile: strict lets no process be started";
        default:
                return NULL;
        }
}

/* Return: whether a worker may be started by now. */
bool crew_zygote_is_settled(struct crew *crew) {
        const char *obstacle;

        if (!crew->settings.zygote || crew->spec.server || crew->unforked)
                return true;
        if (crew->zygote)
                return worker_state(crew->zygote) == WORKER_READY;
        obstacle = obstacle_to_forks(crew);
        if (obstacle) {
                crew_start_unforked(crew, obstacle);
                return true;
        }
        crew_make_zygote_spec(crew);
        if (worker_start(&crew->zygote, crew->base, &crew->zygote_spec, NULL, &zygote_handler, crew) < 0)
                return true; /* then a worker cannot be started either, and says why */
        worker_initialize(crew->zygote);
        return false;
}

/* Has one forked, if there is a zygote that listens, or started. */
int crew_make_worker(struct crew *crew, struct worker **ret) {
        bool forked = crew->zygote && !crew->unforked && clock_now_usec() >= crew->fork_at_usec;
        int r = worker_start(ret, crew->base, &crew->spec, forked ? crew->zygote : NULL, &crew_handler, crew);

        if (r < 0 && forked)
                r = worker_start(ret, crew->base, &crew->spec, NULL, &crew_handler, crew);
        return r;
}
