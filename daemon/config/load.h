/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading the two files. One run reports every mistake, each with file:line:column, the path in the document, what was found and
 * what is allowed; warnings (an unknown key, with a suggestion) do not refuse the file.
 */

#include "config/model.h"

enum diag_severity { DIAG_ERROR, DIAG_WARNING };

struct diag {
        enum diag_severity severity;
        unsigned line, column; /* 0: none */
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

/* Loads cpexd.yaml (`path` NULL: the defaults). Relative paths in the file are relative to its folder.
 * Return: 0 with *ret set, -EINVAL with reasons in `diags`, or another negative errno. */
int daemon_config_load(struct daemon_config **ret, const char *path, const struct config_overrides *overrides,
                       struct diags *diags);

/* Loads the plugins.yaml that `daemon` names. Return: as above. */
int plugins_config_load(struct plugins_config **ret, const struct daemon_config *daemon, struct diags *diags);

/* Both, one after the other, so that one run reports the mistakes of both. Return: as above. */
int config_load(struct daemon_config **ret_daemon, struct plugins_config **ret_plugins, const char *path,
                const struct config_overrides *overrides, struct diags *diags);

/* The first two for bytes that are in memory already. `path`: what file they stand for. */
int daemon_config_parse(struct daemon_config **ret, const char *path, const char *text, size_t len,
                        const struct config_overrides *overrides, struct diags *diags);
int plugins_config_parse(struct plugins_config **ret, const struct daemon_config *daemon, const char *text, size_t len,
                         struct diags *diags);
