/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One connected stream socket on the loop that speaks msgpack-RPC: a host, a worker, an administrator.
 *
 * The connection reads into its own buffer, finds whole messages and hands each to `on_message`; the bytes of the message are
 * valid until that callback returns; who needs a large part of them longer shares it (rpc_msg.memory). It writes at once what the socket takes and keeps the rest, up to a limit. It reads one
 * message at a time and never more than `limits.frame_bytes` ahead, so a peer cannot make it hold more.
 *
 * A peer that sends without end gets its share of each turn of the loop and no more. When the peer is gone, breaks the protocol or lets
 * the output grow beyond its limit, `on_close` is called exactly once, from the loop; the owner then calls conn_free(). No
 * callback is called after conn_free(), which may be called from inside any of them.
 */

#include <event2/event.h>

#include "wire/carry.h"
#include "wire/rpc.h"

struct conn;

struct conn_limits {
        size_t frame_bytes;  /* longest message accepted */
        size_t output_bytes; /* most bytes kept for a peer that does not read */
};

enum conn_end {
        CONN_CLOSED, /* by the peer, between messages */
        CONN_LOST,   /* the peer is gone, in the middle of a message or of an answer */
        CONN_BROKEN, /* by us: the protocol or a limit was not kept, or memory is short */
};

struct conn_handler {
        void (*on_message)(void *data, const struct rpc_msg *msg);
        void (*on_close)(void *data, enum conn_end end, const char *reason); /* `reason`: a sentence */
        /* The connection's buffers have `bytes` by now. Return: NULL, or why that is too much, and the connection is closed.
         * NULL for a callback: it never is. */
        const char *(*on_memory)(void *data, size_t bytes);
};

/* Takes over `fd` in any case. Return: 0 or -ENOMEM. */
int conn_new(struct conn **ret, struct event_base *base, int fd, const struct conn_limits *limits,
             const struct conn_handler *handler, void *data);

/* Closes and frees; what was not written is lost. NULL is fine. Return: NULL. */
struct conn *conn_free(struct conn *conn);
void conn_freep(struct conn **conn);
#define CLEANUP_CONN CLEANUP(conn_freep)

/* Where to append messages that are to be sent; conn_flush() then sends them. */
struct buf *conn_output(struct conn *conn);

/* Appends what `tail` holds and leaves it empty. If it is shared (base/buf.h), that is no copy, unless more is appended before it is sent. */
void conn_put_tail(struct conn *conn, struct buf *tail);

/* Sends what was appended. An append that failed (memory, limit) closes the connection, from the loop. */
void conn_flush(struct conn *conn);

/* Stops and continues reading: back-pressure on a peer with too much under way. */
void conn_pause(struct conn *conn);
void conn_resume(struct conn *conn);

/* Return: bytes that wait to be written. */
size_t conn_pending(const struct conn *conn);

/* Return: its descriptor, which stays its own. */
int conn_fd(const struct conn *conn);

/* Return: bytes of both buffers, as on_memory is told; of an adopted connection it is not, at first. */
size_t conn_memory(const struct conn *conn);

/* wire/carry.h. What has arrived and what waits to be sent come along. */
void conn_save(const struct conn *conn, struct carry *carry);
int conn_adopt(struct conn **ret, struct event_base *base, struct mp saved, const struct conn_limits *limits,
               const struct conn_handler *handler, void *data);
