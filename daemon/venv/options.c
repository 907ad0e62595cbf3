/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A list of words, made once for each plugin, so that who runs cpexd-venv needs to know nothing of the settings, nor to outlive them.
 */

#include "venv/options.h"

#include <inttypes.h>
#include <stdio.h>

static int add(struct strlist *list, const char *option, const char *value) {
        return strlist_append(list, option) == 0 && (!value || strlist_append(list, value) == 0) ? 0 : -ENOMEM;
}

static int add_number(struct strlist *list, const char *option, uint64_t value) {
        char number[24];

        if (value == 0)
                return 0;
        (void)snprintf(number, sizeof(number), "%" PRIu64, value);
        return add(list, option, number);
}

static int add_each(struct strlist *list, const char *option, const struct strlist *values) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < values->n; i++)
                r = add(list, option, values->items[i]);
        return r;
}

int venv_options(struct strlist *ret, const struct venv_settings *settings, const struct sandbox *sandbox) {
        int r = settings->sandbox ? 0 : add(ret, "--no-sandbox", NULL);

        if (r == 0 && sandbox->require)
                r = add(ret, "--require-sandbox", NULL);
        if (r == 0 && settings->only_binary)
                r = add(ret, "--only-binary", NULL);
        if (r == 0 && settings->require_hashes)
                r = add(ret, "--require-hashes", NULL);
        if (r == 0 && settings->wheelhouse)
                r = add(ret, "--wheelhouse", settings->wheelhouse);
        r = r ? r : add_each(ret, "--read", &settings->read);
        r = r ? r : add_each(ret, "--env", &settings->env);
        r = r ? r : add_number(ret, "--tasks", sandbox->tasks);
        r = r ? r : add_number(ret, "--max-bytes", settings->max_bytes);
        return r ? r : add_number(ret, "--timeout", settings->timeout_usec / USEC_PER_SEC);
}
