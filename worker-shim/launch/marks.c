/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Modes and times of files, for installers and what they build. Landlock does not know these calls, and a filter sees no paths: left to
 * themselves they would work on every file of the user. So the kernel asks the guard, which does itself what is asked for, below the folders
 * that the box may write to and nowhere else. Elsewhere it reports success and does nothing, as for workers.
 *
 * Who asks is not trusted, and may change its memory, links and folders meanwhile. So the guard never lets the call go on; what it has read it
 * reads once; and what it has found by the caller's path counts for nothing until it was found again from the folder downwards, without a
 * link and without a mount on the way. What is changed is that file, by a descriptor. Files are opened by O_PATH only, so no FIFO, device or lease
 * makes it wait. A file of another user is left alone, for the guard may be root where the caller has no capabilities.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#include "launch.h"

#define PAGE 4096u
#define GOOD_MODES 0755u /* nobody else may write to it, or run it as somebody else */
#define NONE (-1)

static struct folder {
        int fd;
        char *path; /* real */
} * folders;
static size_t n_folders;

/* Which argument is what. */
static const struct call {
        int number;
        int dirfd, path, mode, times, flags;
        size_t times_bytes;
} calls[] = {
        {SCMP_SYS(chmod), NONE, 0, 1, NONE, NONE, 0},
        {SCMP_SYS(fchmod), 0, NONE, 1, NONE, NONE, 0},
        {SCMP_SYS(fchmodat), 0, 1, 2, NONE, NONE, 0},
        {452 /* fchmodat2 */, 0, 1, 2, NONE, 3, 0},
        {SCMP_SYS(utime), NONE, 0, NONE, 1, NONE, sizeof(struct utimbuf)},
        {SCMP_SYS(utimes), NONE, 0, NONE, 1, NONE, sizeof(struct timeval[2])},
        {SCMP_SYS(futimesat), 0, 1, NONE, 2, NONE, sizeof(struct timeval[2])},
        {SCMP_SYS(utimensat), 0, 1, NONE, 2, 3, sizeof(struct timespec[2])},
};

/* ---- Before ---- */

/* A kernel, a container or a unit may keep the guard from that. */
static bool can_read_children(void) {
        char here = 1, there = 0;
        const struct iovec to = {&there, 1}, from = {&here, 1};
        pid_t pid = fork();
        bool can;

        if (pid == 0)
                for (;;)
                        (void)pause();
        can = pid > 0 && process_vm_readv(pid, &to, 1, &from, 1, 0) == 1;
        if (pid > 0) {
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
        }
        return can;
}

static void add_folder(const char *path) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        char *real = fd < 0 ? NULL : realpath(path, NULL);

        if (real)
                folders[n_folders++] = (struct folder){fd, real};
}

bool marks_prepare(const struct launch *launch) {
        folders = calloc(launch->write.n + 1, sizeof(*folders));
        if (!folders || sizeof(long) != sizeof(int64_t) || !can_read_children())
                return false;
        for (size_t i = 0; i < launch->write.n; i++)
                add_folder(launch->write.items[i]);
        return true;
}

int marks_keep(int first) {
        for (size_t i = 0; i < n_folders; i++)
                folders[i].fd = dup2(folders[i].fd, first++);
        return first;
}

/* ---- What is asked for ---- */

/* Return: whether all of it was read. */
static bool read_memory(pid_t pid, uint64_t at, void *to, size_t n) {
        const struct iovec local = {to, n}, remote = {(void *)(uintptr_t)at, n};

        return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)n;
}

/* Page by page, for behind the text there may be none. Return: 0 or a negative errno. */
static int read_text(pid_t pid, uint64_t at, char text[PATH_MAX]) {
        for (size_t len = 0; len < PATH_MAX;) {
                size_t n = PAGE - (at + len) % PAGE;

                n = n < PATH_MAX - len ? n : PATH_MAX - len;
                if (!read_memory(pid, at + len, text + len, n))
                        return -EFAULT;
                if (memchr(text + len, 0, n))
                        return 0;
                len += n;
        }
        return -ENAMETOOLONG;
}

static void from_timevals(const struct timeval *from, struct timespec *to) {
        for (int i = 0; i < 2; i++)
                to[i] = (struct timespec){from[i].tv_sec,
                                          from[i].tv_usec >= 0 && from[i].tv_usec < 1000000 ? from[i].tv_usec * 1000 : -1};
}

static int read_times(pid_t pid, const struct call *call, uint64_t at, struct timespec times[2]) {
        union {
                struct utimbuf seconds;
                struct timeval micros[2];
                struct timespec nanos[2];
        } from;

        if (!read_memory(pid, at, &from, call->times_bytes))
                return -EFAULT;
        if (call->number == SCMP_SYS(utime)) {
                times[0] = (struct timespec){.tv_sec = from.seconds.actime};
                times[1] = (struct timespec){.tv_sec = from.seconds.modtime};
        } else if (call->number == SCMP_SYS(utimensat)) {
                memcpy(times, from.nanos, sizeof(from.nanos));
        } else {
                from_timevals(from.micros, times);
        }
        return 0;
}

/* ---- Which file ---- */

