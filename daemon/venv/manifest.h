/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a venv is made of: every file with its mode, its size and a hash, and every folder and link, in a list that lies in the venv. The list's own
 * hash is in the venv's description (cache.h).
 */

#include "venv/digest.h"

#define MANIFEST "cpexd-venv.files"

struct seal {
        char files[DIGEST_HEX_BYTES]; /* the hash of the list */
        int64_t changed_nsec;         /* when the last change of any file was; what changes later is later */
};

/* Takes the permission to write from all files, and writes the list. Return: 0, or negative with the reason. */
int manifest_write(const char *venv, struct seal *ret, char **ret_error);

/* Compares. `quick`: only of files that were changed since is the content read. `differs` is told of each difference.
 * Return: how many there are, or negative with the reason why that cannot be told. */
int manifest_check(const char *venv, const struct seal *seal, bool quick, void (*differs)(void *data, const char *what),
                   void *data, char **ret_error);
