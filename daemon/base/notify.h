/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Telling systemd how we are (sd_notify(3)). Without libsystemd, or when nobody asked (NOTIFY_SOCKET), nothing happens.
 */

#include "base/util.h"

void notify_ready(void);
void notify_reloading(void); /* each must be followed by notify_ready() */
void notify_stopping(void);
void notify_status(const char *format, ...) PRINTF_LIKE(1, 2);