/* What the caller has open as `fd`, or where it is. */
static int open_callers(pid_t pid, int fd) {
        char path[64];

        if (fd == AT_FDCWD)
                (void)snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
        else
                (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
        fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -EBADF : fd;
}

static bool is_same(int one, int other) {
        struct stat a, b;

        return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static const char *below(const char *path, const struct folder *folder) {
        size_t len = strlen(folder->path);

        if (strncmp(path, folder->path, len) != 0 || (path[len] != 0 && path[len] != '/'))
                return NULL;
        return path + len + (path[len] == '/');
}

/* Return: a descriptor of `name` in `folder`, -1: there is none, or it is of another mount. */
static int step(int folder, const char *name, size_t len) {
        char copy[NAME_MAX + 1];
        struct stat above, st;
        int fd;

        if (len == 0 || len > NAME_MAX || strncmp(name, "..", len) == 0)
                return -1;
        memcpy(copy, name, len);
        copy[len] = 0;
        fd = openat(folder, copy, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || (fstat(folder, &above) == 0 && fstat(fd, &st) == 0 && (!S_ISDIR(st.st_mode) || st.st_dev == above.st_dev)))
                return fd;
        (void)close(fd);
        return -1;
}

/* Name by name, without a link, a way up or a mount. (openat2() could do it, but is nowhere where the unit has RestrictSUIDSGID.) Return: a
 * descriptor, -1: there is no such file. */
static int walk(int folder, const char *path) {
        int at = dup(folder);

        while (at >= 0 && *path) {
                const size_t len = strcspn(path, "/");
                int next = step(at, path, len);

                (void)close(at);
                at = next;
                path += len + (path[len] == '/');
        }
        return at;
}

/* The same file once more, from a folder downwards. Return: the descriptor, or -1: it is in none of them. */
static int open_inside(int fd) {
        char link[32], path[PATH_MAX];
        ssize_t n;

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        path[n > 0 ? n : 0] = 0;
        for (size_t i = 0; i < n_folders; i++) {
                const char *rest = below(path, &folders[i]);
                int found = rest ? walk(folders[i].fd, rest) : -1;

                if (found >= 0 && is_same(found, fd))
                        return found;
                if (found >= 0)
                        (void)close(found);
        }
        return -1;
}

/* ---- The deed ---- */

static int change(int fd, const struct call *call, unsigned mode, const struct timespec *times) {
        char link[32];
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0 || st.st_uid != geteuid())
                return -EPERM;
        if (S_ISLNK(st.st_mode) && call->mode != NONE)
                return -EOPNOTSUPP;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (call->mode != NONE)
                r = chmod(link, mode & GOOD_MODES);
        else if (S_ISLNK(st.st_mode))
                r = utimensat(fd, "", times, AT_EMPTY_PATH);
        else
                r = utimensat(AT_FDCWD, link, times, 0);
        return r < 0 ? -errno : 0;
}

struct asked {
        const struct call *call;
        char path[PATH_MAX]; /* "": what `base` is */
        int base;
        bool follow;
        bool timed; /* else: now */
        struct timespec times[2];
};

static int read_flags(struct asked *asked, uint64_t flags) {
        asked->follow = !(flags & AT_SYMLINK_NOFOLLOW);
        if ((uint32_t)flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
                return -EINVAL;
        return asked->path[0] || (flags & AT_EMPTY_PATH) ? 0 : -ENOENT;
}

/* What is in the caller's memory, and of its descriptors. */
static int read_asked(struct asked *asked, pid_t pid, const uint64_t *args) {
        const struct call *call = asked->call;
        int fd = call->dirfd == NONE ? AT_FDCWD : (int)args[call->dirfd], r = 0;
        char more;

        /* Without a path utimensat() and futimesat() are for what is open. */
        if (call->path != NONE && (args[call->path] || call->times == NONE || call->dirfd == NONE)) {
                r = read_text(pid, args[call->path], asked->path);
                r = r ? r : read_flags(asked, call->flags == NONE ? 0 : args[call->flags]);
        }
        asked->timed = call->times != NONE && args[call->times];
        if (r == 0 && asked->timed)
                r = read_times(pid, call, args[call->times], asked->times);
        if (r == 0 && sscanf(asked->path, "/proc/self/fd/%d%c", &fd, &more) ==
                              1) /* as libc has it where there is no fchmodat2(); not ours */
                asked->path[0] = 0;
        if (r == 0 && asked->path[0] != '/')
                r = asked->base = open_callers(pid, fd);
        return r < 0 ? r : 0;
}

static int do_asked(const struct asked *asked, unsigned mode) {
        int fd = asked->path[0] ? openat(asked->base, asked->path, O_PATH | O_CLOEXEC | (asked->follow ? 0 : O_NOFOLLOW))
                                : dup(asked->base);
        int inside, r = 0;

        if (fd < 0)
                return -errno;
        inside = open_inside(fd);
        (void)close(fd);
        if (inside < 0)
                return 0;
        r = change(inside, asked->call, mode, asked->timed ? asked->times : NULL);
        (void)close(inside);
        return r;
}

static const struct call *find_call(int number) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
                if (calls[i].number == number)
                        return &calls[i];
        return NULL;
}

bool marks_are(int call) {
        return find_call(call) != NULL;
}

int marks_answer(int listener, const struct seccomp_notif *request) {
        static struct asked asked;
        const uint64_t *args = (const uint64_t *)request->data.args;
        int r;

        asked = (struct asked){.base = -1, .follow = true, .call = find_call(request->data.nr)};
        if (!asked.call)
                return 0;
        r = read_asked(&asked, (pid_t)request->pid, args);
        /* Is it still the same process that was read? */
        if (r == 0 && seccomp_notify_id_valid(listener, request->id) == 0)
                r = do_asked(&asked, asked.call->mode == NONE ? 0 : (unsigned)args[asked.call->mode]);
        if (asked.base >= 0)
                (void)close(asked.base);
        return r;
}
