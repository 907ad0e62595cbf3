/* SPDX-License-Identifier: Apache-2.0 */

/*
 * No other module knows of this one: what is tested is the code that is shipped, down to its object files. The linker hands
 * the calls of our own objects to the __wrap_ functions (--wrap, see meson.build). Libraries call accept4(), clock_gettime() and libyaml's
 * allocators by names that a program may define for itself, and libevent asks for its allocators.
 */

#include "base/fault.h"

#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/log.h"

#define EXPORTED __attribute__((visibility("default")))
#define HOUR 3600

enum point { ALLOC, READ, WRITE, SPAWN, ACCEPT, CLOCK_AHEAD, CLOCK_BACK, SEED, POINT_MAX_ };

static const char *const names[POINT_MAX_] = {
        [ALLOC] = "alloc",           [READ] = "read",     [WRITE] = "write",
        [SPAWN] = "spawn",           [ACCEPT] = "accept", [CLOCK_AHEAD] = "clock-ahead",
        [CLOCK_BACK] = "clock-back", [SEED] = "seed",
};

static struct rule {
        uint64_t n; /* 0: never */
        enum { ONCE, FROM_THEN_ON, BY_CHANCE } when;
        uint64_t passed;
} rules[POINT_MAX_];
static bool happened;
static uint64_t chance;        /* xorshift64's state */
static const char *rules_path; /* NULL: they stand in the environment */
static volatile sig_atomic_t changed;

/* A call of X from our own objects is one of __wrap_X; X itself is then called __real_X. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
char *__real_realpath(const char *path, char *resolved);
DIR *__real_opendir(const char *path);
FILE *__real_fopen(const char *path, const char *mode);
ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __real_recv(int fd, void *data, size_t len, int flags);
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
int __real_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
int __wrap_asprintf(char **ret, const char *format, ...) PRINTF_LIKE(2, 3);
char *__wrap_realpath(const char *path, char *resolved);
DIR *__wrap_opendir(const char *path);
FILE *__wrap_fopen(const char *path, const char *mode);
ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __wrap_recv(int fd, void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]);

/* libyaml's own, unless the program has them. */
void *yaml_malloc(size_t size);
void *yaml_realloc(void *old, size_t size);
char *yaml_strdup(const char *text);

/* ---- Rules ---- */

static bool set_rule(const char *text, char **ret_end) {
        const char *equals = strchr(text, '=');

        for (size_t i = 0; equals && i < POINT_MAX_; i++) {
                struct rule rule = {.when = equals[1] == '/' ? BY_CHANCE : ONCE};

                if (strlen(names[i]) != (size_t)(equals - text) || memcmp(names[i], text, strlen(names[i])) != 0)
                        continue;
                rule.n = strtoull(equals + 1 + (rule.when == BY_CHANCE), ret_end, 10);
                if (**ret_end == '+') {
                        rule.when = FROM_THEN_ON;
                        ++*ret_end;
                }
                rules[i] = rule;
                return rule.n > 0;
        }
        return false;
}

bool faults_set(const char *text) {
        char *end;

        memset(rules, 0, sizeof(rules));
        happened = false;
        for (; text && *text; text = *end ? end + 1 : end)
                if (!set_rule(text, &end) || (*end && *end != ','))
                        return false;
        chance = MAX(rules[SEED].n, 1u);
        return true;
}

bool faults_happened(void) {
        return happened;
}

static void set_or_die(const char *text) {
        if (faults_set(text))
                return;
        log_error("CPEXD_FAULTS: what \"%s\" means is not clear; daemon/base/fault.h says what it may be", text);
        _exit(2);
}

static void read_rules(void) {
        CLEANUP_FD int fd = open(rules_path, O_RDONLY | O_CLOEXEC);
        char text[256];
        ssize_t n = fd < 0 ? -1 : __real_read(fd, text, sizeof(text) - 1);

        text[MAX(n, 0)] = 0;
        set_or_die(n < 0 ? rules_path : text);
}

static void tell_passed(void) {
        char line[256];
        size_t at = 0;

        for (enum point point = 0; point < SEED; point++)
                at += (size_t)snprintf(line + at, sizeof(line) - at, " %s %llu", names[point],
                                       (unsigned long long)rules[point].passed);
        log_notice("faults on purpose: passed:%s", line);
}

static void on_signal(int signal) {
        (void)signal;
        changed = 1;
}

