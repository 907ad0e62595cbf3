/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A folder that a test fills and that is gone afterwards. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];

static inline int scratch_setup(void **state) {
        (void)state;
        (void)snprintf(scratch, sizeof(scratch), "%s", P_tmpdir "/cpexd-test-XXXXXX");
        return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_teardown(void **state) {
        char command[256];

        (void)state;
        (void)snprintf(command, sizeof(command), "chmod -R u+w %s && rm -rf %s", scratch, scratch);
        return system(command);
}

/* Return: the path of `name` in the folder; the text holds until eight more are asked for. */
static inline const char *scratch_path(const char *name) {
        static char paths[8][512];
        static unsigned next;
        char *path = paths[next++ % 8];

        (void)snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
        return path;
}

/* Writes a file and the folders above it. */
static inline const char *scratch_write(const char *name, const char *text) {
        const char *path = scratch_path(name);
        char folder[512];
        FILE *file;

        (void)snprintf(folder, sizeof(folder), "%s", path);
        for (char *slash = folder + strlen(scratch); (slash = strchr(slash + 1, '/'));) {
                *slash = 0;
                (void)mkdir(folder, 0755);
                *slash = '/';
        }
        file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
        assert_int_equal(fclose(file), 0);
        return path;
}
