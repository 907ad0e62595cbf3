/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading the two files. One run reports every mistake, each with file:line:column, the path in the document, what was found and
 * what is allowed; warnings (an unknown key, with a suggestion) do not refuse the file.
 */

#include "config/model.h"

struct event_base;

struct place {
        unsigned line, column; /* from 1; 0: the file or the line as a whole */
};

enum diag_severity {
        DIAG_ERROR, /* the file is refused */
        /* CPEX takes it, and so does the daemon, to which it is a warning; but a plugin will not start, or without what its entry names: to
         * `cpexd --check` it is a mistake */
        DIAG_FAULT,
        DIAG_WARNING,
};

struct diag {
        enum diag_severity severity;
        unsigned line, column; /* 0: none */
        bool cause;            /* of what else is said of its line, and so goes before that */
        char *text; /* "plugins.yaml:14:11: plugins[2] \"pii\": mode: unknown value \"transfrom\"; did you mean \"transform\"?" */
};

struct diags {
        struct diag *items;
        size_t n, errors; /* of very many mistakes the first 1000 are kept */
};
void diags_done(struct diags *diags);

/* What the command line says over cpexd.yaml; NULL: nothing. Relative paths are relative to the working directory. */
struct config_overrides {
        const char *plugins, *socket, *control;
};

/* What to read, and with what. */
struct config_source {
        const char *path; /* of cpexd.yaml; NULL: the defaults. Relative paths in it are relative to its folder. */
        const struct config_overrides *overrides; /* NULL: none */
        const char *renderer;                     /* the script that renders a plugins.yaml which needs Jinja2 */
};

/* `r`: 0 with both configurations, which are the callee's; -EINVAL with reasons in the diags; or another negative errno. */
typedef void (*config_loaded)(void *data, int r, struct daemon_config *daemon, struct plugins_config *plugins);

struct config_load;

/* Loads cpexd.yaml and the plugins.yaml that it names, so that one run reports the mistakes of both. The loop is not held: files are read in
 * a thread, templates rendered in a child. The callback is called once, from the loop, and may free the load; `source` is copied but for the
 * renderer, which must live until then, as must `diags`, which get what there is to say in place of what was in them.
 * Return: 0 or a negative errno. */
int config_load_start(struct config_load **ret, struct event_base *base, const struct config_source *source, struct diags *diags,
                      config_loaded callback, void *data);

/* Ends what is under way; the callback is not called any more. NULL does nothing. Return: NULL. */
struct config_load *config_load_free(struct config_load *load);

/* The same for those who have no loop to keep running: waits. Return: as `r` above. */
int config_load(struct daemon_config **ret_daemon, struct plugins_config **ret_plugins, const struct config_source *source,
                struct diags *diags);

/* ---- The steps of it ---- */

/* Return: 0 with what could be read, even where mistakes were counted; or negative. */
int daemon_config_load(struct daemon_config **ret, const char *path, const struct config_overrides *overrides,
                       struct diags *diags);

/* From bytes that are in memory already. `path`: what file they stand for. Return: 0, -EINVAL with reasons in `diags`, or -ENOMEM. */
int daemon_config_parse(struct daemon_config **ret, const char *path, const char *text, size_t len,
                        const struct config_overrides *overrides, struct diags *diags);

struct config_text {
        const char *text;
        size_t len;
};

/* Return: as above, or -EOPNOTSUPP where the text needs Jinja2, with the place of what does. */
int plugins_config_parse(struct plugins_config **ret, const struct daemon_config *daemon, struct config_text text,
                         struct place *ret_beyond, struct diags *diags);

/* From what Jinja2 made of `source`. Places in complaints are those in `rendered`, and say so; a value is shown only if it stands in `source`. */
int plugins_config_parse_rendered(struct plugins_config **ret, const struct daemon_config *daemon, struct config_text rendered,
                                  struct config_text source, struct diags *diags);
