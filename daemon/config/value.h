/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading one value of a tree as what a key wants. Each function either stores and returns true, or complains at the value's place and
 * returns false. What was stored before is freed first.
 */

#include "config/tree.h"

struct reader {
        struct report report;
        const char *base;       /* absolute folder that relative paths are relative to */
        bool base_secret;       /* it, or what of the file goes before a path, is not to be shown */
        bool in_daemon_file;    /* cpexd.yaml is read, and not plugins.yaml */
        bool disabled;          /* the plugin whose entry is read is not to start */
        struct origin *origins; /* where what stands in `isolation` comes from; NULL: that is not kept */
};

/* Complains: "expected WANTED, found …". Return: false. */
bool value_refuse(struct reader *reader, const struct at *at, const struct node *node, const char *format, ...) PRINTF_LIKE(4, 5);

/* ---- As pydantic reads them ---- */

bool value_text(struct reader *reader, const struct at *at, const struct node *node, char **ret);
bool value_int(struct reader *reader, const struct at *at, const struct node *node, int64_t *ret);
bool value_bool(struct reader *reader, const struct at *at, const struct node *node, bool *ret);
bool value_float(struct reader *reader, const struct at *at, const struct node *node, double *ret);

/* A list of texts; with `set` each but once. */
bool value_texts(struct reader *reader, const struct at *at, const struct node *node, bool set, struct strlist *ret);

/* One of `names`; complains with a suggestion and all that is allowed. */
bool value_choice(struct reader *reader, const struct at *at, const struct node *node, const char *const *names, size_t n,
                  int *ret);

/* ---- Our own ---- */

bool value_path(struct reader *reader, const struct at *at, const struct node *node, char **ret);
bool value_program(struct reader *reader, const struct at *at, const struct node *node, char **ret);
bool value_count(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret);
bool value_bytes(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret);
bool value_duration(struct reader *reader, const struct at *at, const struct node *node, usec_t *ret);
bool value_mode(struct reader *reader, const struct at *at, const struct node *node, uint64_t *ret);

/* Amounts as they are written: "512M", "30s". */
void put_bytes(struct buf *buf, uint64_t bytes);
void put_duration(struct buf *buf, usec_t usec);

/* A warning for a key that nobody reads. */
void value_unknown_key(struct reader *reader, const struct at *at, const struct node *key, const char *const *names, size_t n);
