/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A venv is nearly independent of its place: Python finds what belongs to it from where its bin/python is. What holds absolute
 * paths are texts: the first lines of the scripts in bin/, the activate scripts there, and a note in pyvenv.cfg. They are rewritten for
 * the final place. (Byte code holds them too, and Python corrects them when it loads it.) Both places are in one folder and their
 * names occur nowhere else, so it is enough to exchange the names.
 */

#include "venv/builder.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "venv/audit.h"
#include "venv/report.h"
#include "venv/run.h"
#include "venv/say.h"
#include "venv/tree.h"

static int run_step(const char *what, const char *const *argv, struct box *box, usec_t timeout_usec, char **ret_error) {
        CLEANUP_REPORT struct report report = {.prefix = what};
        const struct run run = {.argv = argv, .box = box, .timeout_usec = timeout_usec, .on_line = report_line, .data = &report};
        CLEANUP_FREE char *reason = NULL, *text = NULL;
        int status, r;

        r = run_command(&run, &status, &reason);
        if (r < 0)
                return fail(ret_error, "%s failed: %s", what, reason ? reason : "out of memory");
        if (status == 0)
                return 0;
        text = report_text(&report, status);
        if (text && strstr(text, "No module named venv"))
                return fail(ret_error, "%s has no module venv; on Debian and Ubuntu run \"apt-get install python3-venv\"",
                            argv[0]);
        return fail(ret_error, "%s failed: %s", what, text ? text : "out of memory");
}

static int move_texts(const char *building, const char *place, char **ret_error) {
        const char *from = strrchr(building, '/') + 1, *to = strrchr(place, '/') + 1;
        char path[PATH_MAX];
        struct dirent *entry;
        DIR *dir;
        int r;

        if (snprintf(path, sizeof(path), "%s/bin", building) >= PATH_MAX || !(dir = opendir(path)))
                return fail(ret_error, "%s/bin cannot be read: %m", building);
        r = 0;
        while (r == 0 && (entry = readdir(dir)))
                if (snprintf(path, sizeof(path), "%s/bin/%s", building, entry->d_name) < PATH_MAX)
                        r = file_replace(path, from, to);
        (void)closedir(dir);
        if (r == 0) {
                (void)snprintf(path, sizeof(path), "%s/pyvenv.cfg", building);
                r = file_replace(path, from, to);
        }
        errno = -r;
        return r < 0 ? fail(ret_error, "%s cannot be rewritten: %m", path) : 0;
}

/* ---- What a package must leave alone ---- */

/* By these the launcher tells where the interpreter is, and lets workers read that. */
static const char *const fixed[] = {"bin", "lib", "bin/python", "bin/python3", "pyvenv.cfg"};

struct state {
        char text[ELEMENTS(fixed)][PATH_MAX]; /* what kind of a file each is, and a link's target or a file's text */
        char python[PATH_MAX];                /* where bin/python leads in the end, by whatever links */
};

static void read_state(const char *building, struct state *ret) {
        char python[PATH_MAX];

        (void)snprintf(python, sizeof(python), "%s/bin/python", building);
        if (!realpath(python, ret->python))
                ret->python[0] = 0;
        for (size_t i = 0; i < ELEMENTS(fixed); i++) {
                CLEANUP_FD int fd = -1;
                char path[PATH_MAX], *text = ret->text[i];
                struct stat st = {0};
                ssize_t n = 0;

                (void)snprintf(path, sizeof(path), "%s/%s", building, fixed[i]);
                (void)lstat(path, &st);
                if (S_ISLNK(st.st_mode))
                        n = readlink(path, text + 1, PATH_MAX - 2);
                else if (S_ISREG(st.st_mode) && (fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) >= 0)
                        n = read(fd, text + 1, PATH_MAX - 2);
                text[0] = S_ISLNK(st.st_mode) ? 'l' : S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : '-';
                text[1 + MAX(n, (ssize_t)0)] = 0;
        }
}

static int check_state(const char *building, const struct state *before, char **ret_error) {
        CLEANUP_FREE struct state *now = calloc(1, sizeof(*now));

        if (!now)
                return fail(ret_error, "out of memory");
        read_state(building, now);
        for (size_t i = 0; i < ELEMENTS(fixed); i++)
                if (memcmp(before->text[i], now->text[i], sizeof(now->text[i])) !=
                    0) /* all of it: a text may have a NUL inside */
                        return fail(ret_error, "a package has changed %s of the venv, which decides what runs in it", fixed[i]);
        if (!str_eq(before->python, now->python))
                return fail(ret_error,
                            "a package has changed what bin/python of the venv leads to, which decides what runs in it");
        return 0;
}

/* ---- The steps ---- */

/* What installers leave in a folder for temporary files when they are killed goes with the unfinished venv. */
static int install(const struct build *build, usec_t timeout_usec, char **ret_installer, char **ret_error) {
        CLEANUP_FREE struct state *state = calloc(1, sizeof(*state));
        char folder[PATH_MAX], path[PATH_MAX];
        const struct install install = {
                .interpreter = build->interpreter,
                .venv = build->building,
                .requirements = build->requirements,
                .scratch = folder,
                .rules = build->rules,
                .box = build->box,
                .installer = build->installer,
                .timeout_usec = timeout_usec,
        };
        int r;

        if (!state)
                return fail(ret_error, "out of memory");
        read_state(build->building, state);
        if (snprintf(folder, sizeof(folder), "%s/.tmp", build->building) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        if (mkdir(folder, 0700) < 0)
                return fail(ret_error, "%s cannot be made: %m", folder);
        r = install_requirements(&install, ret_installer, ret_error);
        if (r == 0 && box_is_full(build->box, USEC_INFINITY))
                r = fail(ret_error, "it takes more than %llu MiB of the disk (venv.max_bytes)",
                         (unsigned long long)(build->box->max_bytes >> 20));
        if (r == 0 && snprintf(path, sizeof(path), "%s/" INSTALL_REPORT, folder) < PATH_MAX &&
            !(*build->packages = audit_packages(build->building, path)))
                r = fail(ret_error, "out of memory");
        if (tree_remove(folder) < 0 && r == 0)
                return fail(ret_error, "%s cannot be removed: %m", folder);
        return r ? r : check_state(build->building, state, ret_error);
}

int build_venv(const struct build *build, char **ret_installer, char **ret_error) {
        const usec_t until = clock_now_usec() + build->timeout_usec;
        CLEANUP_FREE char *installer = NULL;
        char python[PATH_MAX];
        int r;

        if (snprintf(python, sizeof(python), "%s/bin/python", build->building) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        r = run_step("venv",
                     (const char *[]){build->interpreter->path, "-I", "-m", "venv", "--without-pip", build->building, NULL}, NULL,
                     build->timeout_usec, ret_error);
        free(build->box->folder);
        build->box->folder = strdup(build->building);
        build->box->finished = false;
        if (r == 0 && !build->box->folder)
                r = fail(ret_error, "out of memory");
        if (r == 0 && build->requirements) {
                const usec_t now = clock_now_usec();

                r = install(build, until > now ? until - now : 0, &installer, ret_error);
        }
        r = r ? r : move_texts(build->building, build->place, ret_error);
        /* What is run here already is the packages' (*.pth). */
        build->box->finished = true;
        r = r ? r
              : run_step("the new venv", (const char *[]){python, "-I", "-c", "pass", NULL}, build->box, build->timeout_usec,
                         ret_error);
        if (r < 0)
                return r;
        if (!installer && !(installer = strdup("none")))
                return fail(ret_error, "out of memory");
        *ret_installer = TAKE(installer);
        return 0;
}
