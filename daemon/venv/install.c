/* SPDX-License-Identifier: Apache-2.0 */

/*
 * uv is many times faster and so preferred, but it reads neither pip.conf nor PIP_*. What the environment says to pip is
 * translated as far as uv knows the same; where the user has told pip something that uv cannot be told, pip is the one who does
 * what the user said.
 *
 * pip is the base interpreter's own, working on the venv from outside (--python): a pip inside would cost two seconds for each venv.
 * Builds of source packages always go by way of PEP 517, for the venv has no setuptools either.
 *
 * A package's build script, setup.py, is code like any other. Where only binary packages are allowed the kernel sees to it that none
 * runs, for a wheel of a foreign index may ask for a source archive: no process can be started. uv cannot do without one.
 *
 * In its box an installer has a home and a cache of its own for the time, for a cache that several share would let one package
 * change what the next plugin gets. What the user has configured for installers counts all the same.
 *
 * uv copies and does not link: files of one venv must not be files of another, lest a plugin change its neighbour's code.
 */

#include "venv/install.h"

#include <limits.h>
#include <stdio.h>
#include <sys/wait.h>

#include "venv/report.h"
#include "venv/run.h"
#include "venv/say.h"

int installer_from_name(const char *name) {
        static const char *const names[INSTALLER_MAX_] = {"auto", "uv", "pip"};

        for (int i = 0; i < INSTALLER_MAX_; i++)
                if (str_eq(name, names[i]))
                        return i;
        return -EINVAL;
}

static int run_installer(const struct install *install, const char *name, const char *const *argv, char **ret_error) {
        CLEANUP_REPORT struct report report = {.prefix = name};
        CLEANUP_FREE char *folder =
                strndup(install->requirements, (size_t)(strrchr(install->requirements, '/') - install->requirements + 1));
        CLEANUP_FREE char *reason = NULL, *text = NULL;
        /* Paths in a requirements file are relative to where the installer runs; let that be the file's own folder. */
        const struct run run = {
                .argv = argv,
                .folder = folder,
                .box = install->box,
                .timeout_usec = install->timeout_usec,
                .on_line = report_line,
                .data = &report,
        };
        int status, r;

        r = run_command(&run, &status, &reason);
        if (r == 0 && status == 0)
                return 0;
        text = report_text(&report, r < 0 ? 0 : status);
        if (r < 0)
                return fail(ret_error, "%s cannot install %s: %s%s%s", name, install->requirements,
                            reason ? reason : "out of memory", report.n_last ? "; its last words: " : "",
                            report.n_last && text ? text : "");
        return fail(ret_error, "%s cannot install %s: %s%s", name, install->requirements, text ? text : "out of memory",
                    report.denied && !install->box->off
                            ? "; the sandbox may be the reason, see venv.read, venv.env and venv.sandbox in cpexd.yaml"
                            : "");
}

/* ---- uv ---- */

