/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool across an upgrade. It is made like any other, for the same entry, and then is told what it was: its workers are not started but
 * taken as they are. A venv that was being built is asked for anew, since nobody waits for the old builder any more.
 *
 * A step that is in a worker's hands is known there by its number. Those that wait come back in any order, and are put in the order in
 * which they came.
 */

#include "pool/calls.h"
#include "pool/private.h"

static const struct carried members[] = {
        CARRIED(UINT, struct pool, state),
        CARRIED(BOOL, struct pool, reported),
        CARRIED(BOOL, struct pool, settled_told),
        CARRIED(BOOL, struct pool, disabled),
        CARRIED(BUF, struct pool, report),
        CARRIED(STR, struct pool, error),
        CARRIED(STR, struct pool, missing_hook),
        CARRIED(UINT, struct pool, n_registered),
        CARRIED(STR, struct pool, code),
        CARRIED(UINTS, struct pool, stats.by_cause),
        CARRIED(UINTS, struct pool, stats.in_bucket),
        CARRIED(UINT, struct pool, stats.total_usec),
        CARRIED(UINT, struct pool, stats.waited_usec),
        CARRIED(UINT, struct pool, stats.n_calls),
        CARRIED(UINT, struct pool, n_errors),
};

/* Of the crew, which goes with the first of its pools. */
static const struct carried crew_members[] = {
        CARRIED(BOOL, struct crew, started),         CARRIED(BOOL, struct crew, prepared_told),
        CARRIED(UINT, struct crew, n_prepared),      CARRIED(STR, struct crew, python),
        CARRIED(STR, struct crew, fingerprint),      CARRIED(UINT, struct crew, box_identity),
        CARRIED(TIMER, struct crew, mend),           CARRIED(TIMER, struct crew, watch),
        CARRIED(UINT, struct crew, backoff_usec),    CARRIED(UINT, struct crew, n_restarts),
        CARRIED(UINT, struct crew, n_recycled),      CARRIED(UINT, struct crew, n_dropped),
        CARRIED(BOOL, struct crew, unforked),        CARRIED(UINT, struct crew, fork_at_usec),
        CARRIED(UINT, struct crew, fork_pause_usec),
};
static const struct carried turn_members[] = {CARRIED(BOOL, struct worker_member, may_initialize)};

static const struct carried step_members[] = {
        CARRIED(BUF, struct step, params),          CARRIED(BUF, struct step, payload),
        CARRIED(UINT, struct step, timeout_usec),   CARRIED(UINT, struct step, deadline_usec),
        CARRIED(UINT, struct step, submitted_usec), CARRIED(UINT, struct step, given_usec),
        CARRIED(UINT, struct step, done_usec),
};

/* Where a step is. */
struct place {
        uint32_t place, slot, id; /* id: in the worker */
        usec_t expires_usec;      /* while waiting */
};
static const struct carried place_members[] = {
        CARRIED(UINT, struct place, place),
        CARRIED(UINT, struct place, slot),
        CARRIED(UINT, struct place, id),
        CARRIED(UINT, struct place, expires_usec),
};

/* ---- The pool ---- */

/* What is said of a worker in its slot. */
struct slot {
        uint32_t slot;
        bool leaving;
        bool orphan; /* it was not forked by the zygote that there is, but by one before */
};
static const struct carried slot_members[] = {
        CARRIED(UINT, struct slot, slot),
        CARRIED(BOOL, struct slot, leaving),
        CARRIED(BOOL, struct slot, orphan),
};

static void put_workers(const struct crew *crew, struct carry *carry) {
        size_t array, n = 0;

        mp_put_str(&carry->out, "workers");
        array = mp_array_begin(&carry->out);
        for (unsigned i = 0; i < crew->n_slots; i++) {
                const struct worker *worker = crew->workers[i];
                struct slot slot;

                if (!worker)
                        continue;
                slot = (struct slot){i, worker == crew->leaving, worker_is_orphan(worker)};
                mp_put_map(&carry->out, ELEMENTS(slot_members) + 1);
                carry_put(carry, slot_members, ELEMENTS(slot_members), &slot);
                mp_put_str(&carry->out, "worker");
                worker_save(worker, carry);
                n++;
        }
        mp_array_end(&carry->out, array, n);
}

static void put_crew(const struct crew *crew, struct carry *carry) {
        mp_put_str(&carry->out, "crew");
        mp_put_map(&carry->out, ELEMENTS(crew_members) + 2 + (crew->zygote != NULL));
        carry_put(carry, crew_members, ELEMENTS(crew_members), crew);
        mp_put_str(&carry->out, "retry_usec");
        mp_put_uint(&carry->out, timer_at(crew->retry));
        put_workers(crew, carry);
        if (crew->zygote) {
                mp_put_str(&carry->out, "zygote");
                worker_save(crew->zygote, carry);
        }
}

