/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A venv is nearly independent of its place: Python finds what belongs to it from where its bin/python is. What holds absolute
 * paths are texts: the first lines of the scripts in bin/, the activate scripts there, and a note in pyvenv.cfg. They are rewritten for
 * the final place. (Byte code holds them too, and Python corrects them when it loads it.) Both places are in one folder and their
 * names occur nowhere else, so it is enough to exchange the names.
 */

#include "venv/builder.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "venv/report.h"
#include "venv/run.h"
#include "venv/say.h"
#include "venv/tree.h"

static int run_step(const char *what, const char *const *argv, usec_t timeout_usec, char **ret_error) {
        CLEANUP_REPORT struct report report = {.prefix = what};
        const struct run run = {.argv = argv, .timeout_usec = timeout_usec, .on_line = report_line, .data = &report};
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

/* What installers leave in a folder for temporary files when they are killed goes with the unfinished venv. */
static int install(const struct build *build, usec_t timeout_usec, char **ret_installer, char **ret_error) {
        const struct install install = {
                .interpreter = build->interpreter,
                .venv = build->building,
                .requirements = build->requirements,
                .installer = build->installer,
                .timeout_usec = timeout_usec,
        };
        char folder[PATH_MAX];
        int r;

        if (snprintf(folder, sizeof(folder), "%s/.tmp", build->building) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        if (mkdir(folder, 0700) < 0 || setenv("TMPDIR", folder, 1) < 0)
                return fail(ret_error, "%s cannot be made: %m", folder);
        r = install_requirements(&install, ret_installer, ret_error);
        (void)unsetenv("TMPDIR");
        if (tree_remove(folder) < 0 && r == 0)
                return fail(ret_error, "%s cannot be removed: %m", folder);
        return r;
}

int build_venv(const struct build *build, char **ret_installer, char **ret_error) {
        const usec_t until = clock_now_usec() + build->timeout_usec;
        CLEANUP_FREE char *installer = NULL;
        char python[PATH_MAX];
        int r;

        if (snprintf(python, sizeof(python), "%s/bin/python", build->building) >= PATH_MAX)
                return fail(ret_error, "the path of the cache is too long");
        r = run_step("venv",
                     (const char *[]){build->interpreter->path, "-I", "-m", "venv", "--without-pip", build->building, NULL},
                     build->timeout_usec, ret_error);
        if (r == 0 && build->requirements) {
                const usec_t now = clock_now_usec();

                r = install(build, until > now ? until - now : 0, &installer, ret_error);
        }
        r = r ? r : move_texts(build->building, build->place, ret_error);
        r = r ? r : run_step("the new venv", (const char *[]){python, "-I", "-c", "pass", NULL}, build->timeout_usec, ret_error);
        if (r < 0)
                return r;
        if (!installer && !(installer = strdup("none")))
                return fail(ret_error, "out of memory");
        *ret_installer = TAKE(installer);
        return 0;
}
