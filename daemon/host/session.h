/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The connected hosts. A session is one host: its requests, its calls in flight, its limits. Whatever a host does, and
 * however it goes, costs only its own session: a broken protocol ends it, a disconnect withdraws its calls.
 */

#include <event2/event.h>

#include "host/access.h"
#include "pipeline/invocation.h"
#include "wire/rpc.h"

struct hosts;

/* `current` is where the serving generation is found; there must be one before the first host is accepted. Return: 0 or -ENOMEM. */
int hosts_new(struct hosts **ret, struct event_base *base, struct generation *const *current);

/* A connection of the listener. Takes over `fd`. */
void hosts_accept(struct hosts *hosts, int fd);

/* Another generation serves: those who asked for it in their hello are told. */
void hosts_tell_generation(struct hosts *hosts);

/* From now on new calls are refused (`stopping`); those that are still in flight after `drain_usec` are answered with the same. `idle` is
 * called once, from the loop, when no call is in flight and the answers are written. */
void hosts_stop(struct hosts *hosts, usec_t drain_usec, void (*idle)(void *data), void *data);

/* wire/carry.h. To be adopted when new, after the generation that serves. */
void hosts_save(const struct hosts *hosts, struct carry *carry);
int hosts_adopt(struct hosts *hosts, struct mp saved);

/* Ends all sessions. Return: NULL. */
struct hosts *hosts_free(struct hosts *hosts);

struct hosts_counts {
        unsigned connected, calls_active;
        uint64_t calls_total, calls_failed, decisions_dropped;
};
struct hosts_counts hosts_counts(const struct hosts *hosts);

/* Requests that their callers may not make, on either socket. */
struct refusals *hosts_forbidden(struct hosts *hosts);

/* The methods that any peer may call on either socket. Return: whether it was one of them; the answer is then appended. */
bool host_method(struct generation *generation, const struct rpc_msg *msg, struct buf *out);
