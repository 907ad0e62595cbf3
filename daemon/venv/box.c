/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requirements come with a plugin, and are trusted no more than it is. So what they name may be read only if it lies beside them; otherwise a
 * line "--find-links /home/ann" would let an installer, and the packages that it builds, read that. And of the environment they get
 * what is listed here: `${NAME}` in them finds nothing else.
 *
 * How much a build has written is found out by walking over it. That takes a while where there is much, and is done so seldom that it
 * takes a tenth of the time at most; what one file may grow to meanwhile is a limit of the kernel's.
 */

#include "venv/box.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "base/variables.h"
#include "venv/say.h"
#include "venv/tree.h"

#define LOOK_USEC USEC_PER_SEC

static char *const needed[] = {"PATH", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TMPDIR", "HOME",
                               "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
                               /* The network. */
                               "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
                               "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
                               /* Installers: who sets these wants them to count. */
                               "PIP_*", "UV_*",
                               /* Compilers. */
                               "CC", "CXX", "FC", "AR", "LD", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "MAKEFLAGS",
                               "PKG_CONFIG_*", "CMAKE_*", "ARCHFLAGS", "CARGO_BUILD_*", "RUSTFLAGS", "SOURCE_DATE_EPOCH",
                               /* The choice of whoever starts the daemon. */
                               "LD_LIBRARY_PATH", "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_*", "ASAN_OPTIONS", "LSAN_OPTIONS",
                               "UBSAN_OPTIONS"};

/* Variables that name files and folders, one or several. */
static const char *const naming[] = {"PIP_FIND_LINKS",  "PIP_CONSTRAINT", "PIP_CERT",           "PIP_CLIENT_CERT",
                                     "PIP_CONFIG_FILE", "UV_FIND_LINKS",  "UV_CONSTRAINT",      "UV_CONFIG_FILE",
                                     "SSL_CERT_FILE",   "SSL_CERT_DIR",   "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"};

int words_add(struct words *words, const char *word) {
        char **grown = realloc(words->items, (words->n + 1) * sizeof(*grown)), *copy;

        if (!grown)
                return -ENOMEM;
        words->items = grown;
        copy = strdup(word);
        if (!copy)
                return -ENOMEM;
        words->items[words->n++] = copy;
        return 0;
}

void words_done(struct words *words) {
        for (size_t i = 0; i < words->n; i++)
                free(words->items[i]);
        free(words->items);
        *words = (struct words){0};
}

void box_done(struct box *box) {
        words_done(&box->read);
        words_done(&box->env);
        words_done(&box->named_read);
        words_done(&box->named_write);
        free(box->launcher);
        free(box->folder);
        *box = (struct box){0};
}

