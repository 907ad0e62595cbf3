/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config/tree.h"

/* Fills the pairs of a map from what stands in it, keys and values in turn. Return: 0, -EINVAL with a reason in `report`, or -ENOMEM. */
int map_fill(struct tree *tree, struct report *report, struct node *map, struct node *const *nodes, size_t n_nodes);
