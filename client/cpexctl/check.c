/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `cpexctl check` is `cpexd --check`: the daemon's own parser is the only one that knows what the daemon takes, and it needs no
 * running one. The cpexd beside this program comes first, so that a build folder checks with its own.
 */

#include <stdio.h>

#include "report.h"

static char *cpexd_beside_us(void) {
        char own[4096];
        ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
        char *slash, *path;

        if (n < 0)
                return NULL;
        own[n] = '\0';
        slash = strrchr(own, '/');
        if (!slash || asprintf(&path, "%.*s/cpexd", (int)(slash - own), own) < 0)
                return NULL;
        if (access(path, X_OK) == 0)
                return path;
        free(path);
        return NULL;
}

int command_check(const struct options *options) {
        CLEANUP_FREE char *beside = cpexd_beside_us();
        const char *argv[7] = {beside ? beside : "cpexd", "--check"};
        size_t n = 2;

        if (options->json)
                return report_error(options, "usage", "check takes no --json; it prints one line for each mistake");
        if (options->argument) {
                argv[n++] = "-c";
                argv[n++] = options->argument;
        }
        if (options->plugins) {
                argv[n++] = "--plugins";
                argv[n++] = options->plugins;
        }
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        return report_error(options, "unreachable", "cannot run %s: %s; it is needed beside cpexctl or in PATH", argv[0],
                            strerror(errno));
}
