/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexd-venv: finds a venv in the cache or builds it there, and says where it is.
 *
 * It is a program of its own so that nothing it does, from hashing a folder to waiting for an index server, blocks the daemon,
 * and so that the daemon need not contain libcrypto. What it has to say comes on standard output as lines "key=value"; what
 * happens meanwhile, on standard error.
 */

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/oom.h"
#include "config.h"
#include "venv/builder.h"
#include "venv/cache.h"
#include "venv/fingerprint.h"
#include "venv/run.h"
#include "venv/say.h"

#define EXIT_USAGE 2

static const char usage[] =
        "Usage: cpexd-venv build --cache DIR [OPTION]...\n"
        "       cpexd-venv verify --cache DIR [--fingerprint HEX]\n"
        "       cpexd-venv list --cache DIR [--json]\n"
        "\n"
        "build finds the venv for an interpreter and requirements in the cache, or builds it there, and prints\n"
        "python=PATH, fingerprint=HEX and built=0|1; or error=SENTENCE.\n"
        "\n"
        "verify reads every file of a venv, or of all, and prints difference=PATH: WHAT for each that is not as it was built.\n"
        "\n"
        "  --cache DIR              where the venvs are, in DIR/venvs\n"
        "  --python NAME|PATH       the interpreter, 3.11 or newer (default: python3)\n"
        "  --requirements FILE      what to install\n"
        "  --code DIR               print code=HEX as well, which changes with what is in DIR\n"
        "  --installer auto|uv|pip  default auto: uv where it is installed and follows pip's configuration\n"
        "  --timeout SECONDS        for the installation (default 600)\n"
        "  --require-hashes         install nothing whose hash the requirements do not give\n"
        "  --only-binary            install no package that would have to be built\n"
        "  --wheelhouse DIR         install from this folder, without a network\n"
        "  --max-bytes N            the most that a venv may take\n"
        "  --read PATH              what installers may read beyond what lies beside the requirements\n"
        "  --env NAME[*]            variables that they get beyond those that they are known to need\n"
        "  --tasks N                processes and threads that the user may have\n"
        "  --cgroup DIR             the control group to run them in\n"
        "  --no-sandbox             let installers do all that the user may\n"
        "  --require-sandbox        run none where the kernel lacks a piece of the sandbox\n"
        "  --parent PID             stop when this process, which must be the parent, ends\n"
        "  --fingerprint HEX        the venv to verify (default: all)\n"
        "  --json                   list as one JSON array\n"
        "  --help, --version\n"
        "\n"
        "Exit status: 0 done, 1 failed or not as it was built, 2 wrong usage.\n";

struct options {
        const char *cache, *python, *requirements, *code, *fingerprint;
        enum installer installer;
        struct rules rules;
        struct box box;
        usec_t timeout_usec;
        pid_t parent; /* 0: none */
        bool json;
};

/* ---- build ---- */

/* The installer reads the files later than the fingerprint was taken; what it saw must not get the name of what was there before.
 * Return: 0, -EAGAIN if it differs by now, or another negative number; with the reason. */
static int check_unchanged(const struct options *options, const struct interpreter *interpreter, const char *fingerprint,
                           char **ret_error) {
        CLEANUP_REQUIREMENTS struct requirements requirements = {0};
        char now[DIGEST_HEX_BYTES];
        int r = fingerprint_compute(now, &requirements, interpreter, &options->rules, options->requirements, ret_error);

        if (r < 0 || str_eq(now, fingerprint))
                return r;
        (void)fail(ret_error,
                   "%s or a local file that it names was changed while the venv was built; try again when nothing changes them, "
                   "and name a wheel instead of a folder whose build writes into that folder",
                   options->requirements);
        return -EAGAIN;
}

/* Of what the requirements name the installer gets what it may. */
static int allow_named(struct options *options, const struct requirements *requirements, char **ret_error) {
        CLEANUP_FREE char *folder = options->requirements ? strdup(options->requirements) : NULL;
        int r = 0;

        if (!folder)
                return 0;
        *strrchr(folder, '/') = 0;
        if (words_add(&options->box.named_read, options->requirements) < 0)
                return fail(ret_error, "out of memory");
        for (size_t i = 0; r == 0 && i < requirements->files.n; i++)
                if (!str_eq(requirements->files.items[i], options->requirements))
                        r = box_allow_named(&options->box, requirements->files.items[i], folder, false, ret_error);
        for (size_t i = 0; r == 0 && i < requirements->folders.n; i++)
                r = box_allow_named(&options->box, requirements->folders.items[i], folder, true, ret_error);
        return r;
}

