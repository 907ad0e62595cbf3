/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The command line of cpexctl. Options may stand before or after the command.
 */

#include "base/buf.h"

enum exit_code {
        EXIT_OK = 0,
        EXIT_REFUSED = 1, /* a blocked call, a refused reload or upgrade, a file with mistakes, a venv that failed */
        EXIT_ERROR = 2,   /* everything else, also a wrong command line */
};

struct options {
        const struct command *command;
        const char *argument; /* the one after the command: HOOK, FILE, PLUGIN, list or build */
        bool json;
        const char *socket, *control; /* as given; NULL: not */
        uint64_t timeout_usec;        /* CPEXD_NO_TIMEOUT: none */

        const char *payload, *payload_type, *context, *extensions, *plugin;
        const char *contexts_in, *contexts_out;
        uint32_t timeout_ms;
        bool violations_as_exceptions, timing;
        const char *plugins; /* check: a plugins.yaml */
        bool follow, count_given;
        uint32_t count;         /* logs: lines; top: looks */
        uint64_t interval_usec; /* top */
};

struct command {
        const char *name;
        const char *argument; /* how it is called in --help; NULL: takes none */
        bool argument_required;
        bool waits;          /* may take as long as it takes: no timeout of its own */
        const char *options; /* the letters of the options it takes beside the global ones */
        const char *summary;
        int (*run)(const struct options *options);
};

/* Reads the command line. Return: a negative number to go on, else the status to exit with (--help, --version, or a mistake,
 * which has been told). */
int options_parse(struct options *ret, int argc, char **argv);

/* The paths of the two sockets, from the options, the environment (CPEXD_SOCKET, CPEXD_CONTROL) and the daemon's defaults.
 * Return: a new string, NULL where memory is short. */
char *options_socket(const struct options *options);
char *options_control(const struct options *options);

int command_status(const struct options *options);
int command_plugins(const struct options *options);
int command_hooks(const struct options *options);
int command_ping(const struct options *options);
int command_check(const struct options *options);
int command_invoke(const struct options *options);
int command_reload(const struct options *options);
int command_upgrade(const struct options *options);
int command_explain(const struct options *options);
int command_logs(const struct options *options);
int command_top(const struct options *options);
int command_venv(const struct options *options);
