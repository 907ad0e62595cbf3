/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Builds, and what verifies them, run one after the other: each may use all cores, and what is asked for here is not urgent.
 */

#include "admin/venvs.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "venv/job.h"
#include "venv/options.h"

#define FINGERPRINT_DIGITS 64

/* ---- venv.list ---- */

static bool is_fingerprint(const char *name) {
        size_t n = 0;

        while (isxdigit((unsigned char)name[n]))
                n++;
        return n == FINGERPRINT_DIGITS && name[n] == 0;
}

static bool in_use(const struct generation *generation, const char *fingerprint) {
        for (size_t i = 0; i < generation->n_plugins; i++)
                if (str_eq(pool_fingerprint(generation->plugins[i].pool), fingerprint))
                        return true;
        return false;
}

/* A venv is renamed into its place when it is complete; its folder is not changed afterwards. */
static void put_created(const char *python, struct buf *buf) {
        size_t len = python ? strlen(python) : 0, tail = strlen("/bin/python");
        CLEANUP_FREE char *folder = len > tail ? strndup(python, len - tail) : NULL;
        struct stat st;

        mp_put_str(buf, "created");
        if (folder && stat(folder, &st) == 0)
                mp_put_int(buf, st.st_mtime);
        else
                mp_put_nil(buf);
}

static void put_venv(const struct generation *generation, const char *fingerprint, const char *python, struct buf *buf) {
        size_t array, n = 0;

        mp_put_map(buf, 4);
        mp_put_str(buf, "fingerprint");
        mp_put_str(buf, fingerprint);
        mp_put_str(buf, "python");
        mp_put_str(buf, python);
        put_created(python, buf);
        mp_put_str(buf, "plugins");
        array = mp_array_begin(buf);
        for (size_t i = 0; i < generation->n_plugins; i++)
                if (str_eq(pool_fingerprint(generation->plugins[i].pool), fingerprint)) {
                        mp_put_str(buf, generation->plugins[i].entry->name);
                        n++;
                }
        mp_array_end(buf, array, n);
}

/* Whether no earlier plugin has the same venv. */
static bool is_first(const struct generation *generation, size_t i) {
        const char *fingerprint = pool_fingerprint(generation->plugins[i].pool);

        for (size_t j = 0; j < i; j++)
                if (str_eq(pool_fingerprint(generation->plugins[j].pool), fingerprint))
                        return false;
        return fingerprint != NULL;
}

void venvs_put_list(const struct generation *generation, struct buf *buf) {
        CLEANUP_FREE char *folder = NULL;
        size_t array, n = 0;
        DIR *dir = NULL;

        mp_put_map(buf, 1);
        mp_put_str(buf, "venvs");
        array = mp_array_begin(buf);
        for (size_t i = 0; i < generation->n_plugins; i++)
                if (is_first(generation, i)) {
                        const struct pool *pool = generation->plugins[i].pool;

                        put_venv(generation, pool_fingerprint(pool), pool_python(pool), buf);
                        n++;
                }
        if (asprintf(&folder, "%s/venvs", generation->daemon->cache_dir) >= 0)
                dir = opendir(folder);
        else
                folder = NULL;
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
                CLEANUP_FREE char *python = NULL;

                if (!is_fingerprint(entry->d_name) || in_use(generation, entry->d_name))
                        continue;
                if (asprintf(&python, "%s/%s/bin/python", folder, entry->d_name) < 0)
                        python = NULL;
                put_venv(generation, entry->d_name, python, buf);
                n++;
        }
        if (dir)
                (void)closedir(dir);
        mp_array_end(buf, array, n);
}

/* ---- venv.build ---- */

struct venv_build {
        struct event_base *base;
        struct generation *generation;
        char *plugin; /* NULL: all */
        bool verifies;
        size_t next;
        struct venv_job *job;
        struct event *step;
        struct buf results;
        size_t array, n_results;
        venv_build_callback callback;
        void *data;
};

