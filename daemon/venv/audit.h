/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What was installed, for the log and for the venv's description. */

#include <jansson.h>

#include "base/util.h"

/* Says of each package in a venv its name, its version, and the hash of the archive that it came from, where `report`, a file that pip has
 * written, knows it (it need not be there). Return: an array of {name, version, sha256}; NULL without memory. */
json_t *audit_packages(const char *venv, const char *report);
