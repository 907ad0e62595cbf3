/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How upstream reaches the server of an external plugin: what its models demand of mcp, grpc and unix_socket beyond the types of the fields.
 */

#include "config/value.h"

/* Complains about what is wrong in them, in an entry of any kind, as upstream does. */
void transport_check(struct reader *reader, const struct at *at, const struct node *entry);
