/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where cpexd's own files lie. A cpexd that runs from its build folder, without installation, uses the parts beside it.
 */

#include "admin/service.h"

/* Fills in the paths. Return: 0 or -ENOMEM; to be released in either case. */
int parts_find(struct service_args *ret);
void parts_done(struct service_args *args);
