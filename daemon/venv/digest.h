/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * SHA-256 over a sequence of named things. Each goes in with its name and length, so that two different sequences never add up
 * to the same bytes.
 */

#include "base/util.h"

#define DIGEST_HEX_BYTES 65

struct digest;

int digest_new(struct digest **ret); /* 0 or -ENOMEM */
struct digest *digest_free(struct digest *digest);
static inline void digest_freep(struct digest **digest) {
        (void)digest_free(*digest);
}
#define CLEANUP_DIGEST CLEANUP(digest_freep)

void digest_add(struct digest *digest, const char *name, const char *text);

/* A file's content, or a folder's files by name and content (without what building leaves behind: see docs/venvs.md).
 * Return: 0, or negative with the reason, for instance that there is too much of it. */
int digest_add_path(struct digest *digest, const char *name, const char *path, char **ret_error);

/* Of files beyond 1 MiB only size and time of change count from here on. For what is looked at often and has no fingerprint to keep. */
void digest_be_quick(struct digest *digest);

/* Finishes. Return: 0 or -EIO. */
int digest_hex(struct digest *digest, char ret[DIGEST_HEX_BYTES]);
