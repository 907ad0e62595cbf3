/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What makes a venv complete is one file in it, written last, and one rename, done after everything is on the disk. So whatever
 * dies when, a folder under a fingerprint with that file in it is whole. Who only looks needs no lock, and no permission to write.
 *
 * The whole file system is synced and not file by file: a venv has thousands of files, and one wait for all of them is shorter than
 * one for each. It also reports space that was promised and is not there.
 *
 * What is found is run, so it counts only where nobody but root and this user can have put it: the folders are asked whose they
 * are, through descriptors, and so is each venv.
 *
 * A lock file is never removed, since somebody may be waiting for it; it is empty.
 */

#include "venv/cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "venv/digest.h"
#include "venv/run.h"
#include "venv/say.h"
#include "venv/tree.h"

#define FORMAT_VERSION 3
#define MARKER "cpexd-venv.json"
#define BUILDING ".building-"
#define FOLDER_BYTES_MAX 1024
#define MARKER_BYTES_MAX (1 << 20)
#define WAIT_MSEC 50
#define DIFFERENCES_SAID 5
#define FINGERPRINT_LEN (DIGEST_HEX_BYTES - 1)

static void dir_closep(DIR **dir) {
        if (*dir)
                (void)closedir(*dir);
}

void cache_done(struct cache *cache) {
        free(cache->folder);
        if (cache->folder)
                (void)fd_close(cache->fd);
        *cache = (struct cache){0};
}

void cache_entry_done(struct cache_entry *entry) {
        free(entry->fingerprint);
        free(entry->python);
        free(entry->interpreter);
        free(entry->installer);
        free(entry->requirements);
        json_decref(entry->packages);
        *entry = (struct cache_entry){0};
}

/* ---- The folder ---- */

static int make_folder(const char *path) {
        int r = mkdir(path, 0755) < 0 ? -errno : 0;

        /* On a read-only file system the error for one that exists is another. */
        return r == 0 || access(path, F_OK) == 0 ? 0 : r;
}

static int make_folders(const char *path) {
        CLEANUP_FREE char *part = strdup(path);
        int r = 0;

        if (!part)
                return -ENOMEM;
        for (char *slash = part; r == 0 && (slash = strchr(slash + 1, '/'));) {
                *slash = 0;
                r = make_folder(part);
                *slash = '/';
        }
        return r ? r : make_folder(path);
}

static bool belongs_to_us(const struct stat *st) {
        return st->st_uid == 0 || st->st_uid == geteuid();
}

static bool others_can_write(const struct stat *st) {
        return st->st_mode & (S_IWGRP | S_IWOTH);
}

static int check_folder(int fd, const char *path, char **ret_error) {
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(ret_error, "the cache %s cannot be opened: %m", path);
        if (!belongs_to_us(&st))
                return fail(ret_error,
                            "the cache %s belongs to user %u, who could put code into it for plugins to run; set cache_dir to a "
                            "folder of user %u or root, or run as user %u",
                            path, (unsigned)st.st_uid, (unsigned)geteuid(), (unsigned)st.st_uid);
        if (others_can_write(&st))
                return fail(ret_error,
                            "the cache %s of user %u can be written to by other users, who could put code into it for plugins to "
                            "run; set cache_dir to a new folder of your own, or empty this one and run \"chmod go-w %s\"",
                            path, (unsigned)st.st_uid, path);
        return 0;
}

