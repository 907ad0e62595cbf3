/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The last lines of the log in memory, for `cpexctl logs`: what plugins print and what the daemon says of them, each plugin's in a ring of
 * its own (log.keep), so that none pushes out another's. What the daemon says of itself has one, too.
 *
 * Who follows holds nothing but a number: how far it has read. So a slow reader costs no memory; it is told how many lines were gone when it came.
 */

#include "admin/service.h"

struct logs;

/* `on_news` is called from the loop when there are lines that were not there at its last call. There is at most one at a time. Return:
 * 0 or -ENOMEM. */
int logs_new(struct logs **ret, struct event_base *base, const struct service *service, void (*on_news)(void *data), void *data);
struct logs *logs_free(struct logs *logs);

/* wire/carry.h. To be adopted when new. */
void logs_save(const struct logs *logs, struct carry *carry);
int logs_adopt(struct logs *logs, struct mp saved);

#define LOGS_LINES_MAX 1000 /* in one answer */

struct logs_query {
        char *plugin;   /* NULL: all, and the daemon itself */
        bool has_after; /* the oldest after what was read, else the last ones */
        bool follow;    /* where there are none, when there are */
        uint64_t after; /* as `next` of an answer said */
        uint64_t lines; /* the most that are wanted */
};

/* Reads the parameters of control method `logs` (docs/protocol.md). Return: NULL, or a sentence that says which is wrong. */
const char *logs_query_read(struct mp params, struct logs_query *ret);
void logs_query_done(struct logs_query *query);

/* Return: whether there is any line of that plugin. */
bool logs_know(const struct logs *logs, const char *plugin);

/* Return: whether there is anything after what was read. */
bool logs_has_news(const struct logs *logs, const struct logs_query *query);

/* Appends the map of control method `logs` (docs/protocol.md). */
void logs_put(const struct logs *logs, const struct logs_query *query, struct buf *buf);
