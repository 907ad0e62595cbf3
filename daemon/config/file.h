/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config/diag.h"

/* Reads a file of at most 1 MiB. Return: 0, -EINVAL with a reason in `report`, or -ENOMEM. `hint`: what to do when it is missing. */
int file_read(struct buf *buf, const char *path, const char *hint, struct report *report);
