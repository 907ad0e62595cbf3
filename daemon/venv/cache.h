/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The folder of finished venvs, each under its fingerprint, which several processes use at the same time.
 *
 *     DIR/venvs/<fingerprint>/                    a venv; complete if and only if cpexd-venv.json in it says so, and as it was built if
 *                                                 it is what cpexd-venv.files in it says
 *     DIR/venvs/<fingerprint>.lock                held (flock) by who builds it
 *     DIR/venvs/.building-<fingerprint>-<pid>/    not finished, or left by a builder that died
 */

#include <jansson.h>

#include "base/clock.h"
#include "venv/manifest.h"

struct cache {
        char *folder; /* DIR/venvs, absolute, without symbolic links */
        int fd;       /* of it */
};
void cache_done(struct cache *cache);
#define CLEANUP_CACHE CLEANUP(cache_done)

struct cache_entry {
        char *fingerprint;
        char *python;       /* version */
        char *interpreter;  /* path */
        char *installer;    /* "none", "pip 23.0.1", "uv" */
        char *requirements; /* summary */
        json_t *packages;   /* audit.h; NULL: none */
        struct seal seal;
        uint64_t size_bytes;
        int64_t created_sec, used_sec; /* since 1970 */
};
void cache_entry_done(struct cache_entry *entry);

/* `create`: make the folders that are missing. Refuses a DIR or DIR/venvs that belongs to somebody other than this user or root, or
 * that others can write to. Return: 0, or negative with the reason. */
int cache_open(struct cache *ret, const char *dir, bool create, char **ret_error);

/* Compares a venv with what was built. `differs` is told of each difference. Return: how many there are, or negative with the reason. */
int cache_verify(const struct cache *cache, const char *fingerprint, void (*differs)(void *data, const char *what), void *data,
                 char **ret_error);

/* Whether the venv is there, complete, as it was built, and nobody else's; says what is not as it was, and notes the use. */
bool cache_find(const struct cache *cache, const char *fingerprint);

/* Return: 0 with the lock, to be given up by closing it; or negative with the reason. Says so when it has to wait. */
int cache_lock(const struct cache *cache, const char *fingerprint, usec_t timeout_usec, int *ret_lock_fd, char **ret_error);

/* With the lock on `fingerprint` held: removes what dead builders left, and a venv of that name that is not complete.
 * Return: 0 with the path to build in, which does not exist; or negative with the reason. */
int cache_prepare(const struct cache *cache, const char *fingerprint, char **ret_building, char **ret_error);

/* Makes the venv at `building` durable and complete, and gives it its name. `entry`: size, times and seal are filled in here.
 * Return: 0, or negative with the reason; `building` is then still there. */
int cache_commit(const struct cache *cache, const char *building, struct cache_entry *entry, char **ret_error);

/* Removes `building`, of which nothing may be left. */
void cache_abandon(const char *building);

/* Return: the path of the venv, NULL without memory. */
char *cache_path(const struct cache *cache, const char *fingerprint);

/* Every complete venv, in order of use, the latest first. Return: 0, or negative with the reason. */
int cache_list(const struct cache *cache, struct cache_entry **ret, size_t *ret_n, char **ret_error);
