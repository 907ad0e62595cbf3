/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A venv is looked at whenever a plugin starts, so that must not take long: type, mode, size and owner of all files are compared, and the content of
 * those whose change time is after the list was made. That time nobody can set back but who sets the clock. Copying a cache
 * makes all files new, and then all are read.
 *
 * Who can write to the cache can write another list as well. What this finds is damage, and what somebody changed who did not mean to hide it.
 */

#include "venv/manifest.h"

#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "venv/run.h"
#include "venv/say.h"

#define LIST_BYTES_MAX (256u << 20)
#define FILES_MAX 2000000
#define DESCRIPTION "cpexd-venv.json"
#define NO_HASH "-"

struct entry {
        char *path; /* below the venv */
        char type;  /* f, d, l, or ? */
        unsigned mode;
        int64_t size, changed_nsec;
        uid_t owner;
        char hash[DIGEST_HEX_BYTES]; /* of what is compared; "" until it is known */
};

struct list {
        struct entry *items;
        size_t n;
};

static void list_done(struct list *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i].path);
        free(list->items);
        *list = (struct list){0};
}

static struct entry *list_add(struct list *list, const char *path) {
        if ((list->n & (list->n - 1)) == 0) {
                struct entry *grown = reallocarray(list->items, MAX(list->n * 2, (size_t)1), sizeof(*grown));

                if (!grown)
                        return NULL;
                list->items = grown;
        }
        list->items[list->n] = (struct entry){.path = strdup(path)};
        return list->items[list->n].path ? &list->items[list->n++] : NULL;
}

static int by_path(const void *a, const void *b) {
        return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* ---- What there is ---- */

static void fts_closep(FTS **fts) {
        if (*fts)
                (void)fts_close(*fts);
}

static bool is_ours(const char *path) {
        return str_eq(path, MANIFEST) || str_eq(path, DESCRIPTION);
}

static int add_found(struct list *list, const FTSENT *found, size_t root_len, char **ret_error) {
        const struct stat *st = found->fts_statp;
        struct entry *entry;

        if (found->fts_info == FTS_DP || found->fts_level == 0 || is_ours(found->fts_path + root_len + 1))
                return 0;
        if (found->fts_info == FTS_NS || found->fts_info == FTS_DNR || found->fts_info == FTS_ERR) {
                errno = found->fts_errno;
                return fail(ret_error, "%s cannot be read: %m", found->fts_path);
        }
        entry = list->n < FILES_MAX ? list_add(list, found->fts_path + root_len + 1) : NULL;
        if (!entry)
                return fail(ret_error, "out of memory, or more than %d files in %s", FILES_MAX, found->fts_path);
        entry->type = S_ISREG(st->st_mode) ? 'f' : S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : '?';
        entry->mode = entry->type == 'l' ? 0 : st->st_mode & 07777;
        entry->size = entry->type == 'f' ? st->st_size : 0;
        entry->owner = st->st_uid;
        entry->changed_nsec = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
        return 0;
}

static int look(const char *venv, struct list *ret, char **ret_error) {
        char *paths[] = {(char *)venv, NULL};
        CLEANUP(fts_closep) FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        FTSENT *found;
        int r = 0;

        if (!fts)
                return fail(ret_error, "%s cannot be read: %m", venv);
        while (r == 0 && (found = fts_read(fts)))
                r = stop_asked() ? fail(ret_error, "it was told to stop") : add_found(ret, found, strlen(venv), ret_error);
        if (r == 0 && ret->n > 0)
                qsort(ret->items, ret->n, sizeof(*ret->items), by_path);
        return r;
}

static int hash_entry(const char *venv, struct entry *entry, char **ret_error) {
        CLEANUP_DIGEST struct digest *digest = NULL;
        char path[PATH_MAX], target[PATH_MAX];
        ssize_t n;
        int r = 0;

        if (entry->type == 'd' || entry->type == '?') {
                memcpy(entry->hash, NO_HASH, sizeof(NO_HASH));
                return 0;
        }
        if (snprintf(path, sizeof(path), "%s/%s", venv, entry->path) >= PATH_MAX || digest_new(&digest) < 0)
                return fail(ret_error, "out of memory, or the path of %s is too long", entry->path);
        if (entry->type == 'l') {
                n = readlink(path, target, sizeof(target) - 1);
                target[MAX(n, 0)] = 0;
                digest_add(digest, "link", target);
        } else {
                r = digest_add_path(digest, "file", path, ret_error);
        }
        return r < 0 || digest_hex(digest, entry->hash) == 0 ? r : fail(ret_error, "SHA-256 is not available");
}

/* ---- The list ---- */

/* Bytes that would end a line or a word are written as %XX. */
static void put_path(struct buf *buf, const char *path) {
        for (; *path; path++)
                if ((unsigned char)*path <= ' ' || *path == '%' || *path == 0x7f)
                        buf_printf(buf, "%%%02x", (unsigned char)*path);
                else
                        buf_append(buf, path, 1);
}

static void read_path(char *text) {
        char *to = text, digits[3] = "";

        for (const char *from = text; *from; from++)
                if (from[0] == '%' && from[1] && from[2]) {
                        memcpy(digits, from + 1, 2);
                        *to++ = (char)strtol(digits, NULL, 16);
                        from += 2;
                } else {
                        *to++ = *from;
                }
        *to = 0;
}

static int hash_text(const struct buf *text, char ret[DIGEST_HEX_BYTES], char **ret_error) {
        CLEANUP_DIGEST struct digest *digest = NULL;

        if (digest_new(&digest) < 0)
                return fail(ret_error, "out of memory");
        digest_add(digest, "list", text->len > 0 ? (const char *)text->data : "");
        return digest_hex(digest, ret) < 0 ? fail(ret_error, "SHA-256 is not available") : 0;
}

static int open_list(const char *venv, int flags, char **ret_error) {
        char path[PATH_MAX];
        int fd = -1;

        if (snprintf(path, sizeof(path), "%s/" MANIFEST, venv) < PATH_MAX)
                fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0444);
        return fd < 0 ? fail(ret_error, "%s cannot be opened: %m", path) : fd;
}

