/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RELOADING=1 carries MONOTONIC_USEC, so that systemd 253 and later can use Type=notify-reload.
 */

#include "base/notify.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "config.h"

#if HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#else
static int sd_notify(int unset, const char *state) {
        (void)unset;
        (void)state;
        return 0;
}
#endif

void notify_ready(void) {
        (void)sd_notify(0, "READY=1");
}

void notify_reloading(void) {
        char state[64];

        (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_now_usec());
        (void)sd_notify(0, state);
}

void notify_stopping(void) {
        (void)sd_notify(0, "STOPPING=1");
}

void notify_status(const char *format, ...) {
        char state[512] = "STATUS=";
        va_list args;

        va_start(args, format);
        (void)vsnprintf(state + 7, sizeof(state) - 7, format, args);
        va_end(args);
        (void)sd_notify(0, state);
}
