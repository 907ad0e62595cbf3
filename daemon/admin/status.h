/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The daemon and its plugins as they are.
 */

#include "admin/service.h"
#include "host/session.h"

/* Appends the map of control method `status` (docs/protocol.md). */
void status_put(const struct service *service, const struct hosts *hosts, struct buf *out);
