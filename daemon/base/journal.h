/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The journal's native protocol: an entry is a datagram of fields.
 */

#include <event2/event.h>
#include <sys/un.h>

#include "base/buf.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

struct journal {
        int fd;
        struct sockaddr_un address;
        struct event *retry; /* NULL: entries that cannot be sent at once are refused */
        struct buf waiting;  /* entries, each after its length */
};

struct journal_field {
        const char *name; /* A to Z, 0 to 9 and _ */
        const void *value;
        size_t len;
};

/* Return: 0 or a negative errno. Whether anybody reads there is seen when something is sent. */
int journal_open(struct journal *ret, const char *path);

/* From now on entries for which the journal has no room wait, up to a bound, and are sent by the loop. Return: 0 or -ENOMEM. */
int journal_attach(struct journal *journal, struct event_base *base);

/* The loop ends: those that still wait are sent, within a short time, or dropped. */
void journal_detach(struct journal *journal);

/* Sends an entry, or has it wait; never waits itself. Return: 0 or a negative errno; -EAGAIN: there is no room. */
int journal_send(struct journal *journal, const struct journal_field *fields, size_t n);
