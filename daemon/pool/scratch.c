/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Most workers leave nothing, and their folder goes with one call. What a plugin did leave may take long to remove, so that is done by
 * the launcher, locked into that folder, beside the loop.
 */

#include "pool/scratch.h"

#include <poll.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/log.h"

#define END_WAIT_MSEC 1000

struct removal {
        LIST_ENTRY(removal) link;
        struct child *child;
        char *path;
};

static LIST_HEAD(, removal) removals = LIST_HEAD_INITIALIZER(removals);

int scratch_new(char **ret) {
        const char *folder = getenv("TMPDIR");
        CLEANUP_FREE char *path = NULL;

        if (asprintf(&path, "%s/cpexd-worker-XXXXXX", folder && *folder == '/' ? folder : "/tmp") < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(path))
                return -errno;
        *ret = TAKE(path);
        return 0;
}

static void removal_free(struct removal *removal) {
        removal->child = child_free(removal->child);
        if (rmdir(removal->path) < 0)
                log_warning("the temporary folder %s of a worker that has ended could not be removed: %s", removal->path,
                            strerror(errno));
        LIST_REMOVE(removal, link);
        free(removal->path);
        free(removal);
}

static void on_removed(void *data, int status) {
        (void)status; /* whether it is empty shows now */
        removal_free(data);
}

static int start_removal(const char *path, struct event_base *base, const char *launcher) {
        const char *const argv[] = {launcher, "--remove-content", path, NULL};
        const struct child_spec spec = {.argv = argv, .output = STDERR_FILENO, .error = STDERR_FILENO, .group = true};
        struct removal *removal = calloc(1, sizeof(*removal));
        int r;

        if (!removal)
                return -ENOMEM;
        removal->path = strdup(path);
        r = removal->path ? child_spawn(&removal->child, base, &spec, on_removed, removal) : -ENOMEM;
        if (r < 0) {
                free(removal->path);
                free(removal);
                return r;
        }
        LIST_INSERT_HEAD(&removals, removal, link);
        return 0;
}

char *scratch_free(char *path, struct event_base *base, const char *launcher) {
        int r;

        if (!path)
                return NULL;
        r = rmdir(path) < 0 ? -errno : 0;
        if (r == -ENOTEMPTY || r == -EEXIST)
                r = start_removal(path, base, launcher);
        if (r < 0)
                log_warning("the temporary folder %s of a worker that has ended stays: %s", path, strerror(-r));
        free(path);
        return NULL;
}

void scratch_end(void) {
        struct removal *removal;

        for (int i = 0; (removal = LIST_FIRST(&removals)); i++) {
                siginfo_t info = {0};

                (void)waitid(P_PID, (id_t)child_pid(removal->child), &info, WEXITED | WNOWAIT | WNOHANG);
                if (info.si_pid > 0 || i >= END_WAIT_MSEC)
                        removal_free(removal);
                else
                        (void)poll(NULL, 0, 1);
        }
}
