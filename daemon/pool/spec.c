/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What workers are started with and told, so that one of them can be made at any time: the parameters of `load`, `init` and
 * `zygote`, the environment, the options of the launcher and the limits. All of it follows from the entries of the
 * configuration.
 */

#include "pool/private.h"

#include "pool/box.h"
#include "pool/environment.h"

/* The parameters of `load`, or of `hello` to a plugin server (docs/protocol.md). */
static int put_load(struct buf *buf, const struct plugin_entry *entry, const struct pool_layout *layout, unsigned member,
                    unsigned n_members) {
        if (entry->isolation.socket) {
                mp_put_map(buf, 2);
                mp_put_str(buf, "client");
                mp_put_str(buf, "cpexd");
                mp_put_str(buf, "version");
                mp_put_uint(buf, 1);
                return buf_error(buf);
        }
        mp_put_map(buf, 6);
        mp_put_str(buf, "member");
        mp_put_uint(buf, member);
        mp_put_str(buf, "members");
        mp_put_uint(buf, n_members);
        mp_put_str(buf, "class_name");
        mp_put_str(buf, entry->class_name);
        mp_put_str(buf, "folder");
        mp_put_str(buf, layout->project_root);
        mp_put_str(buf, "paths");
        mp_put_array(buf, entry->script_path != NULL);
        if (entry->script_path)
                mp_put_str(buf, entry->script_path);
        mp_put_str(buf, "more_paths");
        mp_put_array(buf, entry->more_paths.n);
        for (size_t i = 0; i < entry->more_paths.n; i++)
                mp_put_str(buf, entry->more_paths.items[i]);
        return buf_error(buf);
}

static void put_hooks(struct buf *buf, const struct plugin_entry *entry) {
        mp_put_str(buf, "hooks");
        mp_put_array(buf, entry->hooks.n);
        for (size_t i = 0; i < entry->hooks.n; i++)
                mp_put_str(buf, entry->hooks.items[i]);
}

/* The parameters of `init`. */
static int put_init(struct buf *buf, const struct plugin_entry *entry, const struct pool_layout *layout, unsigned member,
                    uint64_t generation) {
        mp_put_map(buf, 7);
        mp_put_str(buf, "member");
        mp_put_uint(buf, member);
        mp_put_str(buf, "plugin");
        mp_put_raw(buf, (struct mp){entry->entry.data, entry->entry.len});
        put_hooks(buf, entry);
        mp_put_str(buf, "max_concurrent");
        mp_put_uint(buf, entry->isolation.max_concurrent);
        mp_put_str(buf, "frame_bytes");
        mp_put_uint(buf, layout->frame_bytes);
        mp_put_str(buf, "values");
        mp_put_uint(buf, layout->values);
        mp_put_str(buf, "generation");
        mp_put_uint(buf, generation);
        return buf_error(buf);
}

/* The parameters of `zygote`. */
static int put_fork(struct buf *buf, const struct plugin_entry *entry) {
        mp_put_map(buf, 1);
        put_hooks(buf, entry);
        return buf_error(buf);
}

void crew_make_zygote_spec(struct crew *crew) {
        crew->zygote_member = (struct worker_member){
                .load = crew->spec.members[0].load, .init = {crew->fork.data, crew->fork.len}, .may_initialize = true};
        crew->zygote_spec = crew->spec;
        crew->zygote_spec.zygote = true;
        crew->zygote_spec.members = &crew->zygote_member;
        crew->zygote_spec.n_members = 1;
}

/* What each worker is told of each of the plugins, and what their code needs of the sandbox. */
static int make_members(struct crew *crew) {
        for (unsigned i = 0; i < crew->n_pools; i++) {
                struct pool *pool = crew->pools[i];
                struct worker_member *member = &crew->spec.members[i];

                buf_done(&pool->load);
                buf_done(&pool->init);
                if (box_code_options(&crew->box, pool->configured) < 0 ||
                    put_load(&pool->load, pool->configured, &crew->layout, i, crew->n_pools) < 0 ||
                    put_init(&pool->init, pool->configured, &crew->layout, i, crew->generation) < 0)
                        return -ENOMEM;
                member->load = (struct mp){pool->load.data, pool->load.len};
                member->init = (struct mp){pool->init.data, pool->init.len};
        }
        return 0;
}

int crew_make_spec(struct crew *crew) {
        const struct plugin_entry *entry = crew->pools[0]->configured;
        const struct pool_layout *layout = &crew->layout;
        char **env = environment_for_worker(&entry->isolation.env);

        strlist_done(&crew->box);
        buf_done(&crew->fork);
        if (!env || box_options(&crew->box, &entry->isolation.sandbox) < 0 || make_members(crew) < 0 ||
            put_fork(&crew->fork, entry) < 0) {
                free(env);
                return -ENOMEM;
        }
        crew->env = env;
        crew->spec.process = (struct process_spec){
                .plugin = crew->name,
                .group = crew->settings.group != NULL,
                .members = crew->names,
                .n_members = crew->n_pools,
                .launcher = layout->launcher,
                .shim_dir = layout->shim_dir,
                .ext_dir = layout->ext_dir,
                .sdk_dir = layout->sdk_dir,
                .env = env,
                .box = &crew->box,
                .scratch = entry->isolation.sandbox.profile != SANDBOX_OFF,
                .files = entry->isolation.files,
                .limits =
                        {
                                .memory_bytes = entry->isolation.memory_bytes,
                                .tasks = entry->isolation.sandbox.tasks,
                                .cpu_percent = entry->isolation.cpu_percent,
                        },
        };
        crew->spec.startup_timeout_usec = entry->isolation.startup_timeout_usec;
        crew->spec.frame_bytes = layout->frame_bytes;
        crew->spec.values = layout->values;
        return 0;
}
