/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A file is rewritten beside its place and renamed into it: an installer may have linked it to a file in a store of its own that
 * other venvs share.
 */

#include "venv/tree.h"

#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/buf.h"

#define TEXT_BYTES_MAX (4 << 20)

static FTS *tree_open(const char *path) {
        char *paths[] = {(char *)path, NULL};

        return fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
}

int tree_remove(const char *path) {
        FTS *fts = tree_open(path);
        FTSENT *entry;
        int r = 0;

        if (!fts)
                return -errno;
        while ((entry = fts_read(fts))) {
                if (entry->fts_info == FTS_D)
                        (void)chmod(entry->fts_accpath, 0700); /* else nothing can be removed from a read-only folder */
                else if (remove(entry->fts_accpath) < 0 && errno != ENOENT && r == 0)
                        r = -errno;
        }
        (void)fts_close(fts);
        return r;
}

uint64_t tree_size(const char *path) {
        FTS *fts = tree_open(path);
        uint64_t bytes = 0;
        FTSENT *entry;

        if (!fts)
                return 0;
        while ((entry = fts_read(fts)))
                if (entry->fts_info != FTS_DP && entry->fts_info != FTS_NS && entry->fts_info != FTS_ERR)
                        bytes += (uint64_t)entry->fts_statp->st_blocks * 512;
        (void)fts_close(fts);
        return bytes;
}

/* Return: 0 with the whole text, or with an empty buffer when the file is not to be touched. */
static int load_text(int fd, struct stat *ret_stat, struct buf *text) {
        ssize_t n;

        if (fstat(fd, ret_stat) < 0)
                return -errno;
        if (!S_ISREG(ret_stat->st_mode) || ret_stat->st_size > TEXT_BYTES_MAX)
                return 0;
        do {
                uint8_t *end = buf_reserve(text, 65536);

                if (!end)
                        return -ENOMEM;
                n = read(fd, end, 65536);
                if (n < 0)
                        return -errno;
                text->len += (size_t)n;
        } while (n > 0);
        if (memchr(text->data, 0, text->len))
                buf_reset(text);
        return 0;
}

static int write_all(int fd, const uint8_t *data, size_t len) {
        while (len > 0) {
                ssize_t n = write(fd, data, len);

                if (n < 0)
                        return -errno;
                data += n;
                len -= (size_t)n;
        }
        return 0;
}

static int replace_file(const char *path, mode_t mode, const struct buf *text) {
        CLEANUP_FD int fd = -1;
        char beside[PATH_MAX];
        int r;

        if (snprintf(beside, sizeof(beside), "%s.new", path) >= PATH_MAX)
                return -ENAMETOOLONG;
        fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text->data, text->len);
        if (r == 0 && (fchmod(fd, mode & 07777) < 0 || rename(beside, path) < 0))
                r = -errno;
        if (r < 0)
                (void)unlink(beside);
        return r;
}

int file_replace(const char *path, const char *from, const char *to) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        CLEANUP_BUF struct buf text = {0}, changed = {0};
        const uint8_t *at, *end, *hit;
        struct stat st;
        int r;

        if (fd < 0)
                return errno == ELOOP ? 0 : -errno; /* a symbolic link has no text */
        r = load_text(fd, &st, &text);
        if (r < 0 || text.len == 0)
                return r;
        at = text.data;
        end = at + text.len;
        while ((hit = memmem(at, (size_t)(end - at), from, strlen(from)))) {
                buf_append(&changed, at, (size_t)(hit - at));
                buf_append_str(&changed, to);
                at = hit + strlen(from);
        }
        if (at == text.data)
                return 0;
        buf_append(&changed, at, (size_t)(end - at));
        return buf_error(&changed) ?: replace_file(path, st.st_mode, &changed);
}