/* Opens `dir`/venvs if both can be trusted. */
static int open_folder(const char *dir, const char *path, int *ret_fd, char **ret_error) {
        CLEANUP_FD int above = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
        int r;

        r = check_folder(above, dir, ret_error);
        if (r < 0)
                return r;
        fd = openat(above, "venvs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = check_folder(fd, path, ret_error);
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}

int cache_open(struct cache *ret, const char *dir, bool create, char **ret_error) {
        CLEANUP_CACHE struct cache cache = {0};
        CLEANUP_FD int fd = -1;
        char path[PATH_MAX];
        int r;

        if (snprintf(path, sizeof(path), "%s/venvs", dir) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        r = create ? make_folders(path) : 0;
        if (r < 0) {
                errno = -r;
                return fail(ret_error,
                            "the cache %s cannot be made: %m; create it or set cache_dir to a folder that can be written to",
                            path);
        }
        r = open_folder(dir, path, &fd, ret_error);
        if (r < 0)
                return r;
        cache.folder = realpath(path, NULL);
        if (!cache.folder)
                return fail(ret_error, "the cache %s cannot be opened: %m", path);
        cache.fd = TAKE_FD(fd);
        if (strlen(cache.folder) > FOLDER_BYTES_MAX || strpbrk(cache.folder, "\r\n"))
                return fail(ret_error, "the path of the cache must be at most %d bytes and one line", FOLDER_BYTES_MAX);
        *ret = cache;
        cache = (struct cache){0};
        return 0;
}

char *cache_path(const struct cache *cache, const char *fingerprint) {
        char *path;

        return asprintf(&path, "%s/%s", cache->folder, fingerprint) < 0 ? NULL : path;
}

static bool is_fingerprint(const char *name, size_t len) {
        return len == FINGERPRINT_LEN && strspn(name, "0123456789abcdef") >= len;
}

/* ---- What a venv says of itself ---- */

static char *text_of(const json_t *json, const char *key) {
        const char *text = json_string_value(json_object_get(json, key));

        return strdup(text ? text : "");
}

/* Opens the description of a venv that nobody else can have put there. Return: -1 if there is none. */
static int open_marker(const struct cache *cache, const char *fingerprint, struct stat *ret_stat) {
        CLEANUP_FD int folder = openat(cache->fd, fingerprint, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = -1;
        struct stat st;

        if (folder < 0 || fstat(folder, &st) < 0 || !belongs_to_us(&st) || others_can_write(&st) ||
            faccessat(folder, "bin/python", X_OK, 0) < 0)
                return -1;
        /* Without O_NONBLOCK a FIFO would be waited for. */
        fd = openat(folder, MARKER, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, ret_stat) < 0 || !S_ISREG(ret_stat->st_mode) || ret_stat->st_size > MARKER_BYTES_MAX ||
            !belongs_to_us(ret_stat))
                return -1;
        return TAKE_FD(fd);
}

/* Return: whether the venv is complete. `ret` may be NULL. */
static bool read_entry(const struct cache *cache, const char *fingerprint, struct cache_entry *ret) {
        struct stat st;
        CLEANUP_FD int fd = open_marker(cache, fingerprint, &st);
        json_auto_t *json = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);

        if (!json || json_integer_value(json_object_get(json, "format")) != FORMAT_VERSION ||
            !str_eq(json_string_value(json_object_get(json, "fingerprint")), fingerprint))
                return false;
        if (ret)
                *ret = (struct cache_entry){
                        .fingerprint = text_of(json, "fingerprint"),
                        .python = text_of(json, "python"),
                        .interpreter = text_of(json, "interpreter"),
                        .installer = text_of(json, "installer"),
                        .requirements = text_of(json, "requirements"),
                        .size_bytes = (uint64_t)json_integer_value(json_object_get(json, "size")),
                        .created_sec = json_integer_value(json_object_get(json, "created")),
                        .used_sec = st.st_mtim.tv_sec,
                        .packages = json_incref(json_object_get(json, "packages")),
                        .seal = {.changed_nsec = json_integer_value(json_object_get(json, "changed"))},
                };
        if (ret)
                (void)snprintf(ret->seal.files, sizeof(ret->seal.files), "%s",
                               json_string_value(json_object_get(json, "files")) ?: "");
        return true;
}

static int write_entry(const char *folder, const struct cache_entry *entry, char **ret_error) {
        json_auto_t *json = json_pack(
                "{si ss ss ss ss ss sI sI ss sI sO*}", "format", FORMAT_VERSION, "fingerprint", entry->fingerprint, "python",
                entry->python, "interpreter", entry->interpreter, "installer", entry->installer, "requirements",
                entry->requirements, "size", (json_int_t)entry->size_bytes, "created", (json_int_t)entry->created_sec, "files",
                entry->seal.files, "changed", (json_int_t)entry->seal.changed_nsec, "packages", entry->packages);
        CLEANUP_FD int fd = -1;
        char path[PATH_MAX];

        if (!json)
                return fail(ret_error, "the venv cannot be described: a name in it is not UTF-8");
        if (snprintf(path, sizeof(path), "%s/" MARKER, folder) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0 || json_dumpfd(json, fd, JSON_INDENT(2)) < 0 || fsync(fd) < 0)
                return fail(ret_error, "%s cannot be written: %m", path);
        return 0;
}

static int verify(const struct cache *cache, const char *fingerprint, bool quick, void (*differs)(void *data, const char *what),
                  void *data, char **ret_error) {
        CLEANUP_FREE char *path = cache_path(cache, fingerprint);
        CLEANUP(cache_entry_done) struct cache_entry entry = {0};

        if (!read_entry(cache, fingerprint, &entry) || !path)
                return fail(ret_error, "there is no venv %s in %s", fingerprint, cache->folder);
        return manifest_check(path, &entry.seal, quick, differs, data, ret_error);
}

int cache_verify(const struct cache *cache, const char *fingerprint, void (*differs)(void *data, const char *what), void *data,
                 char **ret_error) {
        return verify(cache, fingerprint, false, differs, data, ret_error);
}

static void say_difference(void *data, const char *what) {
        if ((*(unsigned *)data)++ < DIFFERENCES_SAID)
                say("the venv is not as it was built: %s", what);
}

bool cache_find(const struct cache *cache, const char *fingerprint) {
        char marker[DIGEST_HEX_BYTES + sizeof(MARKER)];
        CLEANUP_FREE char *error = NULL;
        unsigned said = 0;
        int r;

        if (!read_entry(cache, fingerprint, NULL))
                return false;
        r = verify(cache, fingerprint, true, say_difference, &said, &error);
        if (r < 0)
                say("%s", error ? error : "out of memory");
        if (r != 0)
                return false;
        (void)snprintf(marker, sizeof(marker), "%s/" MARKER, fingerprint);
        (void)utimensat(cache->fd, marker, NULL, 0); /* a cache that cannot be written to does without */
        return true;
}

/* ---- Locks ---- */

static int open_lock(const struct cache *cache, const char *fingerprint) {
        char name[DIGEST_HEX_BYTES + sizeof(".lock")];

        (void)snprintf(name, sizeof(name), "%.*s.lock", FINGERPRINT_LEN, fingerprint);
        return openat(cache->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
}

int cache_lock(const struct cache *cache, const char *fingerprint, usec_t timeout_usec, int *ret_lock_fd, char **ret_error) {
        CLEANUP_FD int fd = open_lock(cache, fingerprint);
        const usec_t until = clock_now_usec() + timeout_usec;
        bool said = false;

        if (fd < 0)
                return fail(ret_error, "the cache %s cannot be written to: %m", cache->folder);
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return fail(ret_error, "the cache %s cannot be locked: %m", cache->folder);
                if (!said)
                        say("the same venv is being built already, for another plugin or by another cpexd; waiting for it");
                said = true;
                if (clock_now_usec() >= until)
                        return fail(ret_error,
                                    "the same venv has been in the making for %llu s, for another plugin or by another cpexd",
                                    (unsigned long long)(timeout_usec / USEC_PER_SEC));
                if (stop_wait(WAIT_MSEC))
                        return fail(ret_error, "it was told to stop");
        }
        *ret_lock_fd = TAKE_FD(fd);
        return 0;
}

/* ---- Building ---- */

void cache_abandon(const char *building) {
        int r = tree_remove(building);

        if (r < 0) {
                errno = -r;
                say("%s cannot be removed: %m", building);
        }
}

/* Removes what nobody builds any more; `held` is the fingerprint whose lock is ours. */
static void sweep(const struct cache *cache, const char *held) {
        CLEANUP(dir_closep) DIR *dir = opendir(cache->folder);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                const char *name = entry->d_name, *fingerprint = name + strlen(BUILDING);
                CLEANUP_FREE char *path = NULL;
                CLEANUP_FD int lock = -1;

                if (strncmp(name, BUILDING, strlen(BUILDING)) != 0 || !is_fingerprint(fingerprint, strcspn(fingerprint, "-")))
                        continue;
                if (strncmp(fingerprint, held, FINGERPRINT_LEN) != 0) {
                        lock = open_lock(cache, fingerprint);
                        if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0)
                                continue;
                }
                path = cache_path(cache, name);
                if (path) {
                        say("removing %s, which a builder left that died", name);
                        cache_abandon(path);
                }
        }
}

