/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket: the methods of docs/protocol.md for administrators, and those that the host socket has too, but for invoke. Who may
 * use which is for the setting `access` to say.
 */

#include "admin/service.h"
#include "admin/upgrade.h"
#include "host/session.h"

struct control;

int control_new(struct control **ret, struct event_base *base, struct service *service, struct hosts *hosts,
                struct upgrade *upgrade);

/* A connection of the listener. Takes over `fd`. */
void control_accept(struct control *control, int fd);

/* wire/carry.h. While control_obstacle() is a sentence, it cannot be saved. To be adopted when new. */
const char *control_obstacle(const struct control *control);
void control_save(const struct control *control, struct carry *carry);
int control_adopt(struct control *control, struct mp saved);

/* What came of an upgrade. */
struct upgrade_result {
        struct mp from; /* the version before; str content */
        uint64_t workers, hosts, calls;
};

/* Answers those who wait for an upgrade. */
void control_upgraded(struct control *control, const struct upgrade_result *result);
void control_upgrade_refused(struct control *control, const char *why);

/* Ends what administrators wait for: the daemon is stopping. */
void control_stop(struct control *control);

struct control *control_free(struct control *control);
