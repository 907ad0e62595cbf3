/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What hardly ever fails, fails for the worker's extension when a test says so: a library that is loaded before libc
 * (LD_PRELOAD). The environment variable CPEXD_FAILING=FUNCTION:N:ERRNO has the N-th call of a function fail that the extension
 * makes, in each process with what came before its fork. Python's own calls are left alone.
 */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static bool fails(const char *function, const void *caller) {
        static int passed;
        const char *rule = getenv("CPEXD_FAILING");
        size_t len = strlen(function);
        int n, error;
        Dl_info info;

        if (!rule || strncmp(rule, function, len) != 0 || sscanf(rule + len, ":%d:%d", &n, &error) != 2 ||
            dladdr(caller, &info) == 0 || !strstr(info.dli_fname, "_cpexd.") || ++passed != n)
                return false;
        errno = error;
        return true;
}

/* A function of libc, as one with `parameters`, of which the last may be more than a caller gives: registers that nobody reads. */
#define FAILING(type, name, failure, parameters, arguments)                                    \
        __attribute__((visibility("default"))) type name parameters;                           \
        type name parameters {                                                                 \
                type(*real) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name);          \
                                                                                               \
                return fails(#name, __builtin_return_address(0)) ? (failure) : real arguments; \
        }

FAILING(pid_t, _Fork, -1, (void), ())
FAILING(pid_t, fork, -1, (void), ())
FAILING(pid_t, setsid, -1, (void), ())
FAILING(DIR *, opendir, NULL, (const char *path), (path))
FAILING(int, signalfd, -1, (int fd, const void *mask, int flags), (fd, mask, flags))
FAILING(int, kill, -1, (pid_t pid, int signal), (pid, signal))
FAILING(int, dup3, -1, (int from, int to, int flags), (from, to, flags))
FAILING(int, fcntl64, -1, (int fd, int command, long value), (fd, command, value))
FAILING(int, open64, -1, (const char *path, int flags, mode_t mode), (path, flags, mode))
FAILING(int, prctl, -1, (int option, long a, long b, long c, long d), (option, a, b, c, d))
FAILING(long, syscall, -1, (long number, long a, long b, long c, long d, long e, long f), (number, a, b, c, d, e, f))
