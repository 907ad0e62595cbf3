/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an administrator may ask of the venv cache.
 */

#include "pipeline/generation.h"

/* Appends the result of venv.list: {venvs: [{fingerprint, python, created, plugins}]}, those in use first, then what else the cache holds. */
void venvs_put_list(const struct generation *generation, struct buf *buf);

struct venv_build;

/* `results` is the result of venv.build: {venvs: [{plugin, fingerprint, built, error}]}; of venv.verify, which has `differences`, an array of
 * str, in the place of `built`. */
typedef void (*venv_build_callback)(void *data, const struct buf *results);

/* Builds the missing venvs of a generation's plugins (`plugin`: of that one only), or verifies those that they have, one after the other. The callback is called once, from the
 * loop. Takes a reference on the generation. Return: 0 or -ENOMEM. */
int venv_build_start(struct venv_build **ret, struct event_base *base, struct generation *generation, const char *plugin,
                     bool verify, venv_build_callback callback, void *data);
struct venv_build *venv_build_free(struct venv_build *build);
