/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading stands apart from parsing so that tests and fuzzers hand in bytes. Opened without blocking: somebody may name a FIFO.
 */

#include "config/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "config/tree.h"

static int refuse(struct report *report, const char *what, int error, const char *hint) {
        report_add(report, DIAG_ERROR, NULL, (struct place){0}, "%s%s%s%s%s", what, error ? ": " : "",
                   error ? strerror(error) : "", hint ? "; " : "", hint ? hint : "");
        return -EINVAL;
}

int file_read(struct buf *buf, const char *path, const char *hint, struct report *report) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat status;

        if (fd < 0)
                return refuse(report, "cannot be read", errno, errno == ENOENT ? hint : NULL);
        if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
                return refuse(report, "is not a file", 0, NULL);
        for (;;) {
                uint8_t *end = buf_reserve(buf, 64u << 10);
                ssize_t n;

                if (!end)
                        return -ENOMEM;
                n = read(fd, end, 64u << 10);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return refuse(report, "cannot be read", errno, NULL);
                if (n == 0)
                        return 0;
                buf->len += (size_t)n;
                if (buf->len > TREE_BYTES_MAX)
                        return refuse(report, "is longer than 1 MiB", 0, NULL);
        }
}
