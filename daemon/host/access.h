/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who a peer is, by the word of the kernel, and what it may do by `access` of cpexd.yaml. Root and the daemon's own user may do all.
 */

#include <sys/types.h>

#include "base/clock.h"
#include "config/model.h"
#include "wire/rpc.h"

struct peer {
        pid_t pid; /* when it connected; for the log */
        uid_t uid;
        gid_t gid, *groups;
        size_t n_groups;
        bool trusted; /* root, or the daemon's own user */
};

/* Asks the kernel about who connected. Return: 0 or a negative errno. */
int peer_read(struct peer *ret, int fd);
void peer_done(struct peer *peer);

/* Whether the callers include the peer, for the hook (the content of a str; NULL: for anything). */
bool access_allows(const struct callers *callers, const struct peer *peer, const struct mp *hook);

/* Whether the method tells nothing, so that everybody who is connected may call it: hello and ping. */
bool access_is_free(const struct rpc_msg *msg);

/* The refusals of one kind: all are counted, and one line a second is logged. */
struct refusals {
        uint64_t total;
        unsigned unsaid;
        usec_t said_usec;
};

/* `socket`: "host" or "control socket"; `setting`: what would have to be changed. */
void refusals_add(struct refusals *refusals, const char *socket, const struct peer *peer, const char *why, const char *setting);

/* Answers a request that the peer may not make with an error, `forbidden`, and counts it. `what`: a hook or a method, as the peer sent it. */
void refusals_forbid(struct refusals *refusals, const char *socket, const struct peer *peer, uint32_t msgid, struct mp what,
                     const char *setting, struct buf *out);
