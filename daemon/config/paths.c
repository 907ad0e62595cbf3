/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Paths are joined as texts and not resolved: a message then shows what the user wrote, and a link that is changed later
 * still works. ".." is kept, for behind a link it does not mean the part before it.
 */

#include "config/paths.h"

#include <limits.h>
#include <stdio.h>

#include "base/buf.h"
#include "config.h"

static void put_parts(struct buf *buf, const char *path) {
        while (*path) {
                size_t len = strcspn(path, "/");

                if (len > 0 && !(len == 1 && *path == '.')) {
                        buf_append_str(buf, "/");
                        buf_append(buf, path, len);
                }
                path += len;
                path += strspn(path, "/");
        }
}

char *path_join(const char *base, const char *path) {
        struct buf buf = {0};

        if (*path != '/')
                put_parts(&buf, base);
        put_parts(&buf, path);
        if (buf.len == 0)
                buf_append_str(&buf, "/");
        return buf_take_str(&buf);
}

char *path_parent(const char *path) {
        const char *slash = strrchr(path, '/');

        if (!slash)
                return strdup(".");
        return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

const char *path_basename(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

bool path_climbs(const char *path) {
        int depth = 0;

        if (*path == '/')
                return false;
        while (*path) {
                size_t len = strcspn(path, "/");

                if (len == 2 && path[0] == '.' && path[1] == '.')
                        depth--;
                else if (len > 0 && !(len == 1 && *path == '.'))
                        depth++;
                if (depth < 0)
                        return true;
                path += len;
                path += strspn(path, "/");
        }
        return false;
}

int path_working_folder(char **ret) {
        char *folder = getcwd(NULL, 0);

        if (!folder)
                return -errno;
        *ret = folder;
        return 0;
}

static const char *environment(const char *name) {
        const char *value = getenv(name);

        return value && *value == '/' ? value : NULL;
}

/* The first of systemd's list, which has colons between. */
static int from_systemd(char **ret, const char *value) {
        char *folder = strndup(value, strcspn(value, ":"));

        if (!folder)
                return -ENOMEM;
        *ret = folder;
        return 0;
}

static int below(char **ret, const char *folder, const char *name) {
        char *path;

        if (!folder)
                return -ENOENT;
        path = path_join(folder, name);
        if (!path)
                return -ENOMEM;
        *ret = path;
        return 0;
}

int path_runtime_folder(char **ret) {
        const char *given = environment("RUNTIME_DIRECTORY");

        if (given)
                return from_systemd(ret, given);
        return below(ret, geteuid() == 0 ? "/run" : environment("XDG_RUNTIME_DIR"), "cpexd");
}

int path_cache_folder(char **ret) {
        const char *given = environment("CACHE_DIRECTORY");

        if (given)
                return from_systemd(ret, given);
        if (geteuid() == 0)
                return below(ret, "/var/cache", "cpexd");
        if (environment("XDG_CACHE_HOME"))
                return below(ret, environment("XDG_CACHE_HOME"), "cpexd");
        return below(ret, environment("HOME"), ".cache/cpexd");
}

int path_config_folder(char **ret) {
        const char *given = environment("CONFIGURATION_DIRECTORY");

        return from_systemd(ret, given ? given : CPEXD_SYSCONFDIR);
}