static int save(const char *venv, const struct buf *text, char **ret_error) {
        CLEANUP_FD int fd = open_list(venv, O_WRONLY | O_CREAT | O_EXCL, ret_error);

        for (size_t done = 0; fd >= 0 && done < text->len;) {
                ssize_t n = write(fd, text->data + done, text->len - done);

                if (n < 0)
                        return fail(ret_error, "%s/" MANIFEST " cannot be written: %m", venv);
                done += (size_t)n;
        }
        return fd < 0 ? fd : 0;
}

static int load(const char *venv, struct buf *text, char **ret_error) {
        CLEANUP_FD int fd = open_list(venv, O_RDONLY, ret_error);
        ssize_t n = fd < 0 ? -1 : 1;
        uint8_t *end;

        text->limit = LIST_BYTES_MAX;
        while (n > 0) {
                end = buf_reserve(text, 65536);
                n = end ? read(fd, end, 65535) : -1;
                text->len += (size_t)MAX(n, (ssize_t)0);
        }
        if (n < 0)
                return *ret_error ? -EIO : fail(ret_error, "%s/" MANIFEST " cannot be read: %m", venv);
        buf_append(text, "", 1);
        text->len--;
        return buf_error(text) ? fail(ret_error, "out of memory") : 0;
}

/* Cuts `text` up. */
static int parse(struct buf *text, struct list *ret) {
        char *save_line = NULL;

        for (char *line = strtok_r((char *)text->data, "\n", &save_line); line; line = strtok_r(NULL, "\n", &save_line)) {
                struct entry entry;
                int at = 0;

                if (sscanf(line, "%c %o %" SCNd64 " %64s %n", &entry.type, &entry.mode, &entry.size, entry.hash, &at) != 4 ||
                    at == 0)
                        return -EINVAL;
                read_path(line + at);
                entry.path = list_add(ret, line + at) ? ret->items[ret->n - 1].path : NULL;
                if (!entry.path)
                        return -ENOMEM;
                ret->items[ret->n - 1] = entry;
        }
        return 0;
}

/* ---- Making it ---- */

static int take_permissions(const char *venv, struct list *list, char **ret_error) {
        char path[PATH_MAX];
        struct stat st;

        for (size_t i = 0; i < list->n; i++) {
                struct entry *entry = &list->items[i];

                if (entry->type != 'f' || !(entry->mode & 0222))
                        continue;
                if (snprintf(path, sizeof(path), "%s/%s", venv, entry->path) >= PATH_MAX || chmod(path, entry->mode & 0555) < 0 ||
                    lstat(path, &st) < 0)
                        return fail(ret_error, "the mode of %s cannot be changed: %m", entry->path);
                entry->mode = st.st_mode & 07777;
                entry->changed_nsec = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
        }
        return 0;
}