int box_find_launcher(struct box *box, char **ret_error) {
        char path[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        char *slash;

        if (box->off)
                return 0;
        path[MAX(n, 0)] = 0;
        slash = strrchr(path, '/');
        if (!slash)
                return fail(ret_error, "where this program lies cannot be told: %m");
        *slash = 0;
        if (asprintf(&box->launcher, "%s/cpexd-launch", path) < 0) {
                box->launcher = NULL;
                return fail(ret_error, "out of memory");
        }
        if (access(box->launcher, X_OK) < 0)
                return fail(ret_error, "%s cannot be run, which locks installers up: %m; install cpexd completely",
                            box->launcher);
        return 0;
}

int box_clean_environment(const struct box *box, char **ret_error) {
        for (size_t i = 0; !box->off && environ[i];) {
                const char *variable = environ[i];
                CLEANUP_FREE char *name = NULL;

                if (variable_is_named(variable, needed, ELEMENTS(needed)) ||
                    variable_is_named(variable, box->env.items, box->env.n)) {
                        i++;
                        continue;
                }
                name = strndup(variable, strcspn(variable, "="));
                if (!name)
                        return fail(ret_error, "out of memory");
                /* The next one takes its place; what has no name stays. */
                i += unsetenv(name) < 0 || environ[i] == variable;
        }
        return 0;
}

/* Return: whether `path` is `folder` or below it; both are real paths. */
static bool is_let(const struct box *box, const char *real) {
        for (size_t i = 0; i < box->read.n; i++) {
                CLEANUP_FREE char *let = realpath(box->read.items[i], NULL);

                if (let && path_lies_in(real, let))
                        return true;
        }
        return false;
}

int box_allow_named(struct box *box, const char *path, const char *folder, bool change, char **ret_error) {
        CLEANUP_FREE char *real = realpath(path, NULL), *home = realpath(folder, NULL);

        if (box->off)
                return 0;
        if (!real || !home)
                return fail(ret_error, "%s cannot be read: %m", path);
        if (!path_lies_in(real, home) && !is_let(box, real))
                return fail(
                        ret_error,
                        "the requirements name %s, which is not below %s; to let them read it, add it to venv.read in cpexd.yaml",
                        real, home);
        if (words_add(&box->named_read, real) < 0 || (change && words_add(&box->named_write, real) < 0))
                return fail(ret_error, "out of memory");
        return 0;
}

int box_allow_variables(struct box *box, char **ret_error) {
        for (size_t i = 0; i < ELEMENTS(naming); i++) {
                const char *value = getenv(naming[i]);
                CLEANUP_FREE char *copy = value ? strdup(value) : NULL;
                char *save = NULL;

                for (char *word = copy ? strtok_r(copy, " \t\n,", &save) : NULL; word; word = strtok_r(NULL, " \t\n,", &save)) {
                        const char *path = strncmp(word, "file://", 7) == 0 ? word + 7 : word;

                        if (path[0] == '/' && access(path, F_OK) == 0 && words_add(&box->named_read, path) < 0)
                                return fail(ret_error, "out of memory");
                }
        }
        return 0;
}

/* ---- The command ---- */

struct command {
        const char **argv; /* NULL: they are only counted */
        size_t n;
};

static void put(struct command *command, const char *word) {
        if (command->argv)
                command->argv[command->n] = word;
        command->n++;
}

static void put_each(struct command *command, const char *option, const struct words *words) {
        for (size_t i = 0; i < words->n; i++) {
                put(command, option);
                put(command, words->items[i]);
        }
}

static void put_command(struct command *command, const struct box *box, const char *size, const char *const *argv) {
        if (!box->off) {
                put(command, box->launcher);
                put(command, "--profile");
                put(command, box->alone ? "strict" : "default");
                put(command, "--python");
                put(command, box->interpreter);
                if (box->require)
                        put(command, "--require");
                if (box->network && !box->finished) {
                        put(command, "--network");
                        put(command, "all");
                }
                if (box->tasks) {
                        put(command, "--rlimit-nproc");
                        put(command, box->tasks);
                }
                if (box->max_bytes > 0) {
                        put(command, "--rlimit-fsize");
                        put(command, size);
                }
                put_each(command, "--read", &box->read);
                put_each(command, "--read", &box->named_read);
                put_each(command, "--write", &box->named_write);
                if (box->folder) {
                        put(command, "--read");
                        put(command, box->folder);
                }
                if (box->folder && !box->finished) {
                        put(command, "--write");
                        put(command, box->folder);
                }
                put(command, "--");
        }
        for (; *argv; argv++)
                put(command, *argv);
        put(command, NULL);
}

const char **box_command(const struct box *box, const char *const *argv) {
        static char size[24];
        struct command command = {0};

        (void)snprintf(size, sizeof(size), "%" PRIu64, box->max_bytes);
        put_command(&command, box, size, argv);
        command.argv = calloc(command.n, sizeof(*command.argv));
        command.n = 0;
        if (command.argv)
                put_command(&command, box, size, argv);
        return command.argv;
}

bool box_is_full(struct box *box, usec_t now) {
        const usec_t start = clock_now_usec();
        uint64_t bytes;

        if (box->max_bytes == 0 || !box->folder || now < box->next_look_usec)
                return false;
        bytes = tree_size(box->folder);
        box->next_look_usec = clock_now_usec() + MAX(LOOK_USEC, 10 * (clock_now_usec() - start));
        return bytes > box->max_bytes;
}
