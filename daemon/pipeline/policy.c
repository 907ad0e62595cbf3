/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Hook payload policies. They are kept here and not in the workers, which nobody trusts: the payload that a plugin returns is compared
 * with the one it was given, and only what the policy names is taken from it.
 *
 * CPEX compares objects, in which every field is there. The caller may have left some out; of CPEX's own payloads we know what their
 * fields hold then (models.h). Of a custom hook's payload what the host sent is all there is.
 */

#include "pipeline/models.h"
#include "pipeline/turn.h"

/* The model of the payload as the caller gave it; NULL: we have none. */
static const struct lax_type *given_model(const struct invocation *invocation) {
        return mp_is_nil(invocation->in.payload_type) ? model_payload(invocation->in.hook) : NULL;
}

/* The payload that the turn was given, with all of its fields where they are known. A payload that is none stays as it is. */
static struct mp given_payload(const struct invocation *invocation, struct buf *filled) {
        const struct lax_type *model = given_model(invocation);
        CLEANUP_INVALID struct invalid invalid = {0};

        if (invocation->payload_changed)
                return buf_mp(&invocation->payload);
        if (!model)
                return invocation->in.payload;
        lax_read(model, invocation->in.payload, filled, &invalid);
        return invalid.n == 0 ? buf_mp(filled) : invocation->in.payload;
}

/* The changed fields that the policy lets through, merged over the payload as it is. Return: whether there are any. */
static bool take_fields(struct invocation *invocation, const struct hook_policy *policy, struct mp new) {
        CLEANUP_BUF struct buf filled = {0}, allowed = {0}, merged = {0};
        struct mp old = given_payload(invocation, &filled);
        bool all_known = given_model(invocation) != NULL, changed = false;
        size_t map = mp_map_begin(&allowed), n = 0;

        for (size_t i = 0; i < policy->writable_fields.n; i++) {
                const char *field = policy->writable_fields.items[i];
                struct mp before = mp_map_value(old, field), after = mp_map_value(new, field);

                if (after.len == 0 || mp_same_value(before, after))
                        continue;
                changed = true;
                if (all_known && before.len == 0) /* a field of a derived class, which the payload does not have */
                        continue;
                mp_put_str(&allowed, field);
                mp_put_raw(&allowed, after);
                n++;
        }
        mp_map_end(&allowed, map, n);
        if (!changed)
                return false;
        mp_put_merged(&merged, old, buf_mp(&allowed), NULL);
        buf_set(&invocation->payload, buf_mp(&merged));
        if (buf_error(&allowed) || buf_error(&filled))
                invocation->payload.error = -ENOMEM;
        return true;
}

static bool same_type(struct mp a, struct mp b) {
        return (mp_is_nil(a) && mp_is_nil(b)) || mp_same_str(a, b);
}

bool turn_take_payload(struct turn *turn, const struct answer *answer, struct buf *memory) {
        struct invocation *invocation = turn->invocation;
        const struct hook_policy *policy = invocation->hook->policy;
        struct mp old_type = invocation->payload_changed ? buf_mp(&invocation->payload_type) : invocation->in.payload_type;
        struct mp_cur new = mp_cur(answer->modified_payload);
        bool plain = mp_eq_str(answer->payload_type, "");
        bool same = same_type(old_type, answer->payload_type) || mp_eq_str(answer->payload_is, "child");
        bool modified = true;

        if (answer->modified_payload.len == 0 || mp_is_nil(answer->modified_payload))
                return false;
        if (!policy && invocation->generation->config->default_deny)
                return false;
        if (policy && !plain && same) {
                if (!take_fields(invocation, policy, answer->modified_payload))
                        return false;
                if (!invocation->payload_changed)
                        buf_set(&invocation->payload_type, old_type);
        } else {
                if (policy && plain && mp_peek(&new) != MP_MAP)
                        return false;
                buf_share(&invocation->payload, memory, answer->modified_payload.data, answer->modified_payload.len);
                /* CPEX takes the object that an earlier plugin returned for no modification when it comes back; the worker's word for it
                 * is good enough, for a record. */
                modified = policy || !invocation->payload_changed || !mp_eq_str(answer->payload_is, "given");
                buf_set(&invocation->payload_type, answer->payload_type);
        }
        invocation->payload_changed = true;
        invocation->decider = turn->plugin;
        return modified;
}
