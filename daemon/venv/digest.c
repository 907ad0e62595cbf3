/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An error of libcrypto, which means want of memory, is kept and reported at the end, so that the many small additions need no
 * check each.
 *
 * Building a package in its folder leaves things there (build/, *.egg-info, __pycache__). They must not count, or the first
 * build would change the fingerprint it was made for.
 */

#include "venv/digest.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <fts.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#include "venv/run.h"
#include "venv/say.h"

#define FILES_MAX 20000
#define BYTES_MAX (UINT64_C(4) << 30)
#define QUICK_BYTES (1 << 20)

struct digest {
        EVP_MD_CTX *context;
        bool failed, quick;
        unsigned files;
        uint64_t bytes;
};

int digest_new(struct digest **ret) {
        struct digest *digest = calloc(1, sizeof(*digest));

        if (!digest)
                return -ENOMEM;
        digest->context = EVP_MD_CTX_new();
        if (!digest->context || EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1) {
                (void)digest_free(digest);
                return -ENOMEM;
        }
        *ret = digest;
        return 0;
}

struct digest *digest_free(struct digest *digest) {
        if (!digest)
                return NULL;
        EVP_MD_CTX_free(digest->context);
        free(digest);
        return NULL;
}

static void add_bytes(struct digest *digest, const void *data, size_t len) {
        if (EVP_DigestUpdate(digest->context, data, len) != 1)
                digest->failed = true;
}

static void add_head(struct digest *digest, const char *name, uint64_t len) {
        char head[64];

        (void)snprintf(head, sizeof(head), "%s %llu\n", name, (unsigned long long)len);
        add_bytes(digest, head, strlen(head));
}

void digest_add(struct digest *digest, const char *name, const char *text) {
        add_head(digest, name, strlen(text));
        add_bytes(digest, text, strlen(text));
}

static int add_file(struct digest *digest, const char *name, const char *path, char **ret_error) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char block[65536];
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(ret_error, "%s cannot be read: %m", path);
        if (!S_ISREG(st.st_mode))
                return 0;
        if (++digest->files > FILES_MAX || (digest->bytes += (uint64_t)st.st_size) > BYTES_MAX)
                return fail(ret_error, "%s: there is too much to look at, more than %d files or %llu GiB", path, FILES_MAX,
                            (unsigned long long)(BYTES_MAX >> 30));
        add_head(digest, name, (uint64_t)st.st_size);
        add_bytes(digest, st.st_mode & S_IXUSR ? "x" : "-", 1);
        if (digest->quick && st.st_size > QUICK_BYTES) {
                add_bytes(digest, &st.st_mtim, sizeof(st.st_mtim));
                return 0;
        }
        while ((n = read(fd, block, sizeof(block))) > 0)
                add_bytes(digest, block, (size_t)n);
        if (n < 0)
                return fail(ret_error, "%s cannot be read: %m", path);
        return stop_asked() ? fail(ret_error, "it was told to stop") : 0;
}

static int by_name(const FTSENT **a, const FTSENT **b) {
        return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool is_left_over(const FTSENT *entry) {
        const char *name = entry->fts_name;

        if (entry->fts_level == 0)
                return false;
        if (entry->fts_info == FTS_D)
                return name[0] == '.' || str_eq(name, "__pycache__") || fnmatch("*.egg-info", name, 0) == 0 ||
                       (entry->fts_level == 1 && (str_eq(name, "build") || str_eq(name, "dist")));
        return fnmatch("*.py[co]", name, 0) == 0;
}

static int add_entry(struct digest *digest, const FTSENT *entry, size_t root_len, char **ret_error) {
        char target[PATH_MAX];
        ssize_t n;

        switch (entry->fts_info) {
        case FTS_F:
                digest_add(digest, "path", entry->fts_path + root_len);
                return add_file(digest, "file", entry->fts_accpath, ret_error);
        case FTS_SL:
        case FTS_SLNONE:
                n = readlink(entry->fts_accpath, target, sizeof(target) - 1);
                target[MAX(n, 0)] = 0;
                digest_add(digest, "path", entry->fts_path + root_len);
                digest_add(digest, "link", target);
                return 0;
        case FTS_DNR:
        case FTS_ERR:
        case FTS_NS:
                errno = entry->fts_errno;
                return fail(ret_error, "%s cannot be read: %m", entry->fts_path);
        default:
                return 0;
        }
}

static void fts_closep(FTS **fts) {
        if (*fts)
                (void)fts_close(*fts);
}

static int add_tree(struct digest *digest, const char *path, char **ret_error) {
        char *paths[] = {(char *)path, NULL};
        CLEANUP(fts_closep) FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
        FTSENT *entry;
        int r;

        if (!fts)
                return fail(ret_error, "%s cannot be read: %m", path);
        while ((entry = fts_read(fts))) {
                if (is_left_over(entry)) {
                        (void)fts_set(fts, entry, FTS_SKIP);
                        continue;
                }
                r = add_entry(digest, entry, strlen(path), ret_error);
                if (r < 0)
                        return r;
        }
        digest_add(digest, "end", "");
        return 0;
}

int digest_add_path(struct digest *digest, const char *name, const char *path, char **ret_error) {
        struct stat st;

        if (stat(path, &st) < 0)
                return fail(ret_error, "%s cannot be read: %m", path);
        if (!S_ISDIR(st.st_mode))
                return add_file(digest, name, path, ret_error);
        digest_add(digest, name, "folder");
        return add_tree(digest, path, ret_error);
}

void digest_be_quick(struct digest *digest) {
        digest->quick = true;
}

int digest_hex(struct digest *digest, char ret[DIGEST_HEX_BYTES]) {
        unsigned char value[EVP_MAX_MD_SIZE];
        unsigned len;

        if (digest->failed || EVP_DigestFinal_ex(digest->context, value, &len) != 1 || len != DIGEST_HEX_BYTES / 2)
                return -EIO;
        for (unsigned i = 0; i < len; i++)
                (void)snprintf(ret + 2 * i, 3, "%02x", value[i]);
        return 0;
}
