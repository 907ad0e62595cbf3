/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A listening Unix stream socket: one that the service manager has opened (base/activation.h), or one of our own.
 *
 * A socket file that nobody listens on any more is replaced; one that somebody serves is refused (-EADDRINUSE). Two daemons that start
 * at once cannot both win: the file is checked and bound under a lock beside it. When descriptors run out, accepting pauses
 * for 100 ms instead of spinning, and says so at most once a second.
 */

#include <event2/event.h>

#include "config/model.h"
#include "wire/carry.h"

struct listener;

/* Called for each connection; takes over `fd`, which is non-blocking and close-on-exec. */
typedef void (*listener_callback)(void *data, int fd);

/* `fd`: the manager's socket, which is taken over; -1: there is none. Then one is made at the configured path, and its folder where that
 * is missing. Return: 0, -EADDRINUSE when another process serves it, or another negative errno. */
int listener_new(struct listener **ret, struct event_base *base, const struct socket_config *config, int fd,
                 listener_callback on_connection, void *data);

/* wire/carry.h. */
void listener_save(const struct listener *listener, struct carry *carry);
int listener_adopt(struct listener **ret, struct event_base *base, struct mp saved, listener_callback on_connection, void *data);

/* Where it listens; of the manager's socket this is not the configured path but its own. */
const char *listener_path(const struct listener *listener);

/* A new listener lets connections wait in the kernel's queue; from now on they are taken. */
void listener_start(struct listener *listener);

/* Takes no more connections. */
void listener_stop(struct listener *listener);

/* Return: its descriptor, which stays its own. */
int listener_fd(const struct listener *listener);

/* Closes, and removes the socket file if it is still ours; the manager's is never. Return: NULL. */
struct listener *listener_free(struct listener *listener);
