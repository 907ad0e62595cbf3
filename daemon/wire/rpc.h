/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * msgpack-RPC messages (docs/protocol.md): taking one apart in place, and writing one.
 */

#include "wire/mp.h"

enum rpc_kind { RPC_REQUEST = 0, RPC_RESPONSE = 1, RPC_NOTIFICATION = 2 };

struct rpc_msg {
        enum rpc_kind kind;
        uint32_t id;        /* not for notifications */
        struct mp method;   /* str content; requests and notifications */
        struct mp params;   /* the map in the array of parameters; empty map where none was given */
        struct mp error;    /* nil or the error's map; responses */
        struct mp result;   /* responses */
        uint64_t values;    /* that the arrays and maps of the message declare */
        struct buf *memory; /* where all of it lies, for buf_share(); NULL: it must be copied */
};

/* Takes the scanned value apart. Return: NULL, or the sentence that says what is wrong with it. */
const char *rpc_parse(struct mp value, struct rpc_msg *ret);

/* Return: how many values a message has, with those in the documents (bin) of its map; where that is more than `most`, perhaps not all. */
uint64_t rpc_values(const struct rpc_msg *msg, uint64_t most);

bool rpc_method_is(const struct rpc_msg *msg, const char *method);

/* The beginnings of messages; the caller appends exactly one value (the map of parameters, the error's map, the result). */
void rpc_put_request(struct buf *buf, uint32_t id, const char *method);
void rpc_put_notification(struct buf *buf, const char *method);
void rpc_put_result(struct buf *buf, uint32_t id);

/* An error: the caller appends the error's map, then calls rpc_put_error_end(). */
void rpc_put_error(struct buf *buf, uint32_t id);
void rpc_put_error_end(struct buf *buf);

/* A whole error response of type ProtocolError. */
void rpc_put_protocol_error(struct buf *buf, uint32_t id, const char *code, const char *format, ...) PRINTF_LIKE(4, 5);

/* The map {limit, value, maximum, setting} of an error's details. */
void rpc_put_limit(struct buf *buf, const char *limit, uint64_t value, uint64_t maximum, const char *setting);

/* A whole error response with code `limit`; all numbers and the setting are in its sentence, too. */
void rpc_put_limit_error(struct buf *buf, uint32_t id, const char *message, const char *limit, uint64_t value, uint64_t maximum,
                         const char *setting);

/* Notification `core` (base/core.h), unless the peer knows already. `told`: 0 at first. */
void rpc_tell_core(struct buf *buf, unsigned *told);