static void put_result(struct venv_build *build, const struct plugin_entry *entry, const struct venv_result *result) {
        mp_put_map(&build->results, 4);
        mp_put_str(&build->results, "plugin");
        mp_put_str(&build->results, entry->name);
        mp_put_str(&build->results, "fingerprint");
        mp_put_str(&build->results,
                   build->verifies ? pool_fingerprint(build->generation->plugins[build->next].pool) : result->fingerprint);
        if (build->verifies) {
                mp_put_str(&build->results, "differences");
                mp_put_array(&build->results, result->differences ? result->differences->n : 0);
                for (size_t i = 0; result->differences && i < result->differences->n; i++)
                        mp_put_text(&build->results, result->differences->items[i], strlen(result->differences->items[i]));
        } else {
                mp_put_str(&build->results, "built");
                mp_put_bool(&build->results, result->built);
        }
        mp_put_str(&build->results, "error");
        mp_put_str(&build->results, result->error);
        build->n_results++;
}

static void on_job(void *data, const struct venv_result *result) {
        struct venv_build *build = data;

        put_result(build, build->generation->plugins[build->next].entry, result);
        build->next++;
        event_active(build->step, EV_TIMEOUT, 0);
}

static void start_job(struct venv_build *build, const struct plugin_entry *entry) {
        CLEANUP(strlist_done) struct strlist options = {0};
        const struct venv_spec spec = {
                .builder = build->generation->layout.venv_builder,
                .cache_dir = build->generation->daemon->cache_dir,
                .python = entry->isolation.python,
                .requirements = entry->requirements_file,
                .plugin = entry->name,
                .options = &options,
                .limits = venv_limits(&build->generation->daemon->venv, &entry->isolation.sandbox),
                .verify = build->verifies ? pool_fingerprint(build->generation->plugins[build->next].pool) : NULL,
        };
        int r = venv_options(&options, &build->generation->daemon->venv, &entry->isolation.sandbox);

        if (build->verifies && !spec.verify) {
                on_job(build, &(struct venv_result){.error = "it has no venv"});
                return;
        }
        r = r ? r : venv_job_start(&build->job, build->base, &spec, on_job, build);
        if (r < 0)
                on_job(build, &(struct venv_result){.error = strerror(-r)});
}

static void on_step(evutil_socket_t fd, short what, void *data) {
        struct venv_build *build = data;
        struct generation *generation = build->generation;

        (void)fd;
        (void)what;
        build->job = venv_job_free(build->job);
        while (build->plugin && build->next < generation->n_plugins &&
               !str_eq(generation->plugins[build->next].entry->name, build->plugin))
                build->next++;
        if (build->next < generation->n_plugins) {
                start_job(build, generation->plugins[build->next].entry);
                return;
        }
        mp_array_end(&build->results, build->array, build->n_results);
        build->callback(build->data, &build->results); /* frees the build */
}

int venv_build_start(struct venv_build **ret, struct event_base *base, struct generation *generation, const char *plugin,
                     bool verify, venv_build_callback callback, void *data) {
        struct venv_build *build = calloc(1, sizeof(*build));

        if (!build)
                return -ENOMEM;
        build->base = base;
        build->generation = generation_ref(generation);
        build->verifies = verify;
        build->callback = callback;
        build->data = data;
        build->plugin = plugin ? strdup(plugin) : NULL;
        build->step = event_new(base, -1, 0, on_step, build);
        if (!build->step || (plugin && !build->plugin)) {
                (void)venv_build_free(build);
                return -ENOMEM;
        }
        mp_put_map(&build->results, 1);
        mp_put_str(&build->results, "venvs");
        build->array = mp_array_begin(&build->results);
        event_active(build->step, EV_TIMEOUT, 0);
        *ret = build;
        return 0;
}

struct venv_build *venv_build_free(struct venv_build *build) {
        if (!build)
                return NULL;
        build->job = venv_job_free(build->job);
        if (build->step)
                event_free(build->step);
        buf_done(&build->results);
        generation_unref(build->generation);
        free(build->plugin);
        free(build);
        return NULL;
}
