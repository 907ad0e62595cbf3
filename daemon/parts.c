/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The launcher beside our own executable tells a build folder from an installation: an installed one lies in libexec, never
 * beside the daemon. In a build folder the Python parts are those of the source tree, so that a change to them needs no build.
 */

#include "parts.h"

#include <limits.h>
#include <stdio.h>

#include "config.h"

static char *join(const char *folder, const char *name) {
        char *path;

        return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* Return: whether the folder of our executable, which is written to `ret`, is a build folder. */
static bool in_build_folder(char ret[PATH_MAX]) {
        char launcher[PATH_MAX + 16];
        ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
        char *slash;

        if (n < 0)
                return false;
        ret[n] = 0;
        slash = strrchr(ret, '/');
        if (!slash)
                return false;
        *slash = 0;
        (void)snprintf(launcher, sizeof(launcher), "%s/cpexd-launch", ret);
        return access(launcher, X_OK) == 0;
}

int parts_find(struct service_args *ret) {
        char own[PATH_MAX];
        bool built = in_build_folder(own);
        const char *programs = built ? own : CPEXD_LIBEXECDIR;
        struct pool_layout *layout = &ret->layout;

        ret->renderer = join(programs, "cpexd-render.py");
        layout->launcher = join(programs, "cpexd-launch");
        layout->venv_builder = join(programs, "cpexd-venv");
        layout->ext_dir = built ? join(own, "worker-shim") : strdup(CPEXD_LIBEXECDIR);
        layout->shim_dir = strdup(built ? CPEXD_SOURCE_SHIMDIR "/shim" : CPEXD_SHAREDIR "/shim");
        layout->sdk_dir = strdup(built ? CPEXD_SOURCE_SHIMDIR : CPEXD_SHAREDIR "/sdk");
        return ret->renderer && layout->launcher && layout->venv_builder && layout->ext_dir && layout->shim_dir && layout->sdk_dir
                       ? 0
                       : -ENOMEM;
}

void parts_done(struct service_args *args) {
        free((char *)args->renderer);
        free((char *)args->layout.launcher);
        free((char *)args->layout.venv_builder);
        free((char *)args->layout.ext_dir);
        free((char *)args->layout.shim_dir);
        free((char *)args->layout.sdk_dir);
}
