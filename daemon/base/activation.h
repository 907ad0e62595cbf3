/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The listening sockets that the service manager has opened for us (sd_listen_fds(3)). They outlive us: who connects while we
 * are being started again waits, and is not refused.
 */

/* Takes the socket of that name (FileDescriptorName= of the unit), else one bound to `path`. It is the caller's then, close-on-exec
 * and non-blocking. Return: the descriptor, -1 if there is none. */
int activation_take(const char *name, const char *path);

/* Closes what was not taken, with a warning. */
void activation_done(void);