int cache_prepare(const struct cache *cache, const char *fingerprint, char **ret_building, char **ret_error) {
        CLEANUP_FREE char *building = NULL;

        sweep(cache, fingerprint);
        if (asprintf(&building, "%s/" BUILDING "%s-%d", cache->folder, fingerprint, (int)getpid()) < 0) {
                building = NULL;
                return fail(ret_error, "out of memory");
        }
        if (renameat(cache->fd, fingerprint, AT_FDCWD, building) == 0) {
                say("the venv %s is damaged; building it anew", fingerprint);
                cache_abandon(building);
        } else if (errno != ENOENT) {
                return fail(ret_error, "the damaged venv %s/%s cannot be moved away: %m", cache->folder, fingerprint);
        }
        *ret_building = TAKE(building);
        return 0;
}

static int sync_all(const char *folder, char **ret_error) {
        CLEANUP_FD int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || syncfs(fd) < 0)
                return fail(ret_error, "the venv cannot be written to the disk: %m");
        return 0;
}

static int rename_new(const struct cache *cache, const char *from, const char *name) {
        if (renameat2(AT_FDCWD, from, cache->fd, name, RENAME_NOREPLACE) == 0)
                return 0;
        /* A file system without this flag: a folder that is not empty is not replaced by the plain call either. */
        return (errno == EINVAL || errno == ENOSYS) && renameat(AT_FDCWD, from, cache->fd, name) == 0 ? 0 : -errno;
}

