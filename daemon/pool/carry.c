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
        CARRIED(BOOL, struct pool, may_initialize),
        CARRIED(BOOL, struct pool, prepared_told),
        CARRIED(BOOL, struct pool, reported),
        CARRIED(BOOL, struct pool, settled_told),
        CARRIED(BOOL, struct pool, disabled),
        CARRIED(BUF, struct pool, report),
        CARRIED(STR, struct pool, error),
        CARRIED(STR, struct pool, missing_hook),
        CARRIED(UINT, struct pool, n_registered),
        CARRIED(STR, struct pool, python),
        CARRIED(STR, struct pool, fingerprint),
        CARRIED(STR, struct pool, code),
        CARRIED(UINT, struct pool, box_identity),
        CARRIED(TIMER, struct pool, watch),
        CARRIED(UINT, struct pool, backoff_usec),
        CARRIED(UINTS, struct pool, stats.by_cause),
        CARRIED(UINTS, struct pool, stats.in_bucket),
        CARRIED(UINT, struct pool, stats.total_usec),
        CARRIED(UINT, struct pool, stats.waited_usec),
        CARRIED(UINT, struct pool, n_calls),
        CARRIED(UINT, struct pool, n_errors),
        CARRIED(UINT, struct pool, n_restarts),
        CARRIED(UINT, struct pool, n_recycled),
        CARRIED(UINT, struct pool, n_dropped),
};

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
};
static const struct carried slot_members[] = {CARRIED(UINT, struct slot, slot), CARRIED(BOOL, struct slot, leaving)};

static void put_workers(const struct pool *pool, struct carry *carry) {
        size_t array, n = 0;

        mp_put_str(&carry->out, "workers");
        array = mp_array_begin(&carry->out);
        for (unsigned i = 0; i < pool->n_slots; i++) {
                const struct slot slot = {i, pool->workers[i] == pool->leaving};

                if (!pool->workers[i])
                        continue;
                mp_put_map(&carry->out, ELEMENTS(slot_members) + 1);
                carry_put(carry, slot_members, ELEMENTS(slot_members), &slot);
                mp_put_str(&carry->out, "worker");
                worker_save(pool->workers[i], carry);
                n++;
        }
        mp_array_end(&carry->out, array, n);
}

void pool_save(const struct pool *pool, struct carry *carry) {
        mp_put_map(&carry->out, ELEMENTS(members) + 2);
        carry_put(carry, members, ELEMENTS(members), pool);
        mp_put_str(&carry->out, "retry_usec");
        mp_put_uint(&carry->out, timer_at(pool->retry));
        put_workers(pool, carry);
}

static int take_workers(struct pool *pool, struct mp saved) {
        struct carry_items items = carry_items(mp_map_value(saved, "workers"));
        struct mp item;

        while (carry_next(&items, &item)) {
                struct slot slot = {0};
                int r = carry_get(item, slot_members, ELEMENTS(slot_members), &slot);

                if (r < 0 || slot.slot >= pool->n_slots || pool->workers[slot.slot])
                        return r < 0 ? r : -EBADMSG;
                r = worker_adopt(&pool->workers[slot.slot], pool->base, &pool->spec, mp_map_value(item, "worker"), &crew_handler,
                                 pool);
                if (r < 0)
                        return r;
                if (slot.leaving)
                        pool->leaving = pool->workers[slot.slot];
        }
        return 0;
}

int pool_adopt(struct pool *pool, struct mp saved) {
        struct mp_cur cur = mp_cur(mp_map_value(saved, "retry_usec"));
        usec_t retry_usec = 0;
        int r = carry_get(saved, members, ELEMENTS(members), pool);

        if (r < 0)
                return r;
        r = pool_make_spec(pool);
        if (r < 0)
                return r;
        pool->spec.process.python = pool->python;
        if (mp_read_uint(&cur, &retry_usec) && retry_usec > 0)
                timer_start_at(pool->retry, retry_usec);
        else
                pool_start(pool); /* that is how it comes to its venv if it has none */
        return take_workers(pool, saved);
}

/* ---- Steps ---- */

void pool_save_step(const struct step *step, struct carry *carry) {
        struct place place = {.place = step->place};

        if (step->place == STEP_GIVEN) {
                const struct worker *worker = calls_owner(step, &place.id);

                while (step->pool->workers[place.slot] != worker)
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
        if (place.place == STEP_NOWHERE)
                return 0;
        if (place.place == STEP_WAITING) {
                pool_enqueue(pool, step, place.expires_usec);
                return 0;
        }
        worker = place.slot < pool->n_slots ? pool->workers[place.slot] : NULL;
        return worker ? worker_adopt_step(worker, step, place.id) : -EBADMSG;
}
