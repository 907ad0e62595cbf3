/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rights are asked for with each request and not when a peer connects, by the configuration that serves then: what a reload takes away is gone
 * at once. What the kernel says of the peer is of the moment in which it connected, as with any Unix socket.
 */

#include "host/access.h"

#include <fnmatch.h>
#include <stdio.h>
#include <sys/socket.h>

#define GROUPS_MAX 65536 /* NGROUPS_MAX of Linux */
#define HOOK_BYTES 256
#define SHOWN_BYTES 128

static int read_groups(struct peer *peer, int fd) {
        socklen_t len = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0)
                return 0;
        if (errno != ERANGE || len > GROUPS_MAX * sizeof(gid_t))
                return -errno;
        peer->groups = malloc(len);
        if (!peer->groups)
                return -ENOMEM;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &len) < 0)
                return -errno;
        peer->n_groups = len / sizeof(gid_t);
        return 0;
}

int peer_read(struct peer *ret, int fd) {
        struct ucred credentials;
        socklen_t len = sizeof(credentials);
        struct peer peer = {0};
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
                return -errno;
        peer.pid = credentials.pid;
        peer.uid = credentials.uid;
        peer.gid = credentials.gid;
        peer.trusted = peer.uid == 0 || peer.uid == geteuid();
        r = read_groups(&peer, fd);
        if (r < 0) {
                peer_done(&peer);
                return r;
        }
        *ret = peer;
        return 0;
}

void peer_done(struct peer *peer) {
        free(peer->groups);
        *peer = (struct peer){0};
}

static bool is_member(const struct peer *peer, gid_t gid) {
        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == gid)
                        return true;
        return peer->gid == gid;
}

static bool is_meant(const struct caller *caller, const struct peer *peer) {
        switch (caller->kind) {
        case CALLER_ANY:
                return true;
        case CALLER_USER:
                return peer->uid == caller->id;
        case CALLER_GROUP:
                return is_member(peer, caller->id);
        }
        return false;
}

static bool fits(const struct strlist *patterns, const struct mp *hook) {
        char name[HOOK_BYTES];

        if (patterns->n == 0 || !hook)
                return true;
        if (hook->len == 0 || hook->len >= sizeof(name) || memchr(hook->data, 0, hook->len))
                return false; /* no hook at all */
        memcpy(name, hook->data, hook->len);
        name[hook->len] = 0;
        for (size_t i = 0; i < patterns->n; i++)
                if (fnmatch(patterns->items[i], name, 0) == 0)
                        return true;
        return false;
}

bool access_allows(const struct callers *callers, const struct peer *peer, const struct mp *hook) {
        if (peer->trusted)
                return true;
        for (size_t i = 0; i < callers->n; i++)
                if (is_meant(&callers->items[i], peer) && fits(&callers->items[i].hooks, hook))
                        return true;
        return false;
}

bool access_is_free(const struct rpc_msg *msg) {
        return rpc_method_is(msg, "hello") || rpc_method_is(msg, "ping");
}

void refusals_add(struct refusals *refusals, const char *socket, const struct peer *peer, const char *why, const char *setting) {
        usec_t now = clock_now_usec();

        refusals->total++;
        refusals->unsaid++;
        if (refusals->said_usec > 0 && now - refusals->said_usec < USEC_PER_SEC)
                return;
        log_warning("%s pid %d uid %u: refused: %s (%s); %u refused since the last such line", socket, (int)peer->pid,
                    (unsigned)peer->uid, why, setting, refusals->unsaid);
        refusals->said_usec = now;
        refusals->unsaid = 0;
}

void refusals_forbid(struct refusals *refusals, const char *socket, const struct peer *peer, uint32_t msgid, struct mp what,
                     const char *setting, struct buf *out) {
        char why[SHOWN_BYTES + 32];

        (void)snprintf(why, sizeof(why), "it may not call \"%.*s\"", (int)MIN(what.len, (size_t)SHOWN_BYTES),
                       what.len > 0 ? (const char *)what.data : "");
        rpc_put_protocol_error(out, msgid, "forbidden", "user %u: %s; %s in cpexd.yaml says who may", (unsigned)peer->uid, why,
                               setting);
        refusals_add(refusals, socket, peer, why, setting);
}