int manifest_write(const char *venv, struct seal *ret, char **ret_error) {
        CLEANUP(list_done) struct list list = {0};
        CLEANUP_BUF struct buf text = {.limit = LIST_BYTES_MAX};
        struct seal seal = {0};
        int r = look(venv, &list, ret_error);

        r = r ? r : take_permissions(venv, &list, ret_error);
        for (size_t i = 0; r == 0 && i < list.n; i++) {
                struct entry *entry = &list.items[i];

                r = hash_entry(venv, entry, ret_error);
                buf_printf(&text, "%c %04o %" PRId64 " %s ", entry->type, entry->mode, entry->size, entry->hash);
                put_path(&text, entry->path);
                buf_append_str(&text, "\n");
                seal.changed_nsec = MAX(seal.changed_nsec, entry->changed_nsec);
        }
        buf_append(&text, "", 1);
        text.len--;
        if (r == 0 && buf_error(&text))
                r = fail(ret_error, "out of memory");
        r = r ? r : hash_text(&text, seal.files, ret_error);
        r = r ? r : save(venv, &text, ret_error);
        if (r == 0)
                *ret = seal;
        return r;
}

/* ---- Comparing ---- */

struct comparison {
        const char *venv;
        const struct seal *seal;
        bool quick;
        void (*differs)(void *data, const char *what);
        void *data;
        int n;
};

static void tell(struct comparison *comparison, const char *path, const char *what) {
        CLEANUP_BUF struct buf text = {0};

        comparison->n++;
        buf_printf(&text, "%s: %s%c", path, what, 0);
        if (!buf_error(&text))
                comparison->differs(comparison->data, (const char *)text.data);
}

static int compare_entry(struct comparison *comparison, const struct entry *was, struct entry *is, char **ret_error) {
        int r;

        if (was->type != is->type || was->mode != is->mode || was->size != is->size) {
                tell(comparison, is->path,
                     was->type != is->type   ? "is a file of another kind"
                     : was->mode != is->mode ? "has another mode"
                                             : "has another size");
        } else if (is->owner != 0 && is->owner != geteuid()) {
                tell(comparison, is->path, "belongs to another user");
        } else if (!comparison->quick || is->changed_nsec > comparison->seal->changed_nsec) {
                r = hash_entry(comparison->venv, is, ret_error);
                if (r < 0)
                        return r;
                if (!str_eq(was->hash, is->hash))
                        tell(comparison, is->path, is->type == 'l' ? "leads elsewhere" : "has another content");
        }
        return 0;
}

int manifest_check(const char *venv, const struct seal *seal, bool quick, void (*differs)(void *data, const char *what),
                   void *data, char **ret_error) {
        struct comparison comparison = {venv, seal, quick, differs, data, 0};
        CLEANUP(list_done) struct list was = {0}, is = {0};
        CLEANUP_BUF struct buf text = {0};
        char hash[DIGEST_HEX_BYTES];
        size_t i = 0, j = 0;
        int r = load(venv, &text, ret_error);

        r = r ? r : hash_text(&text, hash, ret_error);
        if (r == 0 && !str_eq(hash, seal->files)) {
                tell(&comparison, MANIFEST, "has another content");
                return comparison.n;
        }
        if (r == 0 && parse(&text, &was) < 0)
                r = fail(ret_error, "%s/" MANIFEST " cannot be understood", venv);
        r = r ? r : look(venv, &is, ret_error);
        while (r == 0 && (i < was.n || j < is.n)) {
                int order = i == was.n ? 1 : j == is.n ? -1 : strcmp(was.items[i].path, is.items[j].path);

                if (order < 0)
                        tell(&comparison, was.items[i].path, "is missing");
                else if (order > 0)
                        tell(&comparison, is.items[j].path, "was not there");
                else
                        r = compare_entry(&comparison, &was.items[i], &is.items[j], ret_error);
                i += order <= 0;
                j += order >= 0;
        }
        return r < 0 ? r : comparison.n;
}
