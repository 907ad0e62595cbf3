/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a crew has before its first worker: what each is started with (spec.c), and the venv, which each of its pools asks for in
 * turn. An attempt that fails is made again after a pause (crew_fail()).
 */

#include "pool/private.h"

#include <stdio.h>

#include "base/loop.h"

/* All is there to start workers with. */
static void become_prepared(struct crew *crew) {
        if (!crew->prepared_told) {
                crew->prepared_told = true;
                for (unsigned i = 0; i < crew->n_pools; i++)
                        if (crew->pools[i])
                                crew->superseded = crew->pools[i]->handler->superseded(crew->pools[i]->data, crew->pools[i]);
        }
        crew_schedule(crew);
}

static void start_venv(struct crew *crew);

/* All plugins of a group have one venv. What their requirements name beside themselves, only the builder sees. Return: whether this plugin's
 * is that of those before it. */
static bool take_venv(struct crew *crew, const struct venv_result *result) {
        CLEANUP_FREE char *python = strdup(result->python), *fingerprint = strdup(result->fingerprint);
        struct pool *pool = crew->pools[crew->n_prepared];
        const char *wrong = NULL;

        if (!python || !fingerprint)
                wrong = "out of memory";
        else if (crew->n_prepared > 0 && !str_eq(fingerprint, crew->fingerprint))
                wrong = "the plugins of a group have one venv, but what their requirements name differs";
        crew->n_prepared = wrong ? 0 : crew->n_prepared + 1;
        if (wrong) {
                crew_fail(crew, NULL, wrong);
                return false;
        }
        free(crew->python);
        free(crew->fingerprint);
        crew->python = TAKE(python);
        crew->fingerprint = TAKE(fingerprint);
        if (!pool->code && result->code)
                pool->code = strdup(result->code);
        return true;
}

static void on_venv(void *data, const struct venv_result *result) {
        struct crew *crew = data;
        bool taken = false;

        if (result->error)
                crew_fail(crew, NULL, result->error);
        else
                taken = take_venv(crew, result);
        crew->job = venv_job_free(crew->job);
        if (!taken)
                return;
        if (crew->n_prepared < crew->n_pools) {
                start_venv(crew);
                return;
        }
        crew->spec.process.python = crew->python;
        become_prepared(crew);
}

/* Of each pool in turn: the venv is there from the second on, but not what is known of the code. */
static void start_venv(struct crew *crew) {
        const struct plugin_entry *entry = crew->pools[crew->n_prepared]->entry;
        const struct venv_spec spec = {
                .builder = crew->layout.venv_builder,
                .cache_dir = crew->layout.cache_dir,
                .python = entry->isolation.python,
                .requirements = entry->requirements_file,
                .code = entry->code,
                .plugin = entry->name,
                .options = &crew->venv_options,
                .limits = crew->venv_limits,
        };
        char reason[128];
        int r = venv_job_start(&crew->job, crew->base, &spec, on_venv, crew);

        if (r < 0) {
                (void)snprintf(reason, sizeof(reason), "%s cannot be run: %s", spec.builder, strerror(-r));
                crew_fail(crew, NULL, reason);
        }
}

/* A venv that somebody has removed is asked for again. */
void crew_forget_lost_venv(struct crew *crew) {
        if (!crew->python || access(crew->python, X_OK) == 0)
                return;
        free(TAKE(crew->python));
        free(TAKE(crew->fingerprint));
        crew->spec.process.python = NULL;
        crew->n_prepared = 0;
}

void crew_prepare(struct crew *crew) {
        if (crew->env && loop_is_late())
                crew_put_off(crew);
        else if (!crew->env && crew_make_spec(crew) < 0)
                crew_fail(crew, NULL, "out of memory");
        else if (!crew_needs_venv(crew))
                become_prepared(crew);
        else if (!crew->job)
                start_venv(crew);
}