int cache_commit(const struct cache *cache, const char *building, struct cache_entry *entry, char **ret_error) {
        int r;

        entry->size_bytes = tree_size(building);
        entry->created_sec = entry->used_sec = (int64_t)time(NULL);
        r = manifest_write(building, &entry->seal, ret_error);
        r = r ? r : write_entry(building, entry, ret_error);
        r = r ? r : sync_all(building, ret_error);
        if (r < 0)
                return r;
        r = rename_new(cache, building, entry->fingerprint);
        if (r < 0) {
                errno = -r;
                return fail(ret_error, "the venv cannot be put into the cache %s: %m", cache->folder);
        }
        if (fsync(cache->fd) < 0)
                say("the cache %s cannot be synced: %m", cache->folder); /* the venv is whole all the same */
        return 0;
}

/* ---- Listing ---- */

static int by_use(const void *a, const void *b) {
        const struct cache_entry *left = a, *right = b;

        if (left->used_sec != right->used_sec)
                return left->used_sec < right->used_sec ? 1 : -1;
        return strcmp(left->fingerprint, right->fingerprint);
}

int cache_list(const struct cache *cache, struct cache_entry **ret, size_t *ret_n, char **ret_error) {
        CLEANUP(dir_closep) DIR *dir = opendir(cache->folder);
        struct cache_entry *entries = NULL, *grown;
        struct dirent *entry;
        size_t n = 0;

        if (!dir)
                return fail(ret_error, "the cache %s cannot be read: %m", cache->folder);
        while ((entry = readdir(dir))) {
                if (!is_fingerprint(entry->d_name, strlen(entry->d_name)))
                        continue;
                grown = realloc(entries, (n + 1) * sizeof(*entries));
                if (grown)
                        entries = grown;
                if (grown && read_entry(cache, entry->d_name, &entries[n]))
                        n++;
        }
        if (n > 0)
                qsort(entries, n, sizeof(*entries), by_use);
        *ret = entries;
        *ret_n = n;
        return 0;
}
