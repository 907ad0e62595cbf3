/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control socket: status, reload, venv.list, venv.build and the methods that the host socket has too, but for invoke.
 * Who may open the socket file may administer.
 */

#include "admin/service.h"
#include "host/session.h"

struct control;

int control_new(struct control **ret, struct event_base *base, struct service *service, struct hosts *hosts);

/* A connection of the listener. Takes over `fd`. */
void control_accept(struct control *control, int fd);

/* Ends what administrators wait for: the daemon is stopping. */
void control_stop(struct control *control);

struct control *control_free(struct control *control);