static int take_zygote(struct crew *crew, struct mp saved) {
        struct mp zygote = mp_map_value(saved, "zygote");

        if (zygote.len == 0)
                return 0;
        crew_make_zygote_spec(crew);
        return worker_adopt(&crew->zygote, crew->base, &crew->zygote_spec, zygote, &zygote_handler, crew);
}

void pool_save(const struct pool *pool, struct carry *carry) {
        bool first = pool->member == 0;

        mp_put_map(&carry->out, ELEMENTS(members) + ELEMENTS(turn_members) + first);
        carry_put(carry, members, ELEMENTS(members), pool);
        carry_put(carry, turn_members, ELEMENTS(turn_members), &pool->crew->spec.members[pool->member]);
        if (first)
                put_crew(pool->crew, carry);
}

static int take_workers(struct crew *crew, struct mp saved) {
        struct carry_items items = carry_items(mp_map_value(saved, "workers"));
        struct mp item;

        while (carry_next(&items, &item)) {
                struct slot slot = {0};
                int r = carry_get(item, slot_members, ELEMENTS(slot_members), &slot);

                if (r < 0 || slot.slot >= crew->n_slots || crew->workers[slot.slot])
                        return r < 0 ? r : -EBADMSG;
                r = worker_adopt(&crew->workers[slot.slot], crew->base, &crew->spec, mp_map_value(item, "worker"), &crew_handler,
                                 crew);
                if (r < 0)
                        return r;
                worker_set_zygote(crew->workers[slot.slot], slot.orphan ? NULL : crew->zygote);
                if (slot.leaving)
                        crew->leaving = crew->workers[slot.slot];
        }
        return 0;
}

static int adopt_crew(struct crew *crew, struct mp saved) {
        struct mp_cur cur = mp_cur(mp_map_value(saved, "retry_usec"));
        usec_t retry_usec = 0;
        int r = carry_get(saved, crew_members, ELEMENTS(crew_members), crew);

        if (r < 0)
                return r;
        r = crew_make_spec(crew);
        if (r < 0)
                return r;
        crew->spec.process.python = crew->python;
        if (mp_read_uint(&cur, &retry_usec) && retry_usec > 0)
                timer_start_at(crew->retry, retry_usec);
        else
                event_active(crew->retry, EV_TIMEOUT, 0); /* that is how it comes to its venv if it has none */
        r = take_zygote(crew, saved);
        return r < 0 ? r : take_workers(crew, saved);
}

int pool_adopt(struct pool *pool, struct mp saved) {
        int r = carry_get(saved, members, ELEMENTS(members), pool);

        r = r < 0 ? r : carry_get(saved, turn_members, ELEMENTS(turn_members), &pool->crew->spec.members[pool->member]);
        return r < 0 || pool->member > 0 ? r : adopt_crew(pool->crew, mp_map_value(saved, "crew"));
}

/* ---- Steps ---- */

void pool_save_step(const struct step *step, struct carry *carry) {
        struct place place = {.place = step->place};

        if (step->place == STEP_GIVEN) {
                const struct worker *worker = calls_owner(step, &place.id);

                while (step->pool->crew->workers[place.slot] != worker)
                        place.slot++;
        } else if (step->place == STEP_WAITING) {
                place.expires_usec = timer_at(&step->timer);
        }
        mp_put_map(&carry->out, ELEMENTS(step_members) + ELEMENTS(place_members));
        carry_put(carry, step_members, ELEMENTS(step_members), step);
        carry_put(carry, place_members, ELEMENTS(place_members), &place);
}

int pool_adopt_step(struct pool *pool, struct step *step, struct mp saved) {
        struct place place = {0};
        struct worker *worker;
        int r = carry_get(saved, step_members, ELEMENTS(step_members), step);

        r = r < 0 ? r : carry_get(saved, place_members, ELEMENTS(place_members), &place);
        if (r < 0)
                return r;
        step->pool = pool;
        step->stats = &pool->stats;
        step->place = place.place == STEP_BEHIND ? STEP_BEHIND : STEP_NOWHERE;
        if (place.place == STEP_NOWHERE || place.place == STEP_BEHIND)
                return 0;
        if (place.place == STEP_WAITING) {
                pool_enqueue(pool, step, place.expires_usec);
                return 0;
        }
        worker = place.slot < pool->crew->n_slots ? pool->crew->workers[place.slot] : NULL;
        return worker ? worker_adopt_step(worker, step, place.id) : -EBADMSG;
}
