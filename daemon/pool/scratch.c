/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Most workers leave nothing, and their folder goes with one call. What a plugin did leave may take long to remove, so that is done by
 * the launcher, locked into that folder, beside the loop.
 */

#include "pool/scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/log.h"

#define END_WAIT_MSEC 1000
#define OWN_PREFIX "cpexd-tmp-"
#define OWN_TRIES 8 /* a new folder may be taken for one that was left, until it is locked */

struct removal {
        LIST_ENTRY(removal) link;
        struct child *child;
        char *path;
        int lock;  /* of a daemon's folder, else -1 */
        pid_t pid; /* of the child, for an upgrade */
};

static LIST_HEAD(, removal) removals = LIST_HEAD_INITIALIZER(removals);

/* This daemon's. */
static char *own;
static int own_lock = -1;

static void removal_free(struct removal *removal) {
        removal->child = child_free(removal->child);
        if (rmdir(removal->path) < 0 && errno != ENOENT)
                log_warning("the temporary folder %s of a worker that has ended could not be removed: %s", removal->path,
                            strerror(errno));
        LIST_REMOVE(removal, link);
        removal->lock = fd_close(removal->lock);
        free(removal->path);
        free(removal);
}

static void on_removed(void *data, int status) {
        (void)status; /* whether it is empty shows now */
        removal_free(data);
}

/* Takes over `lock`, or -1, when that goes well. */
static int start_removal(const char *path, int lock, struct event_base *base, const char *launcher) {
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
        removal->lock = lock;
        LIST_INSERT_HEAD(&removals, removal, link);
        return 0;
}

/* Return: the folder's lock; a negative errno when it is no folder of ours, or somebody has it. */
static int lock_folder(const char *path) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_uid != geteuid())
                return -EPERM;
        return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : TAKE_FD(fd);
}

static void remove_left(const char *temp, struct event_base *base, const char *launcher) {
        DIR *dir = opendir(temp);
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                char path[PATH_MAX];
                int lock;

                if (strncmp(entry->d_name, OWN_PREFIX, strlen(OWN_PREFIX)) != 0 ||
                    snprintf(path, sizeof(path), "%s/%s", temp, entry->d_name) >= (int)sizeof(path))
                        continue;
                lock = lock_folder(path);
                if (lock < 0)
                        continue;
                log_info("removing %s, which a cpexd has left that was killed", path);
                if (start_removal(path, lock, base, launcher) < 0)
                        (void)fd_close(lock); /* the next daemon tries again */
        }
        if (dir)
                (void)closedir(dir);
}

static int make_own(const char *temp) {
        int lock = -EAGAIN;

        for (int i = 0; lock < 0 && i < OWN_TRIES; i++) {
                CLEANUP_FREE char *path = NULL;

                if (asprintf(&path, "%s/" OWN_PREFIX "XXXXXX", temp) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (!mkdtemp(path))
                        return -errno;
                lock = lock_folder(path);
                if (lock >= 0)
                        own = TAKE(path);
        }
        if (lock < 0)
                return lock;
        own_lock = lock;
        return 0;
}

int scratch_new(char **ret, struct event_base *base, const char *launcher, const char *zygote) {
        CLEANUP_FREE char *path = NULL;
        int r;

        if (!own) {
                const char *folder = getenv("TMPDIR"), *temp = folder && *folder == '/' ? folder : "/tmp";

                remove_left(temp, base, launcher);
                r = make_own(temp);
                if (r < 0)
                        return r;
        }
        if (asprintf(&path, "%s/worker-XXXXXX", zygote ? zygote : own) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(path))
                return -errno;
        *ret = TAKE(path);
        return 0;
}

char *scratch_free(char *path, struct event_base *base, const char *launcher) {
        int r;

        if (!path)
                return NULL;
        r = rmdir(path) < 0 && errno != ENOENT ? -errno : 0; /* the zygote's may have gone before, with all that was in it */
        if (r == -ENOTEMPTY || r == -EEXIST)
                r = start_removal(path, -1, base, launcher);
        if (r < 0)
                log_warning("the temporary folder %s of a worker that has ended stays: %s", path, strerror(-r));
        free(path);
        return NULL;
}

/* ---- An upgrade ---- */

struct held {
        char *own;
        int lock;
};
static const struct carried members[] = {CARRIED(STR, struct held, own), CARRIED(FD, struct held, lock)};
static const struct carried removal_members[] = {
        CARRIED(STR, struct removal, path),
        CARRIED(INT, struct removal, pid),
        CARRIED(FD, struct removal, lock),
};

void scratch_save(struct carry *carry) {
        const struct held held = {own, own_lock};
        struct removal *removal;
        size_t array, n = 0;

        mp_put_map(&carry->out, ELEMENTS(members) + 1);
        carry_put(carry, members, ELEMENTS(members), &held);
        mp_put_str(&carry->out, "removals");
        array = mp_array_begin(&carry->out);
        LIST_FOREACH(removal, &removals, link) {
                removal->pid = child_pid(removal->child);
                mp_put_map(&carry->out, ELEMENTS(removal_members));
                carry_put(carry, removal_members, ELEMENTS(removal_members), removal);
                n++;
        }
        mp_array_end(&carry->out, array, n);
}

int scratch_adopt(struct event_base *base, struct mp saved) {
        struct carry_items items = carry_items(mp_map_value(saved, "removals"));
        struct held held = {NULL, -1};
        int r = carry_get(saved, members, ELEMENTS(members), &held);
        struct mp item;

        own = held.own;
        own_lock = held.lock;
        while (r == 0 && carry_next(&items, &item)) {
                struct removal *removal = calloc(1, sizeof(*removal));

                r = removal ? carry_get(item, removal_members, ELEMENTS(removal_members), removal) : -ENOMEM;
                r = r < 0 ? r : child_watch(&removal->child, base, removal->pid, on_removed, removal);
                if (r == 0)
                        LIST_INSERT_HEAD(&removals, removal, link);
        }
        return r;
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
        if (own && rmdir(own) < 0)
                log_warning("the temporary folder %s could not be removed: %s", own, strerror(errno));
        free(TAKE(own));
        own_lock = fd_close(own_lock);
}
