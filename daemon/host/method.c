/* SPDX-License-Identifier: Apache-2.0 */

/*
 * hello, ping, hooks and plugins: what needs no session and no waiting.
 */

#include "config.h"
#include "host/session.h"

#define PROTOCOL_VERSION 1

static void put_strlist(struct buf *out, const struct strlist *list) {
        mp_put_array(out, list->n);
        for (size_t i = 0; i < list->n; i++)
                mp_put_str(out, list->items[i]);
}

static void put_hello(struct generation *generation, struct buf *out) {
        mp_put_map(out, 5);
        mp_put_str(out, "version");
        mp_put_uint(out, PROTOCOL_VERSION);
        mp_put_str(out, "server");
        mp_put_str(out, "cpexd " CPEXD_VERSION);
        mp_put_str(out, "generation");
        mp_put_uint(out, generation->number);
        mp_put_str(out, "features");
        mp_put_array(out, 3);
        mp_put_str(out, "cancel");
        mp_put_str(out, "generation");
        mp_put_str(out, "core");
        mp_put_str(out, "limits");
        mp_put_map(out, 3);
        mp_put_str(out, "frame_bytes");
        mp_put_uint(out, generation->daemon->frame_bytes);
        mp_put_str(out, "calls");
        mp_put_uint(out, generation->daemon->calls);
        mp_put_str(out, "values");
        mp_put_uint(out, generation->daemon->values);
}

static void put_hooks(struct generation *generation, struct buf *out) {
        mp_put_map(out, 2);
        mp_put_str(out, "generation");
        mp_put_uint(out, generation->number);
        mp_put_str(out, "hooks");
        mp_put_map(out, generation->n_hooks);
        for (size_t i = 0; i < generation->n_hooks; i++) {
                const struct hook *hook = &generation->hooks[i];

                mp_put_str(out, hook->name);
                mp_put_array(out, hook->phase_start[PHASE_MAX_]);
                for (size_t j = 0; j < hook->phase_start[PHASE_MAX_]; j++)
                        mp_put_str(out, hook->plugins[j]->entry->name);
        }
}

static const char *plugin_status(const struct plugin *plugin) {
        if (!plugin || pool_is_disabled(plugin->pool))
                return "disabled";
        switch (pool_state(plugin->pool)) {
        case POOL_STARTING:
                return "starting";
        case POOL_FAILED:
                return "failed";
        default:
                return "ready";
        }
}

static void put_plugin(const struct generation *generation, const struct plugin_entry *configured, struct buf *out) {
        const struct plugin *plugin = generation_plugin(generation, configured->name);
        const struct plugin_entry *entry = plugin ? plugin->entry : configured;

        mp_put_map(out, 11);
        mp_put_str(out, "name");
        mp_put_str(out, entry->name);
        mp_put_str(out, "kind");
        mp_put_str(out, entry->kind);
        mp_put_str(out, "version");
        mp_put_str(out, entry->version);
        mp_put_str(out, "hooks");
        put_strlist(out, &entry->hooks);
        mp_put_str(out, "mode");
        mp_put_str(out, plugin_mode_name(entry->mode));
        mp_put_str(out, "on_error");
        mp_put_str(out, on_error_name(entry->on_error));
        mp_put_str(out, "priority");
        mp_put_int(out, entry->priority);
        mp_put_str(out, "status");
        mp_put_str(out, plugin_status(plugin));
        mp_put_str(out, "description");
        mp_put_str(out, entry->description);
        mp_put_str(out, "author");
        mp_put_str(out, entry->author);
        mp_put_str(out, "tags");
        put_strlist(out, &entry->tags);
}

static void put_plugins(struct generation *generation, struct buf *out) {
        mp_put_map(out, 2);
        mp_put_str(out, "generation");
        mp_put_uint(out, generation->number);
        mp_put_str(out, "plugins");
        mp_put_array(out, generation->config->n_plugins);
        for (size_t i = 0; i < generation->config->n_plugins; i++)
                put_plugin(generation, &generation->config->plugins[i], out);
}

static void put_ping(struct generation *generation, struct buf *out) {
        (void)generation;
        mp_put_map(out, 0);
}

bool host_method(struct generation *generation, const struct rpc_msg *msg, struct buf *out) {
        static const struct {
                const char *name;
                void (*put)(struct generation *generation, struct buf *out);
        } methods[] = {{"hello", put_hello}, {"ping", put_ping}, {"hooks", put_hooks}, {"plugins", put_plugins}};

        for (size_t i = 0; i < ELEMENTS(methods); i++)
                if (rpc_method_is(msg, methods[i].name)) {
                        rpc_put_result(out, msg->id);
                        methods[i].put(generation, out);
                        return true;
                }
        return false;
}
