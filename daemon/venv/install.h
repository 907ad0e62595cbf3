/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Installing requirements into a venv, with uv or pip. */

#include "base/clock.h"
#include "venv/interpreter.h"

enum installer { INSTALLER_AUTO, INSTALLER_UV, INSTALLER_PIP, INSTALLER_MAX_ };

/* Return: an enum installer, or -EINVAL. */
int installer_from_name(const char *name);

struct install {
        struct interpreter *interpreter; /* the base */
        const char *venv;
        const char *requirements;
        enum installer installer;
        usec_t timeout_usec;
};

/* Return: 0 with what was used ("pip 23.0.1"), or negative with the reason. */
int install_requirements(const struct install *install, char **ret_installer, char **ret_error);
