/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Inside the pipeline: an invocation's data and its turns. A turn is one plugin's place in one invocation.
 *
 * invocation.c moves an invocation from turn to turn, params.c writes what a worker is told, outcome.c says what the outcome of a
 * turn does to the invocation, policy.c and tiers.c what to its payload and its extensions, background.c runs the turns that
 * outlive it, response.c writes its end, and timing.c where its time went.
 */

#include "pipeline/invocation.h"
#include "pipeline/record.h"

/* A plugin server may keep what it likes between the hooks of a request, and it may be no map. Then it is kept as bytes under this key of
 * the plugin's metadata, which every host hands back. */
#define TURN_SERVER_CONTEXT "cpexd.server_context"

enum turn_state { TURN_PENDING, TURN_RUNNING, TURN_OVER };

/* What the plugin had to do with the decision. */
enum turn_decision {
        TURN_UNDECIDED, /* not asked, or withdrawn, or what the host sent was at fault */
        TURN_CONTINUED,
        TURN_MODIFIED,
        TURN_OBJECTED, /* from a mode that cannot deny */
        TURN_DENIED,
        TURN_FAILED,
        TURN_STARTED, /* in the background */
};

struct turn {
        struct step step;
        struct invocation *invocation;
        const struct plugin *plugin;
        enum turn_state state;
        enum turn_decision decision;
        enum step_cause cause; /* of TURN_FAILED */
        uint64_t started_nsec;
        struct buf context; /* the plugin's own {"state", "metadata"}: as it came, then as it is afterwards; empty: both are */
};

/* invocation.c: what a step of a turn calls when it has its outcome, or is handed back. */
void turn_on_step_done(struct step *step, const struct step_outcome *outcome);
void turn_on_step_returned(struct step *step);

/* How an invocation ended. */
enum ending {
        ENDING_NONE, /* it has not */
        ENDING_ALLOWED,
        ENDING_BLOCKED,
        ENDING_VIOLATION, /* an error of type PluginViolationError */
        ENDING_ERROR,     /* an error of any other type, ready in `error` */
};

struct invocation {
        struct generation *generation;
        const struct hook *hook; /* NULL: nobody listens */
        invocation_done on_done;
        void *data;
        struct event *later; /* calls on_done from the loop, for a call that ended while it was being started */
        bool starting;

        struct buf params; /* the caller's, which `in` has slices of */
        struct request in;
        struct buf stripped; /* its extensions without sensitive headers, if plugins are not to see them */
        usec_t started_usec;
        usec_t deadline_usec; /* of the whole call; USEC_INFINITY: none */

        /* The pipeline's state as merged so far. Empty buffers: nothing yet. */
        struct buf payload;      /* the document, where somebody changed it */
        struct buf payload_type; /* the str value, likewise */
        bool payload_changed;
        struct buf state, global_metadata; /* maps */
        struct buf metadata;               /* map */
        struct buf extensions;             /* map: the last writer's; where tiers are enforced, all as they are by now */
        int64_t retry_delay_ms;
        const struct plugin *decider; /* whose payload was accepted last */
        struct buf records;
        size_t n_records;

        enum ending ending;
        struct buf violation;       /* map, with ENDING_BLOCKED and ENDING_VIOLATION */
        struct buf denial_metadata; /* map, with ENDING_BLOCKED: as the plugin gave it */
        struct buf error;           /* map, with ENDING_VIOLATION and ENDING_ERROR: what is peculiar to it */
        size_t n_error;             /* its keys */
        struct buf direct;          /* map: with `direct`, what the worker answered */

        size_t n_turns, next, n_running;
        bool concurrent_prepared;
        struct buf start_state, start_metadata; /* the shared state at the start of the concurrent phase */
        struct turn turns[];                    /* the selected ones, phase by phase */
};

static inline struct mp buf_mp(const struct buf *buf) {
        return (struct mp){buf->data, buf->len};
}

static inline void buf_set(struct buf *buf, struct mp value) {
        buf_reset(buf);
        if (value.len > 0)
                buf_append(buf, value.data, value.len);
}

/* invocation.c: an invocation that has not begun, with room for its turns. Return: NULL: no memory. */
struct invocation *invocation_new(struct generation *generation, const struct request *in, struct mp params, struct buf *memory,
                                  size_t n_turns);

/* outcome.c: does to the invocation what the outcome of `turn` demands; `turn` is over. */
void turn_conclude(struct turn *turn, const struct step_outcome *outcome);

/* policy.c: takes over the payload that a plugin returned, as far as the hook's policy allows; the answer lies in `memory`. Return: whether
 * its record shall say that it was modified. */
bool turn_take_payload(struct turn *turn, const struct answer *answer, struct buf *memory);

/* tiers.c: takes over of the extensions that a plugin returned what CPEX 0.2 lets it change. Return: whether that is anything. */
bool turn_take_extensions(struct turn *turn, struct mp returned);

/* outcome.c: whether a worker's error says that the hook ended, but returned what is no result. */
bool is_junk_result(struct mp error);

/* outcome.c: whether a failure of this cause takes a plugin with `on_error: disable` out of rotation. */
bool cause_disables(enum step_cause cause);

/* timing.c: how long a turn's plugin waited for a worker and ran, as of now. Return: whether it was asked in the call's time: one in the
 * background was not. */
struct turn_times {
        usec_t wait_usec, run_usec;
};
bool turn_times(const struct turn *turn, usec_t now, struct turn_times *ret);

/* timing.c: appends the map `timing` (docs/protocol.md), as of now. */
void invocation_put_timing(const struct invocation *invocation, struct buf *buf);

/* background.c: starts the turn's plugin on a copy of what it needs, and forgets it. */
void background_start(struct turn *turn);

/* background.c: wire/carry.h, an array. */
void background_save(const struct generation *generation, struct carry *carry);
int background_adopt(struct generation *generation, struct mp saved);

/* params.c: the plugin's own context in the caller's table: a map, empty where there is none. */
struct mp turn_own_context(const struct turn *turn);

/* params.c: writes the step's parameters, for the worker. Return: 0 or -ENOMEM. */
int turn_put_params(struct turn *turn, struct step *step);

/* params.c: likewise for the chain of `n` turns from this one on. */
int turn_put_chain(struct turn *turns, size_t n, struct step *step);
