/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A pool: the warm workers of one plugin, from its venv to its last call. Plugins of a group (isolation.group) have their workers in common,
 * and each its own queue, figures and failures.
 *
 * A pool gets its venv, starts `workers.min` workers, starts more while calls wait, up to `workers.max`, stops those beyond the
 * minimum that have had nothing to do for 10 s, and replaces those that die. A step is given to the ready worker with the fewest calls; when all are full it waits in a queue of bounded length. While
 * the plugin cannot start, steps are refused at once with the reason, and a new attempt is made after a pause that doubles
 * from 0.1 s to 30 s; less where it is a server that has to come back.
 *
 * Each submitted step gets exactly one outcome, unless it is withdrawn.
 */

#include "config/model.h"
#include "pool/worker.h"

struct pool;

enum pool_state {
        POOL_STARTING, /* no worker has been ready yet, none has failed */
        POOL_READY,    /* the last attempt to start a worker succeeded */
        POOL_FAILED,   /* the last attempt failed, and no worker is ready */
};

/* Where the parts of a worker lie; the same for all pools. */
struct pool_layout {
        const char *launcher, *shim_dir, *ext_dir, *sdk_dir, *venv_builder;
        const char *cache_dir, *project_root;
        const struct venv_settings *venv;
        size_t frame_bytes, values;
};

struct pool_handler {
        /* Called when the venv is there, once, before any worker is started. Return: whether none is to be: another pool of the same
         * plugin serves, and this one is only waiting to be freed. */
        bool (*superseded)(void *data, struct pool *pool);
        /* Called when the pool leaves POOL_STARTING, once. */
        void (*settled)(void *data, struct pool *pool);
        /* What a worker of an external plugin says its entry is, before the pool gives it calls. Called until it succeeds. Return: 0, after
         * pool_take_entry(); 1: another pool of the same plugin serves, and this one is only waiting to be freed; or -EINVAL or -ENOMEM: the
         * worker is not used, and another is started after a pause. */
        int (*reported)(void *data, struct pool *pool, struct mp config);
};

/* A pool for an entry of `config`, which it holds on to. The strings of `layout` must outlive it, but for cache_dir and venv. `fellow`: one that
 * was made before for the same group, with which it shares its workers; NULL: none. All of a group are made before any is
 * started. It does nothing before that. Return: 0 or -ENOMEM. */
int pool_new(struct pool **ret, struct event_base *base, struct plugins_config *config, const struct plugin_entry *entry,
             const struct pool_layout *layout, uint64_t generation, struct pool *fellow, const struct pool_handler *handler,
             void *data);

/* Has it look for its venv, and then start its workers, from the loop. A plugin that cannot start is a pool in POOL_FAILED. Return: whether
 * it does; if not, another of its group has. */
bool pool_start(struct pool *pool);

/* Another owner. Each gives its reference up by pool_close() or pool_free(). */
struct pool *pool_ref(struct pool *pool);

/* From now on this is the plugin's entry, which the pool frees. Name, kind and isolation are as before. */
void pool_take_entry(struct pool *pool, struct plugin_entry *entry);

/* Return: whether `pool` serves, and its plugin, code, venv and settings are those of `other`, which has its venv; in a group, those of all. `report`: what the server of
 * an external plugin told a worker of `other`, as it must have told one of `pool`; empty: nothing yet, and then such pools are not the same. */
bool pool_serves_same(const struct pool *pool, const struct pool *other, struct mp report);

/* wire/carry.h. A pool is adopted when it is new; its steps come back one by one, from their owners, and are submitted then if they
 * were. */
void pool_save(const struct pool *pool, struct carry *carry);
int pool_adopt(struct pool *pool, struct mp saved);
void pool_save_step(const struct step *step, struct carry *carry);
int pool_adopt_step(struct pool *pool, struct step *step, struct mp saved);

/* It is the plugin's turn: its workers, which have loaded its class by then or not, may construct and initialize it. */
void pool_initialize(struct pool *pool);

/* Takes the step. Its outcome, also a refusal, comes from the loop. */
void pool_submit(struct pool *pool, struct step *step);

/* Takes a chain, whose first step has the parameters of all (docs/protocol.md) and waits for all of them. The others name their pools
 * already. Return: whether it fits into a message; if not, nothing has happened. */
bool pool_submit_chain(struct step *first);

/* Return: whether both serve, with the same workers. */
bool pool_shares_workers(const struct pool *pool, const struct pool *other);

/* The step's caller has lost interest: there will be no outcome. */
void pool_withdraw(struct step *step);

/* The last owner's: refuses new steps and those that wait (STEP_STOPPED), lets each worker finish its calls and shut its plugin down (with the
 * last pool of a group all of its plugins), then calls `closed` from the loop; the owner then frees the pool. Return: whether it was the last one's; if not, the caller has
 * nothing more to do with the pool. */
bool pool_close(struct pool *pool, void (*closed)(void *data, struct pool *pool), void *data);

/* The last owner's: kills what still runs; steps that are still here get STEP_STOPPED. Return: NULL. */
struct pool *pool_free(struct pool *pool);

enum pool_state pool_state(const struct pool *pool);
const char *pool_error(const struct pool *pool); /* why it failed; NULL: it has not */

/* Why one of the plugin's hooks has no usable method, as CPEX words it; NULL: all have. */
const char *pool_missing_hook(const struct pool *pool);

/* Return: how many of the entry's hooks CPEX would have registered: those before the first without a usable method. */
size_t pool_registered_hooks(const struct pool *pool);

/* The venv's interpreter and fingerprint; NULL while there is none. */
const char *pool_python(const struct pool *pool);
const char *pool_fingerprint(const struct pool *pool);

/* Which of the plugins in its workers it is, for `invoke` (docs/protocol.md). */
unsigned pool_member(const struct pool *pool);

/* Counts a call of this plugin that failed, for the status. */
void pool_note_failure(struct pool *pool);

/* CPEX's on_error: disable. The pool remembers it; whoever picks plugins for a call asks. A reload enables it again. */
void pool_disable(struct pool *pool);
void pool_enable(struct pool *pool);
bool pool_is_disabled(const struct pool *pool);

/* Of all its steps so far, those that were withdrawn left out. */
const struct step_stats *pool_stats(const struct pool *pool);

/* What a plugin is at. */
struct pool_figures {
        uint64_t up, workers, calls_active, queue, memory_bytes, restarts, late_answers;
};
struct pool_figures pool_figures(const struct pool *pool);

/* Appends what control method `explain` says of the sandbox (docs/protocol.md). Return: how many keys of its map that is. */
size_t pool_put_box(const struct pool *pool, struct buf *buf);

/* Appends the map of control method `status` for this plugin (docs/protocol.md). */
void pool_put_status(const struct pool *pool, struct buf *buf);
