/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What cpexd-venv is told of the configuration. */

#include "config/model.h"
#include "pool/cgroup.h"

/* Appends the options for a plugin with this sandbox. Return: 0 or -ENOMEM; *ret is to be taken down in any case. */
int venv_options(struct strlist *ret, const struct venv_settings *settings, const struct sandbox *sandbox);

/* What is limited by a control group of the build's own, where there are any. */
struct cgroup_limits venv_limits(const struct venv_settings *settings, const struct sandbox *sandbox);
