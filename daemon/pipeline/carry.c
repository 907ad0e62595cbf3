/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call across an upgrade. Between two turns of the loop an invocation that is under way has no more to it than what its struct says: what
 * was merged so far, and for each turn whether it is over, runs, or is to come. So that is written down, and nothing is done twice.
 *
 * What the caller has sent is parsed again: it is slices of the parameters. A hook that has other plugins by now, because the server of an
 * external one has said so meanwhile, changes nothing for a call that has begun.
 */

#include "pipeline/turn.h"

static const struct carried members[] = {
        CARRIED(UINT, struct invocation, started_usec),
        CARRIED(UINT, struct invocation, deadline_usec),
        CARRIED(BUF, struct invocation, payload),
        CARRIED(BUF, struct invocation, payload_type),
        CARRIED(BOOL, struct invocation, payload_changed),
        CARRIED(BUF, struct invocation, state),
        CARRIED(BUF, struct invocation, global_metadata),
        CARRIED(BUF, struct invocation, metadata),
        CARRIED(BUF, struct invocation, extensions),
        CARRIED(INT, struct invocation, retry_delay_ms),
        CARRIED(BUF, struct invocation, records),
        CARRIED(UINT, struct invocation, n_records),
        CARRIED(UINT, struct invocation, next),
        CARRIED(BOOL, struct invocation, concurrent_prepared),
        CARRIED(BUF, struct invocation, start_state),
        CARRIED(BUF, struct invocation, start_metadata),
};

static const struct carried turn_members[] = {
        CARRIED(UINT, struct turn, state),        CARRIED(UINT, struct turn, decision), CARRIED(UINT, struct turn, cause),
        CARRIED(UINT, struct turn, started_nsec), CARRIED(BUF, struct turn, context),
};

static void put_turn(const struct turn *turn, struct carry *carry) {
        mp_put_map(&carry->out, ELEMENTS(turn_members) + 2);
        carry_put(carry, turn_members, ELEMENTS(turn_members), turn);
        mp_put_str(&carry->out, "plugin");
        mp_put_str(&carry->out, turn->plugin->entry->name);
        mp_put_str(&carry->out, "step");
        pool_save_step(&turn->step, carry);
}

void invocation_save(const struct invocation *invocation, struct carry *carry) {
        mp_put_map(&carry->out, ELEMENTS(members) + 3);
        carry_put(carry, members, ELEMENTS(members), invocation);
        mp_put_str(&carry->out, "params");
        mp_put_bin(&carry->out, invocation->params.data, invocation->params.len);
        mp_put_str(&carry->out, "decider");
        mp_put_str(&carry->out, invocation->decider ? invocation->decider->entry->name : NULL);
        mp_put_str(&carry->out, "turns");
        mp_put_array(&carry->out, invocation->n_turns);
        for (size_t i = 0; i < invocation->n_turns; i++)
                put_turn(&invocation->turns[i], carry);
}

static int take_turn(struct invocation *invocation, struct mp saved) {
        struct turn *turn = &invocation->turns[invocation->n_turns];
        int r = carry_get(saved, turn_members, ELEMENTS(turn_members), turn);
        size_t before = invocation->n_turns;

        turn->invocation = invocation;
        turn->plugin = generation_adopted_plugin(invocation->generation, saved);
        if (r < 0 || !turn->plugin)
                return r < 0 ? r : -EBADMSG;
        turn->step.on_done = turn_on_step_done;
        turn->step.on_returned = turn_on_step_returned;
        invocation->n_running += turn->state == TURN_RUNNING;
        invocation->n_turns++;
        r = pool_adopt_step(turn->plugin->pool, &turn->step, mp_map_value(saved, "step"));
        if (r == 0 && turn->step.place == STEP_BEHIND) {
                if (before == 0)
                        return -EBADMSG;
                turn[-1].step.then = &turn->step;
        }
        return r;
}

int invocation_adopt(struct invocation **ret, struct generation *generation, struct mp saved, invocation_done on_done,
                     void *data) {
        struct mp_cur cur = mp_cur(mp_map_value(saved, "params"));
        CLEANUP_FREE char *decider = mp_dup_str(mp_map_value(saved, "decider"));
        struct carry_items turns = carry_items(mp_map_value(saved, "turns"));
        struct invocation *invocation;
        struct request in;
        struct mp params, item;
        int r;

        if (!mp_read_bin(&cur, &params) || request_parse(params, &in))
                return -EBADMSG;
        invocation = invocation_new(generation, &in, params, NULL, turns.n);
        if (!invocation)
                return -ENOMEM;
        invocation->on_done = on_done;
        invocation->data = data;
        invocation->decider = decider ? generation_plugin(generation, decider) : NULL;
        r = carry_get(saved, members, ELEMENTS(members), invocation);
        while (r == 0 && carry_next(&turns, &item))
                r = take_turn(invocation, item);
        if (r == 0 && (invocation->n_running == 0 || !invocation->hook))
                r = -EBADMSG; /* it is under way, so something runs, and for a hook */
        if (r == 0)
                *ret = invocation;
        return r;
}
