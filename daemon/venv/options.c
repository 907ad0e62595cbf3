/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A list of words, made once for each plugin, so that who runs cpexd-venv needs to know nothing of the settings, nor to outlive them.
 */

#include "venv/options.h"

#include <inttypes.h>
#include <stdio.h>

static int add_number(struct strlist *list, const char *option, uint64_t value) {
        char number[24];

        if (value == 0)
                return 0;
        (void)snprintf(number, sizeof(number), "%" PRIu64, value);
        return strlist_append_option(list, option, number);
}

int venv_options(struct strlist *ret, const struct venv_settings *settings, const struct sandbox *sandbox) {
        int r = settings->sandbox ? 0 : strlist_append(ret, "--no-sandbox");

        if (r == 0 && sandbox->require)
                r = strlist_append(ret, "--require-sandbox");
        if (r == 0 && settings->only_binary)
                r = strlist_append(ret, "--only-binary");
        if (r == 0 && settings->require_hashes)
                r = strlist_append(ret, "--require-hashes");
        if (r == 0 && settings->wheelhouse)
                r = strlist_append_option(ret, "--wheelhouse", settings->wheelhouse);
        r = r ? r : strlist_append_options(ret, "--read", &settings->read);
        r = r ? r : strlist_append_options(ret, "--env", &settings->env);
        r = r ? r : add_number(ret, "--tasks", cgroups_control(CGROUP_TASKS) ? 0 : sandbox->tasks);
        r = r ? r : add_number(ret, "--max-bytes", settings->max_bytes);
        return r ? r : add_number(ret, "--timeout", settings->timeout_usec / USEC_PER_SEC);
}

struct cgroup_limits venv_limits(const struct venv_settings *settings, const struct sandbox *sandbox) {
        return (struct cgroup_limits){.memory_bytes = settings->memory_bytes, .tasks = sandbox->tasks};
}
