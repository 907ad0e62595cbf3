/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names are looked up once, when the file is read, and in /etc/passwd and /etc/group only: what getpwnam() asks may be a directory service that
 * takes its time, and nobody could be served meanwhile. Users and groups of such a service are given by their numbers.
 *
 * One item that is not understood refuses the file: a list that is shorter than was meant locks somebody out, and one that is longer lets
 * somebody in.
 */

#include "config/access.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>

#define ID_MAX (UINT32_MAX - 1) /* the last one is nobody's: (uid_t)-1 */
#define CALLERS_MAX 1000

static FILE *open_table(const char *path) {
        return fopen(path, "re");
}

static void filep_close(FILE **file) {
        if (*file)
                (void)fclose(*file);
}

static bool find_user(const char *name, uint32_t *ret) {
        CLEANUP(filep_close) FILE *file = open_table("/etc/passwd");
        const struct passwd *entry;

        while (file && (entry = fgetpwent(file)))
                if (str_eq(entry->pw_name, name)) {
                        *ret = entry->pw_uid;
                        return true;
                }
        return false;
}

static bool find_group(const char *name, uint32_t *ret) {
        CLEANUP(filep_close) FILE *file = open_table("/etc/group");
        const struct group *entry;

        while (file && (entry = fgetgrent(file)))
                if (str_eq(entry->gr_name, name)) {
                        *ret = entry->gr_gid;
                        return true;
                }
        return false;
}

static bool read_id(struct reader *reader, const struct at *at, const struct node *node, bool group, uint32_t *ret) {
        const char *what = group ? "group" : "user";

        if (node->type == NODE_INT && !node->negative && node->magnitude <= ID_MAX) {
                *ret = (uint32_t)node->magnitude;
                return true;
        }
        if (node->type != NODE_STR)
                return value_refuse(reader, at, node, "the name or the number of a %s", what);
        if (group ? find_group(node->text, ret) : find_user(node->text, ret))
                return true;
        return value_refuse(reader, at, node, "the name of a %s in %s, or a number", what, group ? "/etc/group" : "/etc/passwd");
}

/* {user: NAME} or {group: NAME}, and what it may call. */
static bool read_map(struct reader *reader, const struct at *at, const struct node *map, bool hooks, struct caller *caller) {
        const struct node *user = node_get(map, "user"), *group = node_get(map, "group"),
                          *allow = hooks ? node_get(map, "allow") : NULL;

        if (!user == !group || map->n_pairs != (allow ? 2 : 1))
                return value_refuse(reader, at, map,
                                    hooks ? "a map of user or group, and perhaps allow" : "a map of user or group");
        caller->kind = group ? CALLER_GROUP : CALLER_USER;
        if (!read_id(reader, at, group ? group : user, group != NULL, &caller->id))
                return false;
        if (!allow)
                return true;
        if (!value_texts(reader, at, allow, true, &caller->hooks))
                return false;
        /* An empty list allows nothing, but would read as one that is not there. */
        return caller->hooks.n > 0 ||
               value_refuse(reader, at, allow, "a list of hooks; leave the caller out if it may call none");
}

static bool read_caller(struct reader *reader, const struct at *at, const struct node *node, bool hooks, struct caller *caller) {
        if (node->type == NODE_MAP)
                return read_map(reader, at, node, hooks, caller);
        caller->kind = node_is(node, "any") ? CALLER_ANY : CALLER_USER;
        return caller->kind == CALLER_ANY || read_id(reader, at, node, false, &caller->id);
}

void access_read(struct reader *reader, const struct at *at, const struct node *node, bool hooks, struct callers *ret) {
        struct callers callers = {0};
        bool ok = true;

        if (node->type != NODE_LIST || node->n_items > CALLERS_MAX) {
                value_refuse(reader, at, node, "a list of at most %d users and groups", CALLERS_MAX);
                return;
        }
        callers.items = node->n_items > 0 ? calloc(node->n_items, sizeof(*callers.items)) : NULL;
        if (!report_check(&reader->report, callers.items || node->n_items == 0))
                return;
        for (; callers.n < node->n_items; callers.n++) {
                struct at item = {.up = at->up, .key = at->key, .index = callers.n + 1};

                ok = read_caller(reader, &item, node->items[callers.n], hooks, &callers.items[callers.n]) && ok;
        }
        callers_done(ok ? ret : &callers);
        if (ok)
                *ret = callers;
}