static int build_in_cache(struct options *options, const struct cache *cache, struct interpreter *interpreter,
                          const struct requirements *requirements, const char *fingerprint, char **ret_error) {
        CLEANUP_FREE char *place = cache_path(cache, fingerprint), *building = NULL, *installer = NULL;
        json_auto_t *packages = NULL;
        struct build build = {
                .interpreter = interpreter,
                .requirements = requirements->n_lines > 0 ? options->requirements : NULL,
                .place = place,
                .rules = &options->rules,
                .box = &options->box,
                .packages = &packages,
                .installer = options->installer,
                .timeout_usec = options->timeout_usec,
        };
        const usec_t start = clock_now_usec();
        int r;

        options->box.interpreter = interpreter->path;
        r = allow_named(options, requirements, ret_error);
        r = r ? r : cache_prepare(cache, fingerprint, &building, ret_error);
        if (r < 0)
                return r;
        say("building a venv with Python %s (%s)%s%s", interpreter->version, interpreter->path,
            build.requirements ? " for " : ", nothing to install", build.requirements ? build.requirements : "");
        if (options->box.off && build.requirements)
                say("packages may do all that this user may: there is no sandbox (venv.sandbox)");
        build.building = building;
        r = place ? build_venv(&build, &installer, ret_error) : fail(ret_error, "out of memory");
        if (r == 0) {
                struct cache_entry entry = {
                        .fingerprint = (char *)fingerprint,
                        .python = interpreter->version,
                        .interpreter = interpreter->path,
                        .installer = installer,
                        .requirements = requirements->summary,
                        .packages = packages,
                };

                r = stop_asked() ? fail(ret_error, "it was told to stop")
                                 : check_unchanged(options, interpreter, fingerprint, ret_error);
                r = r ? r : cache_commit(cache, building, &entry, ret_error);
        }
        if (r < 0)
                cache_abandon(building);
        else
                say("the venv is built: %.2f s", (double)(clock_now_usec() - start) / (double)USEC_PER_SEC);
        return r;
}

/* Return: 0 with where the venv is, or negative with the reason. */
static int build(struct options *options, char ret_fingerprint[DIGEST_HEX_BYTES], char **ret_place, bool *ret_built,
                 char **ret_error) {
        CLEANUP_INTERPRETER struct interpreter interpreter = {0};
        CLEANUP_REQUIREMENTS struct requirements requirements = {0};
        CLEANUP_CACHE struct cache cache = {0};
        CLEANUP_FD int lock = -1;
        int r;

        r = interpreter_query(&interpreter, options->python, ret_error);
        r = r ? r
              : fingerprint_compute(ret_fingerprint, &requirements, &interpreter, &options->rules, options->requirements,
                                    ret_error);
        r = r ? r : cache_open(&cache, options->cache, true, ret_error);
        if (r < 0)
                return r;
        *ret_built = false;
        if (!cache_find(&cache, ret_fingerprint)) {
                r = cache_lock(&cache, ret_fingerprint, options->timeout_usec, &lock, ret_error);
                if (r < 0)
                        return r;
                *ret_built = !cache_find(&cache, ret_fingerprint); /* somebody may have built it meanwhile */
        }
        if (*ret_built)
                r = build_in_cache(options, &cache, &interpreter, &requirements, ret_fingerprint, ret_error);
        if (r == 0 && !(*ret_place = cache_path(&cache, ret_fingerprint)))
                r = fail(ret_error, "out of memory");
        return r;
}

/* The state of a plugin's own code. That it cannot be told stops nobody. */
static void print_code(const char *folder) {
        CLEANUP_DIGEST struct digest *digest = NULL;
        CLEANUP_FREE char *error = NULL;
        char hex[DIGEST_HEX_BYTES];

        if (digest_new(&digest) < 0)
                return;
        digest_be_quick(digest);
        if (digest_add_path(digest, "code", folder, &error) < 0)
                say("a change of the plugin's code cannot be noticed: %s", error ? error : "out of memory");
        else if (digest_hex(digest, hex) == 0)
                (void)printf("code=%s\n", hex);
}

