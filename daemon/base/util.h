/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Small helpers that every module uses: ownership made visible, array sizes, comparisons. No knowledge of CPEX.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* The object of type `type` whose member `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Hands a pointer over: evaluates to it and leaves NULL behind, so that its cleanup does nothing. */
#define TAKE(pointer)                         \
        ({                                    \
                __auto_type taken_ = pointer; \
                (pointer) = NULL;             \
                taken_;                       \
        })

/* The same for descriptors. */
#define TAKE_FD(fd)              \
        ({                       \
                int taken_ = fd; \
                (fd) = -1;       \
                taken_;          \
        })

static inline void freep(void *pointer_to_pointer) {
        free(*(void **)pointer_to_pointer);
}

/* What makes "1 plugin" of "plugin", and "2 plugins". */
static inline const char *plural(uint64_t n) {
        return n == 1 ? "" : "s";
}

/* Closes `fd` unless negative; keeps errno. Return: -1, to be stored where the descriptor was. */
static inline int fd_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                (void)close(fd);
                errno = saved;
        }
        return -1;
}

static inline void fd_closep(int *fd) {
        *fd = fd_close(*fd);
}

#define CLEANUP_FREE CLEANUP(freep)
#define CLEANUP_FD CLEANUP(fd_closep)

/* Return: whether a path is that folder or lies in it; both are absolute, without dots, and only "/" ends with a slash. */
static inline bool path_lies_in(const char *path, const char *folder) {
        size_t len = strlen(folder);

        return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0' || (len > 0 && folder[len - 1] == '/'));
}

static inline bool str_eq(const char *a, const char *b) {
        return a == b || (a && b && strcmp(a, b) == 0);
}