/* Before main(), for libevent wants to know its allocators before it makes anything. */
__attribute__((constructor)) static void begin(void) {
        const char *text = getenv("CPEXD_FAULTS");

        event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
        if (!text || text[0] != '@') {
                set_or_die(text);
                return;
        }
        rules_path = text + 1;
        read_rules();
        (void)sigaction(SIGRTMIN, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
}

/* ---- Whether a point fails ---- */

static bool by_chance(uint64_t n) {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        return chance % n == 0;
}

static bool is_due(const struct rule *rule) {
        switch (rule->when) {
        case BY_CHANCE:
                return by_chance(rule->n);
        case FROM_THEN_ON:
                return rule->passed >= rule->n;
        default:
                return rule->passed == rule->n;
        }
}

static bool fails(enum point point) {
        struct rule *rule = &rules[point];
        int saved = errno;

        if (changed) {
                changed = 0;
                tell_passed();
                read_rules();
        }
        rule->passed++;
        if (rule->n == 0 || !is_due(rule))
                return false;
        happened = true;
        if (rule->when != BY_CHANCE && rule->passed == rule->n)
                log_notice("fault on purpose: %s %llu", names[point], (unsigned long long)rule->passed);
        errno = saved;
        return true;
}

/* ---- Memory ---- */

static bool no_memory(void) {
        if (!fails(ALLOC))
                return false;
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t size) {
        return no_memory() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
        return no_memory() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size) {
        return no_memory() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text) {
        return no_memory() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len) {
        return no_memory() ? NULL : __real_strndup(text, len);
}

int __wrap_asprintf(char **ret, const char *format, ...) {
        va_list args;
        int n;

        if (no_memory())
                return -1;
        va_start(args, format);
        n = vasprintf(ret, format, args);
        va_end(args);
        return n;
}

char *__wrap_realpath(const char *path, char *resolved) {
        return no_memory() ? NULL : __real_realpath(path, resolved);
}

DIR *__wrap_opendir(const char *path) {
        return no_memory() ? NULL : __real_opendir(path);
}

FILE *__wrap_fopen(const char *path, const char *mode) {
        return no_memory() ? NULL : __real_fopen(path, mode);
}

EXPORTED void *yaml_malloc(size_t size) {
        return __wrap_malloc(MAX(size, 1));
}

EXPORTED void *yaml_realloc(void *old, size_t size) {
        return __wrap_realloc(old, MAX(size, 1));
}

EXPORTED char *yaml_strdup(const char *text) {
        return text ? __wrap_strdup(text) : NULL;
}

/* ---- Descriptors ---- */

ssize_t __wrap_read(int fd, void *data, size_t len) {
        return __real_read(fd, data, fails(READ) ? MIN(len, 1) : len);
}

ssize_t __wrap_recv(int fd, void *data, size_t len, int flags) {
        return __real_recv(fd, data, fails(READ) ? MIN(len, 1) : len, flags);
}

/* A socket that is full takes one byte, and then none. Return: false when it takes none; if so, with errno set. */
static bool takes(size_t *len) {
        static bool full;

        if (full) {
                full = false;
                errno = EAGAIN;
                return false;
        }
        full = fails(WRITE);
        if (full)
                *len = MIN(*len, 1);
        return true;
}

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags) {
        return takes(&len) ? __real_send(fd, data, len, flags) : -1;
}

/* Of a stream: a datagram that was cut would not be what its reader expects. */
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
        struct iovec first = message->msg_iovlen > 0 ? message->msg_iov[0] : (struct iovec){0};
        size_t len = first.iov_len;
        int type = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof(type)}) < 0 || type != SOCK_STREAM)
                return __real_sendmsg(fd, message, flags);
        if (!takes(&len))
                return -1;
        return len < first.iov_len ? __real_send(fd, first.iov_base, len, flags) : __real_sendmsg(fd, message, flags);
}

int __wrap_posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
        return fails(SPAWN) ? EAGAIN : __real_posix_spawn(pid, path, actions, attributes, argv, envp);
}

EXPORTED int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags) {
        if (fails(ACCEPT)) {
                errno = EMFILE;
                return -1;
        }
        return (int)syscall(SYS_accept4, fd, address, len, flags);
}

/* ---- Time ---- */

EXPORTED int clock_gettime(clockid_t id, struct timespec *ret) {
        static time_t ahead, back;
        bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
        int r = (int)syscall(SYS_clock_gettime, id, ret);

        if (id == CLOCK_THREAD_CPUTIME_ID)
                return r;
        if (fails(CLOCK_AHEAD))
                ahead += HOUR;
        if (wall && fails(CLOCK_BACK))
                back += HOUR;
        ret->tv_sec += ahead - (wall ? back : 0);
        return r;
}
