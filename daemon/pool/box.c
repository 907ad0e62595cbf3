/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What every worker needs, the launcher knows (worker-shim/launch/landlock.c); from here comes what is one plugin's: its code, and what its entry
 * allows. Of HOST:PORT only the port is handed on, for the kernel knows no hosts.
 */

#include "pool/box.h"

#include <stdio.h>

#include "wire/mp.h"

static int append_network(struct strlist *list, const struct strlist *network) {
        for (size_t i = 0; i < network->n; i++) {
                unsigned port = sandbox_port(network->items[i]);
                char number[8];

                (void)snprintf(number, sizeof(number), "%u", port);
                if (strlist_append_option(list, "--network", port > 0 ? number : network->items[i]) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int box_options(struct strlist *ret, const struct sandbox *sandbox) {
        if (sandbox->profile == SANDBOX_OFF)
                return 0;
        if (strlist_append_option(ret, "--profile", sandbox_profile_name((enum sandbox_profile)sandbox->profile)) < 0 ||
            (sandbox->require && strlist_append(ret, "--require") < 0) ||
            strlist_append_options(ret, "--read", &sandbox->read) < 0 ||
            strlist_append_options(ret, "--write", &sandbox->write) < 0)
                return -ENOMEM;
        return append_network(ret, &sandbox->network);
}

int box_code_options(struct strlist *ret, const struct plugin_entry *entry) {
        if (entry->isolation.sandbox.profile == SANDBOX_OFF)
                return 0;
        if (entry->script_path && strlist_append_option(ret, "--read", entry->script_path) < 0)
                return -ENOMEM;
        return strlist_append_options(ret, "--read", &entry->more_paths);
}

int box_code(struct strlist *ret, const struct plugin_entry *entry) {
        if (entry->script_path && strlist_append(ret, entry->script_path) < 0)
                return -ENOMEM;
        return strlist_append_all(ret, &entry->more_paths);
}

static void put_texts(struct buf *buf, const struct strlist *texts) {
        for (size_t i = 0; i < texts->n; i++)
                mp_put_str(buf, texts->items[i]);
}

static void put_list(struct buf *buf, const char *key, const struct strlist *texts) {
        mp_put_str(buf, key);
        mp_put_array(buf, texts->n);
        put_texts(buf, texts);
}

static void put_read(struct buf *buf, const struct plugin_entry *entry, const struct strlist *fellows) {
        const struct strlist *read = &entry->isolation.sandbox.read;

        mp_put_str(buf, "read");
        mp_put_array(buf, (entry->script_path != NULL) + entry->more_paths.n + fellows->n + read->n);
        if (entry->script_path)
                mp_put_str(buf, entry->script_path);
        put_texts(buf, &entry->more_paths);
        put_texts(buf, fellows);
        put_texts(buf, read);
}

static void put_limit(struct buf *buf, const char *key, uint64_t limit) {
        mp_put_str(buf, key);
        if (limit > 0)
                mp_put_uint(buf, limit);
        else
                mp_put_nil(buf);
}

size_t box_put(struct buf *buf, const struct plugin_entry *entry, const struct strlist *fellows, const char *python) {
        const struct isolation *isolation = &entry->isolation;

        mp_put_str(buf, "plugin");
        mp_put_str(buf, entry->name);
        mp_put_str(buf, "profile");
        mp_put_str(buf, isolation->socket ? NULL : sandbox_profile_name((enum sandbox_profile)isolation->sandbox.profile));
        mp_put_str(buf, "python");
        mp_put_str(buf, python);
        put_list(buf, "network", &isolation->sandbox.network);
        put_read(buf, entry, fellows);
        put_list(buf, "write", &isolation->sandbox.write);
        put_list(buf, "env", &isolation->env);
        put_limit(buf, "tasks", isolation->sandbox.tasks);
        put_limit(buf, "files", isolation->files);
        put_limit(buf, "memory", isolation->memory_bytes);
        put_limit(buf, "cpu", isolation->cpu_percent);
        mp_put_str(buf, "require");
        mp_put_bool(buf, isolation->sandbox.require);
        return 12;
}
