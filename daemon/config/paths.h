/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Paths as texts, and the folders that cpexd uses when nobody names any.
 */

#include <sys/un.h>

#include "base/util.h"

#define PATH_SOCKET_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1) /* bytes */

/* Return: `path` if absolute, else below `base`; without doubled slashes and "." steps. The caller frees it; NULL: no memory. */
char *path_join(const char *base, const char *path);

/* Return: the folder that `path` lies in. The caller frees it; NULL: no memory. */
char *path_parent(const char *path);

/* Return: the part after the last slash. */
const char *path_basename(const char *path);

/* Return: whether a relative path climbs out of where it starts. */
bool path_climbs(const char *path);

/* Return: 0 or -ENOMEM, or the errno of getcwd(). */
int path_working_folder(char **ret);

/* The default folders: systemd's, when it made one for the service (RUNTIME_DIRECTORY, CACHE_DIRECTORY, CONFIGURATION_DIRECTORY); else
 * /run/cpexd and /var/cache/cpexd for root, below XDG_RUNTIME_DIR and ~/.cache for others, and /etc/cpexd for all. Return: 0, -ENOMEM, or
 * -ENOENT where the environment names none. */
int path_runtime_folder(char **ret);
int path_cache_folder(char **ret);
int path_config_folder(char **ret);
