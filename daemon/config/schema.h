/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Every key of cpexd.yaml, and so of `isolation` in a plugin's entry, in one table: what it is called, what it takes, what it is when not
 * given, and one sentence. Reading, defaults, the sample file and the manual come from it.
 */

#include <stdio.h>

#include "config/value.h"

enum key_type {
        KEY_PATH,
        KEY_ENTRY_PATH, /* a path that only a plugin's entry gives */
        KEY_ENTRY_NAME, /* a name, likewise */
        KEY_PROGRAM,
        KEY_MODE,
        KEY_LEVEL,
        KEY_COUNT,
        KEY_BYTES,
        KEY_DURATION,
        KEY_BOOL,
        KEY_DECISIONS,
        KEY_STARTUP,
        KEY_TIERS,
        KEY_NAMES,
        KEY_PROFILE,
        KEY_NETWORK,
        KEY_PATHS,
        KEY_CALLERS,
        KEY_HOOK_CALLERS, /* each of whom may be limited to some hooks */
        KEY_HOOK_POLICY,
        KEY_HOOK_POLICIES,
};

struct config_key {
        const char *name; /* "socket.path" */
        enum key_type type;
        size_t offset, size; /* in struct daemon_config */
        uint64_t min, max;   /* of amounts */
        const char *initial; /* as in the file; "null": not set, and null may be given */
        bool reloadable;     /* else it counts from the next start */
        const char *sentence;
};

extern const struct config_key config_keys[];
extern const size_t n_config_keys;

/* Fills `config` with the defaults; the paths are those of root. Return: 0 or -ENOMEM. */
int schema_defaults(struct daemon_config *config);

/* Reads the value of one key from a text that stands in no file. `object`, `offset`: as in schema_read(). */
void schema_read_text(struct reader *reader, const struct at *at, const char *name, const char *text, void *object,
                      size_t offset);

/* Reads a map. `prefix`: "" for cpexd.yaml, "isolation" for a plugin's; `object` then is what lies at `offset` in a daemon_config. */
void schema_read(struct reader *reader, const struct at *at, const struct node *map, const char *prefix, void *object,
                 size_t offset);

/* Return: the key of that name, which there must be. */
const struct config_key *schema_key(const char *name);

/* Return: where the origin of a key is kept; NULL: the key is none of `isolation`. */
struct origin *schema_origin(struct origin *origins, const struct config_key *key);
struct origin origin_of(const struct reader *reader, const struct node *node);

/* isolation.workers: what was given counts; a default gives way to it. */
void schema_settle_workers(struct reader *reader, const struct at *at, const struct node *isolation, struct isolation *values);

/* {hook: [fields]} or {hook: {writable_fields: [fields]}}. Replaces what `policies` has for the hook. */
void schema_read_policies(struct reader *reader, const struct at *at, const struct node *map, struct hook_policies *policies);

/* "allow" and "deny" */
bool schema_read_hook_policy(struct reader *reader, const struct at *at, const struct node *node, int *ret_deny);

/* Writes a cpexd.yaml that has every key with its sentence, at its default and commented out: conf/cpexd.yaml. */
void config_describe(FILE *file);
