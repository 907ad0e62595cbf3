/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A small blocking client of cpexd.
 *
 * One client is one connection with at most one call under way; threads take a client each. Parameters and results are msgpack
 * as docs/protocol.md has them, so any msgpack library makes and reads them. Functions return 0 or a negative errno; what the
 * daemon answers, also when it is an error, counts as success and stands in `struct cpexd_reply`.
 *
 *     struct cpexd_client *client;
 *     struct cpexd_reply reply;
 *     struct cpexd_invocation call = {.hook = "tool_pre_invoke", .payload = payload, .payload_len = len, .request_id = "r1"};
 *
 *     if (cpexd_connect(&client, "/run/cpexd/cpexd.sock", 1000000) == 0) {
 *             if (cpexd_invoke(client, &call, 5000000, &reply) == 0)
 *                     … reply.failed, reply.data, reply.len …
 *             cpexd_disconnect(client);
 *     }
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CPEXD_PUBLIC __attribute__((visibility("default")))

#define CPEXD_NO_TIMEOUT UINT64_MAX

/* The longest answer accepted, in bytes. */
#define CPEXD_FRAME_BYTES ((size_t)256 << 20)

struct cpexd_client;

struct cpexd_reply {
        bool failed;      /* `data` is the error's map; else it is the result */
        const void *data; /* one well-formed msgpack value, valid until the next call on this client */
        size_t len;       /* bytes */
};

/* One call of a hook. Zeroed fields are not sent. */
struct cpexd_invocation {
        const char *hook;    /* required */
        const void *payload; /* required: one msgpack value */
        size_t payload_len;

        const char *request_id; /* this or `context`, which is a msgpack map with a `request_id` */
        const void *context;
        size_t context_len;

        const void *contexts; /* the content of `contexts` in the last answer to this request */
        size_t contexts_len;
        const void *extensions; /* a msgpack map */
        size_t extensions_len;

        const char *payload_type;
        const char *plugin;  /* run only this plugin */
        uint32_t timeout_ms; /* the daemon's budget for the whole call, in milliseconds */
        bool violations_as_exceptions;
        bool timing; /* the answer says where the time went */
};

/*
 * Connects to the Unix socket at `path`.
 *
 * Return: 0 with *ret set; -ENOENT or -ECONNREFUSED where nobody listens, -EACCES, -ENAMETOOLONG, -ETIMEDOUT, or another
 * negative errno.
 */
CPEXD_PUBLIC int cpexd_connect(struct cpexd_client **ret, const char *path, uint64_t timeout_usec);

/* Closes the connection and frees the client. NULL is fine. */
CPEXD_PUBLIC void cpexd_disconnect(struct cpexd_client *client);

/*
 * Calls `method` with `params`, a msgpack map (`params_len` 0: an empty one), and waits for the answer. Notifications that
 * arrive meanwhile are dropped.
 *
 * Return: 0 with *ret set. -EINVAL: `params` is no msgpack map; nothing was sent. -ETIMEDOUT: the time was over; where the
 * request had been sent whole the daemon is told to cancel the call and the client can be used again. Else the connection is
 * gone (-ECONNRESET), the daemon sent what is not the protocol (-EPROTO) or too much (-EMSGSIZE), or memory is short (-ENOMEM),
 * and every later call returns -ENOTCONN.
 */
CPEXD_PUBLIC int cpexd_call(struct cpexd_client *client, const char *method, const void *params, size_t params_len,
                            uint64_t timeout_usec, struct cpexd_reply *ret);

/*
 * Calls a hook. The answer is the map that docs/protocol.md describes under `invoke`.
 *
 * Return: as cpexd_call(); -EINVAL also where the hook, the payload or the request id is missing, or a part is not what the
 * struct says.
 */
CPEXD_PUBLIC int cpexd_invoke(struct cpexd_client *client, const struct cpexd_invocation *invocation, uint64_t timeout_usec,
                              struct cpexd_reply *ret);

/* Return: a sentence on what the last failed function met; empty after a success. Valid until the next call. */
CPEXD_PUBLIC const char *cpexd_problem(const struct cpexd_client *client);

#ifdef __cplusplus
}
#endif