/* What of pip's environment is understood when uv is used. A variable of pip that is not here is for pip only. */
static const struct {
        const char *pip;
        const char *uv; /* the variable that means the same, NULL: none is needed */
        char separator; /* between words in that one; 0: the value stays as it is */
} translations[] = {
        {"PIP_INDEX_URL", "UV_INDEX_URL", 0},
        {"PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ' '},
        {"PIP_FIND_LINKS", "UV_FIND_LINKS", ','},
        {"PIP_TRUSTED_HOST", "UV_INSECURE_HOST", ' '},
        {"PIP_CONSTRAINT", "UV_CONSTRAINT", ' '},
        {"PIP_CERT", "SSL_CERT_FILE", 0},
        {"PIP_PROXY", "ALL_PROXY", 0},
        {"PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", 0},
        {"PIP_TIMEOUT", "UV_HTTP_TIMEOUT", 0},
        {"PIP_NO_INDEX", NULL, 0}, /* a flag: see install_with_uv() */
        /* These change how pip works, not what it installs; or prepare_environment() has set them. */
        {"PIP_BREAK_SYSTEM_PACKAGES", NULL, 0},
        {"PIP_CACHE_DIR", NULL, 0},
        {"PIP_CONFIG_FILE", NULL, 0}, /* see has_pip_conf() */
        {"PIP_DISABLE_PIP_VERSION_CHECK", NULL, 0},
        {"PIP_NO_CACHE_DIR", NULL, 0},
        {"PIP_NO_COLOR", NULL, 0},
        {"PIP_NO_INPUT", NULL, 0},
        {"PIP_PROGRESS_BAR", NULL, 0},
        {"PIP_QUIET", NULL, 0},
        {"PIP_REQUIRE_VIRTUALENV", NULL, 0},
        {"PIP_RETRIES", NULL, 0},
        {"PIP_ROOT_USER_ACTION", NULL, 0},
        {"PIP_USER", NULL, 0},
        {"PIP_VERBOSE", NULL, 0},
};

/* A variable, like PIP_X, that uv would not follow. Return: its name, NULL if there is none. */
static const char *untranslatable(void) {
        for (char **variable = environ; *variable; variable++) {
                size_t len = strcspn(*variable, "="), i;

                if (strncmp(*variable, "PIP_", 4) != 0 || (*variable)[len] == 0 || (*variable)[len + 1] == 0)
                        continue;
                for (i = 0; i < ELEMENTS(translations); i++)
                        if (strlen(translations[i].pip) == len && strncmp(translations[i].pip, *variable, len) == 0)
                                break;
                if (i == ELEMENTS(translations))
                        return *variable;
        }
        return NULL;
}

static bool file_exists(const char *folder, const char *name) {
        char path[PATH_MAX];

        return folder && snprintf(path, sizeof(path), "%s/%s", folder, name) < PATH_MAX && access(path, F_OK) == 0;
}

/* Return: the path of a file among the user's settings, NULL if there is none. */
static char *find_user_file(const char *name, const char *old_name) {
        const char *home = getenv("HOME"), *xdg = getenv("XDG_CONFIG_HOME");
        char *path;

        if (asprintf(&path, "%s%s/%s", xdg && *xdg ? xdg : home ? home : "", xdg && *xdg ? "" : "/.config", name) < 0)
                return NULL;
        if (access(path, R_OK) == 0)
                return path;
        free(path);
        if (!old_name || asprintf(&path, "%s/%s", home ? home : "", old_name) < 0)
                return NULL;
        if (access(path, R_OK) == 0)
                return path;
        free(path);
        return NULL;
}

/* The places are pip's own: of the site, of the user, of the interpreter. */
static bool has_pip_conf(const struct interpreter *interpreter) {
        CLEANUP_FREE char *users = find_user_file("pip/pip.conf", ".pip/pip.conf");
        const char *named = getenv("PIP_CONFIG_FILE");
        const char *site = getenv("XDG_CONFIG_DIRS");
        CLEANUP_FREE char *folders = strdup(site && *site ? site : "/etc/xdg"), *prefix = strdup(interpreter->path);
        char *slash, *next;

        if (str_eq(named, "/dev/null"))
                return false;
        if ((named && *named && access(named, F_OK) == 0) || file_exists("/etc", "pip.conf") || users)
                return true;
        next = folders;
        for (char *folder; (folder = next ? strsep(&next, ":") : NULL);)
                if (file_exists(folder, "pip/pip.conf"))
                        return true;
        for (int i = 0; prefix && i < 2 && (slash = strrchr(prefix, '/')); i++) /* PREFIX/bin/python */
                *slash = 0;
        return file_exists(prefix, "pip.conf");
}

static bool is_true(const char *value) {
        return value && (str_eq(value, "1") || strcasecmp(value, "true") == 0 || strcasecmp(value, "yes") == 0 ||
                         strcasecmp(value, "on") == 0 || strcasecmp(value, "y") == 0 || strcasecmp(value, "t") == 0);
}

/* Return: the words of `text`, which is cut up for it, with `separator` between them; NULL without memory. */
static char *join_words(char *text, char separator) {
        char *joined = calloc(1, strlen(text) + 1), *to = joined, *save = NULL;

        for (char *word = strtok_r(text, " \t\n", &save); joined && word; word = strtok_r(NULL, " \t\n", &save)) {
                if (to > joined)
                        *to++ = separator;
                to = stpcpy(to, word);
        }
        return joined;
}

/* Says to uv what the environment says to pip; by the environment as well, for an index may have a password, and anybody can read a
 * command line. */
static int translate(void) {
        for (size_t i = 0; i < ELEMENTS(translations); i++) {
                const char *value = getenv(translations[i].pip), *uv = translations[i].uv;
                CLEANUP_FREE char *copy = value && uv ? strdup(value) : NULL, *joined = NULL;

                if (!value || !*value || !uv)
                        continue;
                joined = copy && translations[i].separator ? join_words(copy, translations[i].separator) : TAKE(copy);
                /* What is said to uv by its name stays. */
                if (!joined || setenv(uv, joined, strncmp(uv, "UV_", 3) != 0) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int install_with_uv(const struct install *install, const char *uv, const char *python, char **ret_error) {
        const char *argv[20] = {uv,
                                "pip",
                                "install",
                                "--python",
                                python,
                                "-r",
                                install->requirements,
                                "--link-mode",
                                "copy",
                                "--compile-bytecode",
                                "--no-progress"};
        size_t n = 11;

        if (is_true(getenv("PIP_NO_INDEX")) || install->rules->wheelhouse)
                argv[n++] = "--no-index";
        if (install->rules->wheelhouse) {
                argv[n++] = "--find-links";
                argv[n++] = install->rules->wheelhouse;
        }
        if (install->rules->require_hashes)
                argv[n++] = "--require-hashes";
        if (translate() < 0 || words_add(&install->box->named_read, uv) < 0)
                return fail(ret_error, "out of memory");
        return run_installer(install, "uv", argv, ret_error);
}

/* ---- pip ---- */

static bool pip_has_python_option(const char *version) {
        int major, minor;

        return version && sscanf(version, "%d.%d", &major, &minor) == 2 && (major > 22 || (major == 22 && minor >= 3));
}

/* `start`: how pip is run, up to its command. */
static int run_pip(const struct install *install, const char *const *start, char **ret_error) {
        CLEANUP_FREE char *report = NULL;
        const char *argv[24] = {0};
        size_t n = 0;

        while (start[n]) {
                argv[n] = start[n];
                n++;
        }
        argv[n++] = "install";
        argv[n++] = "-r";
        argv[n++] = install->requirements;
        if (asprintf(&report, "%s/" INSTALL_REPORT, install->scratch) < 0) {
                report = NULL;
                return fail(ret_error, "out of memory");
        }
        argv[n++] = "--report";
        argv[n++] = report;
        if (install->rules->require_hashes)
                argv[n++] = "--require-hashes";
        if (install->rules->only_binary)
                argv[n++] = "--only-binary=:all:";
        if (install->rules->wheelhouse) {
                argv[n++] = "--no-index";
                argv[n++] = "--find-links";
                argv[n++] = install->rules->wheelhouse;
        }
        return run_installer(install, "pip", argv, ret_error);
}

static int install_with_pip(const struct install *install, const char *python, char **ret_installer, char **ret_error) {
        struct interpreter *base = install->interpreter;
        int r = interpreter_query_pip(base, ret_error);

        if (r < 0)
                return r;
        if (pip_has_python_option(base->pip) && base->runner) {
                /* As --python does, but without a process in between. */
                r = setenv("_PIP_RUNNING_IN_SUBPROCESS", "1", 1) < 0
                            ? fail(ret_error, "out of memory")
                            : run_pip(install, (const char *[]){python, "-I", base->runner, NULL}, ret_error);
                return r < 0 || asprintf(ret_installer, "pip %s", base->pip) >= 0 ? r : fail(ret_error, "out of memory");
        }
        if (!base->ensurepip)
                return fail(
                        ret_error,
                        "%s has no pip to install requirements with, and none to copy: install uv, or on Debian and Ubuntu run "
                        "\"apt-get install python3-venv\"",
                        base->path);
        if (install->rules->only_binary)
                return fail(ret_error, "%s has no pip of version 22.3 or later, which venv.only_binary needs", base->path);
        r = run_installer(install, "ensurepip", (const char *[]){python, "-I", "-m", "ensurepip", "--default-pip", NULL},
                          ret_error);
        r = r ? r : run_pip(install, (const char *[]){python, "-I", "-m", "pip", NULL}, ret_error);
        return r < 0 || (*ret_installer = strdup("pip, in the venv")) ? r : fail(ret_error, "out of memory");
}

/* ---- The choice ---- */

/* What the user has said to an installer is heard in another home as well. */
static int keep_user_file(const char *name, const char *old_name, const char *variable) {
        CLEANUP_FREE char *path = getenv(variable) ? NULL : find_user_file(name, old_name);

        return path ? setenv(variable, path, 1) : 0;
}

static int move_home(const struct install *install, char **ret_error) {
        static const char *const away[] = {"XDG_CONFIG_HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR"};

        if (keep_user_file("pip/pip.conf", ".pip/pip.conf", "PIP_CONFIG_FILE") < 0 ||
            keep_user_file("uv/uv.toml", NULL, "UV_CONFIG_FILE") < 0 || setenv("HOME", install->scratch, 1) < 0 ||
            setenv("PIP_NO_CACHE_DIR", "1", 1) < 0)
                return fail(ret_error, "out of memory");
        for (size_t i = 0; i < ELEMENTS(away); i++)
                (void)unsetenv(away[i]);
        return box_allow_variables(install->box, ret_error);
}

/* Takes away what would make an installer install elsewhere, ask, or draw; and what is between the daemon and its service manager,
 * for the installer runs code of the packages. */
static int prepare_environment(const struct install *install, char **ret_error) {
        static const char *const away[] = {"PYTHONHOME",
                                           "PYTHONPATH",
                                           "PYTHONSTARTUP",
                                           "VIRTUAL_ENV",
                                           "CONDA_PREFIX",
                                           "PIP_TARGET",
                                           "PIP_PREFIX",
                                           "PIP_ROOT",
                                           "PIP_PYTHON",
                                           "PIP_DRY_RUN",
                                           "PIP_REQUIREMENT",
                                           "NOTIFY_SOCKET",
                                           "CREDENTIALS_DIRECTORY",
                                           "LISTEN_FDS",
                                           "LISTEN_FDNAMES",
                                           "LISTEN_PID",
                                           "WATCHDOG_PID",
                                           "WATCHDOG_USEC"};
        static const char *const set[][2] = {{"NO_COLOR", "1"},           {"PIP_DISABLE_PIP_VERSION_CHECK", "1"},
                                             {"PIP_NO_INPUT", "1"},       {"PIP_NO_WARN_SCRIPT_LOCATION", "1"},
                                             {"PIP_PROGRESS_BAR", "off"}, {"PIP_ROOT_USER_ACTION", "ignore"},
                                             {"PIP_USE_PEP517", "1"},     {"PIP_USER", "0"}};

        for (size_t i = 0; i < ELEMENTS(away); i++)
                (void)unsetenv(away[i]);
        for (size_t i = 0; i < ELEMENTS(set); i++)
                (void)setenv(set[i][0], set[i][1], 1);
        if (setenv("TMPDIR", install->scratch, 1) < 0)
                return fail(ret_error, "out of memory");
        return install->box->off ? 0 : move_home(install, ret_error);
}

/* Return: the path of uv if it is to be used. */
static char *choose_uv(const struct install *install) {
        CLEANUP_FREE char *uv = install->installer == INSTALLER_PIP || install->rules->only_binary ? NULL : run_find("uv");
        const char *variable = untranslatable();

        if (!uv || install->installer == INSTALLER_UV)
                return TAKE(uv);
        if (!variable && !has_pip_conf(install->interpreter))
                return TAKE(uv);
        say("using pip and not uv, which would not follow %.*s", variable ? (int)strcspn(variable, "=") : 8,
            variable ? variable : "pip.conf");
        return NULL;
}

int install_requirements(const struct install *install, char **ret_installer, char **ret_error) {
        CLEANUP_FREE char *uv = choose_uv(install), *python = NULL;
        int r;

        if (asprintf(&python, "%s/bin/python", install->venv) < 0) {
                python = NULL;
                return fail(ret_error, "out of memory");
        }
        if (!uv && install->installer == INSTALLER_UV)
                return fail(ret_error, "there is no uv in PATH; install it or let the installer be pip");
        install->box->alone = install->rules->only_binary;
        if (install->rules->wheelhouse && words_add(&install->box->named_read, install->rules->wheelhouse) < 0)
                return fail(ret_error, "out of memory");
        r = prepare_environment(install, ret_error);
        if (r < 0)
                return r;
        if (!uv)
                return install_with_pip(install, python, ret_installer, ret_error);
        r = install_with_uv(install, uv, python, ret_error);
        return r < 0 || (*ret_installer = strdup("uv")) ? r : fail(ret_error, "out of memory");
}