static int command_build(struct options *options) {
        CLEANUP_FREE char *place = NULL, *error = NULL;
        char fingerprint[DIGEST_HEX_BYTES];
        bool built = false;
        int r;

        if (options->code)
                print_code(options->code);
        r = box_find_launcher(&options->box, &error);
        r = r ? r : box_clean_environment(&options->box, &error);
        r = r ? r : build(options, fingerprint, &place, &built, &error);
        if (r == -EAGAIN) {
                say("%s", error ? error : "out of memory");
                say("building once more");
                free(TAKE(error));
                r = build(options, fingerprint, &place, &built, &error);
        }
        if (r < 0) {
                (void)printf("error=%s\n", error ? error : "out of memory");
                return EXIT_FAILURE;
        }
        (void)printf("python=%s/bin/python\nfingerprint=%s\nbuilt=%d\n", place, fingerprint, built);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- verify ---- */

static void print_difference(void *data, const char *what) {
        (void)data;
        (void)fputs("difference=", stdout);
        for (; *what; what++)
                (void)putchar((unsigned char)*what < ' ' ? '?' : *what);
        (void)putchar('\n');
}

/* Return: how many venvs are not as they were built, or negative with the reason. */
static int verify_all(const struct cache *cache, char **ret_error) {
        struct cache_entry *entries = NULL;
        size_t n = 0;
        int r = cache_list(cache, &entries, &n, ret_error), changed = 0;

        for (size_t i = 0; i < n; i++) {
                if (r >= 0) {
                        (void)printf("fingerprint=%s\n", entries[i].fingerprint);
                        r = cache_verify(cache, entries[i].fingerprint, print_difference, NULL, ret_error);
                        changed += r > 0;
                }
                cache_entry_done(&entries[i]);
        }
        free(entries);
        return r < 0 ? r : changed;
}

static int command_verify(const struct options *options) {
        CLEANUP_CACHE struct cache cache = {0};
        CLEANUP_FREE char *error = NULL;
        int r = cache_open(&cache, options->cache, false, &error);

        if (r == 0)
                r = options->fingerprint ? cache_verify(&cache, options->fingerprint, print_difference, NULL, &error)
                                         : verify_all(&cache, &error);
        if (r < 0)
                (void)printf("error=%s\n", error ? error : "out of memory");
        return r == 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- list ---- */

static void print_table(const struct cache_entry *entries, size_t n) {
        if (n > 0)
                (void)printf("%-12s  %-8s  %9s  %-16s  %-16s  %s\n", "FINGERPRINT", "PYTHON", "MIB", "CREATED", "LAST USED",
                             "REQUIREMENTS");
        for (size_t i = 0; i < n; i++) {
                const time_t times[] = {(time_t)entries[i].created_sec, (time_t)entries[i].used_sec};
                char text[2][32] = {"", ""};
                struct tm tm;

                for (int j = 0; j < 2; j++)
                        if (localtime_r(&times[j], &tm))
                                (void)strftime(text[j], sizeof(text[j]), "%Y-%m-%d %H:%M", &tm);
                (void)printf("%-12.12s  %-8s  %9.1f  %-16s  %-16s  %s\n", entries[i].fingerprint, entries[i].python,
                             (double)entries[i].size_bytes / (1 << 20), text[0], text[1],
                             entries[i].requirements[0] ? entries[i].requirements : "-");
        }
}

static void print_json(const struct cache *cache, const struct cache_entry *entries, size_t n) {
        json_auto_t *list = json_array();

        for (size_t i = 0; i < n; i++) {
                CLEANUP_FREE char *path = cache_path(cache, entries[i].fingerprint);

                (void)json_array_append_new(
                        list, json_pack("{ss ss ss ss ss ss sI sI sI sO*}", "fingerprint", entries[i].fingerprint, "path",
                                        path ? path : "", "python", entries[i].python, "interpreter", entries[i].interpreter,
                                        "installer", entries[i].installer, "requirements", entries[i].requirements, "size",
                                        (json_int_t)entries[i].size_bytes, "created", (json_int_t)entries[i].created_sec, "used",
                                        (json_int_t)entries[i].used_sec, "packages", entries[i].packages));
        }
        (void)json_dumpf(list, stdout, JSON_COMPACT);
        (void)putchar('\n');
}

static int command_list(const struct options *options) {
        CLEANUP_CACHE struct cache cache = {0};
        CLEANUP_FREE struct cache_entry *entries = NULL;
        CLEANUP_FREE char *error = NULL;
        size_t n = 0;

        if (cache_open(&cache, options->cache, false, &error) < 0 || cache_list(&cache, &entries, &n, &error) < 0) {
                (void)fprintf(stderr, "cpexd-venv: %s\n", error ? error : "out of memory");
                return EXIT_FAILURE;
        }
        if (options->json)
                print_json(&cache, entries, n);
        else
                print_table(entries, n);
        for (size_t i = 0; i < n; i++)
                cache_entry_done(&entries[i]);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- The command line ---- */

static int complain(const char *what) {
        (void)fprintf(stderr, "cpexd-venv: %s; see cpexd-venv --help\n", what);
        return -EINVAL;
}

static int parse_number(const char *text, long max, long *ret) {
        char *end;

        errno = 0;
        *ret = strtol(text, &end, 10);
        return errno || end == text || *end || *ret < 1 || *ret > max ? -EINVAL : 0;
}

enum {
        OPTION_CACHE = 1,
        OPTION_PYTHON,
        OPTION_REQUIREMENTS,
        OPTION_CODE,
        OPTION_INSTALLER,
        OPTION_TIMEOUT,
        OPTION_PARENT,
        OPTION_FINGERPRINT,
        OPTION_REQUIRE_HASHES,
        OPTION_ONLY_BINARY,
        OPTION_WHEELHOUSE,
        OPTION_MAX_BYTES,
        OPTION_READ,
        OPTION_ENV,
        OPTION_TASKS,
        OPTION_CGROUP,
        OPTION_NO_SANDBOX,
        OPTION_REQUIRE_SANDBOX,
        OPTION_JSON,
        OPTION_HELP,
        OPTION_VERSION
};

static int take_option(struct options *options, int option) {
        long number;

        switch (option) {
        case OPTION_CACHE:
                options->cache = optarg;
                return 0;
        case OPTION_PYTHON:
                options->python = optarg;
                return 0;
        case OPTION_REQUIREMENTS:
                options->requirements = optarg;
                return 0;
        case OPTION_CODE:
                options->code = optarg;
                return 0;
        case OPTION_INSTALLER:
                options->installer = (enum installer)MAX(installer_from_name(optarg), 0);
                return installer_from_name(optarg) < 0 ? complain("--installer must be auto, uv or pip") : 0;
        case OPTION_TIMEOUT:
                if (parse_number(optarg, 86400, &number) < 0)
                        return complain("--timeout must be between 1 and 86400");
                options->timeout_usec = (usec_t)number * USEC_PER_SEC;
                return 0;
        case OPTION_PARENT:
                if (parse_number(optarg, INT32_MAX, &number) < 0)
                        return complain("--parent must be the id of a process");
                options->parent = (pid_t)number;
                return 0;
        case OPTION_FINGERPRINT:
                options->fingerprint = optarg;
                return strlen(optarg) == DIGEST_HEX_BYTES - 1 && strspn(optarg, "0123456789abcdef") == DIGEST_HEX_BYTES - 1
                               ? 0
                               : complain("--fingerprint must be 64 hexadecimal digits");
        case OPTION_REQUIRE_HASHES:
                options->rules.require_hashes = true;
                return 0;
        case OPTION_ONLY_BINARY:
                options->rules.only_binary = true;
                return 0;
        case OPTION_WHEELHOUSE:
                options->rules.wheelhouse = optarg;
                return optarg[0] == '/' ? 0 : complain("--wheelhouse must be an absolute path");
        case OPTION_MAX_BYTES:
                if (parse_number(optarg, INT64_MAX, &number) < 0)
                        return complain("--max-bytes must be a number of bytes");
                options->box.max_bytes = (uint64_t)number;
                return 0;
        case OPTION_READ:
                return words_add(&options->box.read, optarg);
        case OPTION_ENV:
                return words_add(&options->box.env, optarg);
        case OPTION_TASKS:
                options->box.tasks = optarg;
                return 0;
        case OPTION_CGROUP:
                options->box.cgroup = optarg;
                return 0;
        case OPTION_NO_SANDBOX:
                options->box.off = true;
                return 0;
        case OPTION_REQUIRE_SANDBOX:
                options->box.require = true;
                return 0;
        case OPTION_JSON:
                options->json = true;
                return 0;
        case OPTION_HELP:
                (void)fputs(usage, stdout);
                exit(EXIT_SUCCESS);
        case OPTION_VERSION:
                (void)puts("cpexd-venv " CPEXD_VERSION);
                exit(EXIT_SUCCESS);
        default:
                (void)fputs("See cpexd-venv --help\n", stderr);
                return -EINVAL;
        }
}

/* Return: the command's name, NULL after a complaint. */
static const char *parse_options(struct options *options, int argc, char **argv) {
        static const struct option names[] = {
                {"cache", required_argument, NULL, OPTION_CACHE},
                {"python", required_argument, NULL, OPTION_PYTHON},
                {"requirements", required_argument, NULL, OPTION_REQUIREMENTS},
                {"code", required_argument, NULL, OPTION_CODE},
                {"installer", required_argument, NULL, OPTION_INSTALLER},
                {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                {"parent", required_argument, NULL, OPTION_PARENT},
                {"fingerprint", required_argument, NULL, OPTION_FINGERPRINT},
                {"require-hashes", no_argument, NULL, OPTION_REQUIRE_HASHES},
                {"only-binary", no_argument, NULL, OPTION_ONLY_BINARY},
                {"wheelhouse", required_argument, NULL, OPTION_WHEELHOUSE},
                {"max-bytes", required_argument, NULL, OPTION_MAX_BYTES},
                {"read", required_argument, NULL, OPTION_READ},
                {"env", required_argument, NULL, OPTION_ENV},
                {"tasks", required_argument, NULL, OPTION_TASKS},
                {"cgroup", required_argument, NULL, OPTION_CGROUP},
                {"no-sandbox", no_argument, NULL, OPTION_NO_SANDBOX},
                {"require-sandbox", no_argument, NULL, OPTION_REQUIRE_SANDBOX},
                {"json", no_argument, NULL, OPTION_JSON},
                {"help", no_argument, NULL, OPTION_HELP},
                {"version", no_argument, NULL, OPTION_VERSION},
                {NULL, 0, NULL, 0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
                if (take_option(options, option) < 0)
                        return NULL;
        if (optind + 1 != argc ||
            !(str_eq(argv[optind], "build") || str_eq(argv[optind], "verify") || str_eq(argv[optind], "list"))) {
                (void)complain("say build, verify or list");
                return NULL;
        }
        if (!options->cache) {
                (void)complain("--cache is missing");
                return NULL;
        }
        return argv[optind];
}

/* Makes the path of the requirements absolute; symbolic links stay, for what the file names is relative to where it seems to be.
 * Without such a file there is nothing to install. */
static int resolve_requirements(struct options *options, char **ret_path) {
        CLEANUP_FREE char *here = getcwd(NULL, 0);

        if (!options->requirements)
                return 0;
        if (access(options->requirements, F_OK) < 0 && errno == ENOENT) {
                say("there is no file %s; the venv will be empty", options->requirements);
                options->requirements = NULL;
                return 0;
        }
        if (options->requirements[0] == '/')
                return 0;
        if (!here || asprintf(ret_path, "%s/%s", here, options->requirements) < 0) {
                *ret_path = NULL;
                return -ENOMEM;
        }
        options->requirements = *ret_path;
        return 0;
}

int main(int argc, char **argv) {
        struct options options = {.python = "python3", .timeout_usec = 600 * USEC_PER_SEC};
        const char *command = parse_options(&options, argc, argv);
        CLEANUP_FREE char *requirements = NULL;
        int status;

        if (!command)
                return EXIT_USAGE;
        if (str_eq(command, "list"))
                return command_list(&options);
        if (options.parent && (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != options.parent)) {
                (void)puts("error=the process that --parent names is not the parent");
                return EXIT_FAILURE;
        }
        oom_expose(OOM_SCORE_BUILDER);
        (void)umask(umask(0) | S_IWGRP | S_IWOTH); /* see check_folder() in cache.c */
        /* Who reads the log may be gone; cleaning up goes on without. */
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || stop_watch() < 0 || resolve_requirements(&options, &requirements) < 0)
                return EXIT_FAILURE;
        options.box.network = !options.rules.wheelhouse;
        status = str_eq(command, "verify") ? command_verify(&options) : command_build(&options);
        box_done(&options.box);
        return status;
}
