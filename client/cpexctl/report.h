/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Calls to the daemon on behalf of a command, and how what goes wrong is told: a sentence on standard error, or with --json the
 * object {"error": {…}} on standard output.
 */

#include "lib/cpexd-client.h"
#include "options.h"
#include "text.h"
#include "wire/mp.h"

/* Tells a problem of our own. Return: EXIT_ERROR. */
int report_error(const struct options *options, const char *code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Tells an error of the daemon, a map. Return: EXIT_ERROR. */
int report_daemon_error(const struct options *options, struct mp error);

/* Writes the buffer and, where it does not end with one, a newline to standard output. Return: `status`, or EXIT_ERROR when
 * that failed. */
int report_output(const struct options *options, struct buf *buf, int status);

/* Writes the table. Return: as above. */
int report_table(const struct options *options, const struct text_table *table, int status);

/* Writes the value as JSON on one line. Return: as above. */
int report_json(const struct options *options, struct mp value, int status);

/* Connects to the host or the control socket. Return: NULL after telling what is wrong. */
struct cpexd_client *daemon_connect(const struct options *options, bool control);
void daemon_disconnectp(struct cpexd_client **client);
#define CLEANUP_DAEMON CLEANUP(daemon_disconnectp)

/* Calls a method with a map of parameters (or an empty slice). Return: whether there is a reply, which may be an error of the
 * daemon's; what else can go wrong has been told. */
bool daemon_call(struct cpexd_client *client, const struct options *options, const char *method, struct mp params,
                 struct cpexd_reply *ret);

/* The same for those to whom an error of the daemon's is one as any other. Return: whether *ret is the result. */
bool daemon_ask(struct cpexd_client *client, const struct options *options, const char *method, struct mp params, struct mp *ret);

/* Tells a failure of the client library on this connection. Return: EXIT_ERROR. */
int report_failure(const struct options *options, const struct cpexd_client *client, int error);

/* What stands under a key of an answer. Absent or of another type: an empty slice, no text, 0, `otherwise`. */
struct mp map_get(struct mp map, const char *key); /* the value; nil counts as absent */
uint64_t map_uint(struct mp map, const char *key);
bool map_bool(struct mp map, const char *key, bool otherwise);

/* Begins a walk through the items of an array; what is no array has none. */
struct mp_cur array_begin(struct mp array, uint32_t *ret_n);

/* Appends where the time of a call went; nothing where the map is empty. Return: 0 or -ENOMEM. */
int report_put_timing(struct buf *out, struct mp timing);

/* Appends a line for each group that plugins of `status` are in: who they are. */
void report_put_groups(struct buf *out, struct mp plugins);

/* Return: the first plugin before this one with the same workers, those of its group; an empty slice where there is none. */
struct mp report_fellow(struct mp plugins, struct mp plugin);

/* Appends the texts of an array, each on a line of its own and indented: mistakes and warnings. */
void report_put_texts(struct buf *out, struct mp array);
