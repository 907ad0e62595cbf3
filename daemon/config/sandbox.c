/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is not understood here must not become a wider sandbox than was meant, so there are no suggestions that are followed and no
 * parts that are passed over: one wrong item refuses the file.
 */

#include "config/sandbox.h"

#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define NETWORK_WANTED "none, all, unix, a port, HOST:PORT, or a list of them"
#define PORT_MAX 65535

const char *sandbox_profile_name(enum sandbox_profile profile) {
        static const char *const names[SANDBOX_PROFILE_MAX_] = {"off", "default", "strict"};

        return names[profile];
}

unsigned sandbox_port(const char *item) {
        const char *colon = strrchr(item, ':'), *digits = colon ? colon + 1 : item;
        unsigned long port = strtoul(digits, NULL, 10);

        return *digits && digits[strspn(digits, "0123456789")] == '\0' && strlen(digits) <= 5 && port <= PORT_MAX ? (unsigned)port
                                                                                                                  : 0;
}

void sandbox_read_profile(struct reader *reader, const struct at *at, const struct node *node, int *ret) {
        const char *names[SANDBOX_PROFILE_MAX_];

        for (int i = 0; i < SANDBOX_PROFILE_MAX_; i++)
                names[i] = sandbox_profile_name((enum sandbox_profile)i);
        if (node->type == NODE_BOOL && strcasecmp(node->text, "off") == 0)
                *ret = SANDBOX_OFF;
        else
                (void)value_choice(reader, at, node, names, ELEMENTS(names), ret);
}

/* A lone "none" is an empty list. */
static bool read_network_item(struct reader *reader, const struct at *at, const struct node *node, bool alone,
                              struct strlist *list) {
        char number[8];
        const char *item = node->type == NODE_STR ? node->text : "";

        if (node->type == NODE_INT && !node->negative && node->magnitude <= PORT_MAX) {
                (void)snprintf(number, sizeof(number), "%u", (unsigned)node->magnitude);
                item = number;
        }
        if (alone && str_eq(item, "none"))
                return true;
        if (!str_eq(item, "all") && !str_eq(item, "unix") && sandbox_port(item) == 0)
                return value_refuse(reader, at, node, NETWORK_WANTED);
        return report_check(&reader->report, strlist_append(list, item) == 0);
}

/* Takes the place of `ret` where all of it was right. */
static void settle(struct strlist *list, bool ok, struct strlist *ret) {
        if (!ok) {
                strlist_done(list);
                return;
        }
        strlist_done(ret);
        *ret = *list;
}

void sandbox_read_network(struct reader *reader, const struct at *at, const struct node *node, struct strlist *ret) {
        struct strlist list = {0};
        bool ok = true;

        if (node->type != NODE_LIST) {
                ok = read_network_item(reader, at, node, true, &list);
        } else {
                for (size_t i = 0; i < node->n_items; i++) {
                        struct at item = {.up = at->up, .key = at->key, .index = i + 1};

                        ok = read_network_item(reader, &item, node->items[i], node->n_items == 1, &list) && ok;
                }
        }
        settle(&list, ok, ret);
}

void sandbox_read_paths(struct reader *reader, const struct at *at, const struct node *node, struct strlist *ret) {
        struct strlist list = {0};
        bool ok = node->type == NODE_LIST || value_refuse(reader, at, node, "a list of paths");

        for (size_t i = 0; ok && i < node->n_items; i++) {
                struct at item = {.up = at->up, .key = at->key, .index = i + 1};
                CLEANUP_FREE char *path = NULL;

                ok = value_path(reader, &item, node->items[i], &path) &&
                     report_check(&reader->report, strlist_append(&list, path) == 0);
                if (ok && access(path, F_OK) < 0 && errno == ENOENT)
                        report_add(&reader->report, DIAG_WARNING, &item, node->items[i]->place,
                                   "there is no %s, so the plugin will not have it; create it, or name the folder that it is to "
                                   "lie in",
                                   path);
        }
        settle(&list, ok, ret);
}

static uint64_t mix(uint64_t seed, uint64_t value) {
        return (seed ^ value) * UINT64_C(0x9e3779b97f4a7c15) ^ seed >> 29;
}

static uint64_t mix_paths(uint64_t seed, const struct strlist *paths) {
        for (size_t i = 0; i < paths->n; i++) {
                struct stat st = {0};

                seed = stat(paths->items[i], &st) == 0 ? mix(mix(seed, st.st_dev), st.st_ino) : mix(seed, 1);
        }
        return seed;
}

void sandbox_identify(struct sandbox *sandbox) {
        sandbox->identity = mix_paths(mix_paths(sandbox->profile != SANDBOX_OFF, &sandbox->read), &sandbox->write);
}
