/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A host that writes anything, in pieces of any size. Whatever the pieces, the daemon must see the messages that one look
 * at all of the bytes finds, and then exactly one end.
 *
 * Input: the size of the pieces, what the owner of the connection does (bit 0: pauses after each message, bit 1: frees it at
 * message number bits 2…), and the host's bytes.
 */

#include <sys/socket.h>

#include "fuzz.h"
#include "wire/conn.h"

#define FRAME_BYTES 512

struct owner {
        struct conn *conn;
        uint8_t manner;
        unsigned messages, closes;
        bool orderly, freed;
};

static void on_message(void *data, const struct rpc_msg *msg) {
        struct owner *owner = data;

        CHECK(!owner->freed && owner->closes == 0);
        if (owner->messages++ == (owner->manner >> 2) && (owner->manner & 2)) {
                owner->conn = conn_free(owner->conn);
                owner->freed = true;
                return;
        }
        rpc_put_protocol_error(conn_output(owner->conn), msg->id, "limit", "%u", owner->messages);
        conn_flush(owner->conn);
        if (owner->manner & 1)
                conn_pause(owner->conn);
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        struct owner *owner = data;

        CHECK(!owner->freed && owner->closes++ == 0 && reason);
        owner->orderly = end == CONN_CLOSED;
        owner->conn = conn_free(owner->conn);
}

/* Return: how many messages the bytes begin with; *ret_whole: and nothing else. */
static unsigned count_messages(const uint8_t *data, size_t len, bool *ret_whole) {
        struct rpc_msg msg;
        unsigned n = 0;

        for (*ret_whole = true; len > 0; n++) {
                struct mp_scan scan = {0};

                *ret_whole =
                        mp_scan(&scan, data, len, FRAME_BYTES) == MP_SCAN_DONE && !rpc_parse((struct mp){data, scan.pos}, &msg);
                if (!*ret_whole)
                        break;
                data += scan.pos;
                len -= scan.pos;
        }
        return n;
}

static void turn(struct event_base *base, struct owner *owner, int peer) {
        char answers[4096];

        if (owner->conn)
                conn_resume(owner->conn);
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        while (recv(peer, answers, sizeof(answers), MSG_DONTWAIT) > 0)
                ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close};
        static const struct conn_limits limits = {.frame_bytes = FRAME_BYTES, .output_bytes = 1 << 20};
        static struct event_base *base;
        struct owner owner = {0};
        int pair[2];
        bool whole;
        size_t piece;
        unsigned n;

        if (len < 2)
                return 0;
        base = base ? base : event_base_new();
        owner.manner = data[1];
        piece = MAX((size_t)data[0], len / 64 + 1);
        n = count_messages(data + 2, len - 2, &whole);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        CHECK(conn_new(&owner.conn, base, pair[0], &limits, &handler, &owner) == 0);
        for (size_t at = 2; at < len; at += piece) {
                (void)send(pair[1], data + at, MIN(piece, len - at), MSG_NOSIGNAL);
                turn(base, &owner, pair[1]);
        }
        (void)shutdown(pair[1], SHUT_WR);
        for (unsigned i = 0; i < 1000 && owner.conn; i++)
                turn(base, &owner, pair[1]);
        (void)close(pair[1]);
        CHECK(!owner.conn);
        if (!owner.freed)
                CHECK(owner.messages == n && owner.closes == 1 && owner.orderly == whole);
        return 0;
}
