/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The parts of the one cpexd of this process. main.c puts them together and takes them apart, takeover.c carries them across an upgrade.
 */

#include <event2/event.h>

#include "admin/control.h"
#include "admin/metrics.h"
#include "admin/upgrade.h"
#include "host/listener.h"

struct cpexd {
        struct event_base *base;
        struct upgrade *upgrade; /* NULL: it is too late for one */
        struct service *service;
        struct hosts *hosts;
        struct control *control;
        struct metrics *metrics;
        struct listener *host_listener, *control_listener;
        struct event *watchdog; /* NULL: nobody wants to know */
        struct event *signals[5];
        struct event *stop_timer;
        bool stopping;
        bool upgrading; /* the loop has ended for that */
        int status;
};

/* main.c */
extern const struct service_handler cpexd_service_handler;
void cpexd_on_host(void *data, int fd);
void cpexd_on_admin(void *data, int fd);

/* takeover.c. Their data is the cpexd. */
extern const struct upgrade_handler cpexd_upgrade_handler;

/* Makes all parts but base and upgrade of a state. Return: 0 or a negative errno, with the reason logged; the process is to end then. */
int cpexd_take_over(struct cpexd *cpexd, const struct service_args *args, struct mp state);

/* All is taken over and signals are handled: says so to whoever wants to know. */
void cpexd_taken_over(struct cpexd *cpexd, struct mp state);
