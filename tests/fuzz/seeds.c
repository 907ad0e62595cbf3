/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The main() of a target in a build without libFuzzer: feeds it every file of the folder that is named. Each file lies in memory
 * of exactly its size, so that valgrind or ASan sees a step beyond.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fuzz.h"

static void feed(int folder, const char *name) {
        FILE *file = fdopen(openat(folder, name, O_RDONLY | O_CLOEXEC), "r");
        CLEANUP_FREE uint8_t *data = NULL;
        struct stat st;

        CHECK(file && fstat(fileno(file), &st) == 0);
        data = malloc(MAX((size_t)st.st_size, (size_t)1));
        CHECK(data && fread(data, 1, (size_t)st.st_size, file) == (size_t)st.st_size);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
}

int main(int argc, char **argv) {
        DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
        const struct dirent *entry;
        unsigned n = 0;

        if (!folder) {
                (void)fprintf(stderr, "Name a folder with seeds: %s FOLDER\n", argv[0]);
                return 2;
        }
        while ((entry = readdir(folder)))
                if (entry->d_name[0] != '.') {
                        feed(dirfd(folder), entry->d_name);
                        n++;
                }
        (void)closedir(folder);
        (void)printf("%u seeds\n", n);
        return n > 0 ? 0 : 1;
}
