/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Installing requirements into a venv, with uv or pip. */

#include "base/clock.h"
#include "venv/box.h"
#include "venv/interpreter.h"

enum installer { INSTALLER_AUTO, INSTALLER_UV, INSTALLER_PIP, INSTALLER_MAX_ };

/* Return: an enum installer, or -EINVAL. */
int installer_from_name(const char *name);

/* What may be installed. */
struct rules {
        bool require_hashes;    /* nothing whose hash the requirements do not give */
        bool only_binary;       /* no package that would have to be built */
        const char *wheelhouse; /* a folder, and nothing from elsewhere; NULL: indexes */
};

struct install {
        struct interpreter *interpreter; /* the base */
        const char *venv;
        const char *requirements;
        const char *scratch; /* an empty folder: home and temporary files of the installer */
        const struct rules *rules;
        struct box *box;
        enum installer installer;
        usec_t timeout_usec;
};

#define INSTALL_REPORT "report.json" /* in `scratch`: what pip says it has installed */

/* Return: 0 with what was used ("pip 23.0.1"), or negative with the reason. */
int install_requirements(const struct install *install, char **ret_installer, char **ret_error);
