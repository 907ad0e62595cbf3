/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Telling the service manager how we are (sd_notify(3)). When nobody asked (NOTIFY_SOCKET), nothing happens.
 */

#include <event2/event.h>

#include "base/clock.h"
#include "base/util.h"

void notify_ready(void);
void notify_reloading(void);            /* each must be followed by notify_ready() */
void notify_stopping(usec_t most_usec); /* the stop may take that long */
void notify_status(const char *format, ...) PRINTF_LIKE(1, 2);

/* What is under way is in order and may take this much longer, whatever the unit's timeout is. */
void notify_extend(usec_t usec);

/* Tells a watchdog that the loop turns, for as long as the event lives. Return: 0, also where there is no watchdog (*ret is then
 * NULL), or -ENOMEM. */
int notify_watchdog_new(struct event **ret, struct event_base *base);
