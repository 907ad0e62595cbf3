/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The parameters of a host's `invoke` and a worker's answer to one, taken apart in place and checked for types.
 *
 * What is passed on sits deeper in the next message than in this one, so it may be nested only REQUEST_DEPTH_MAX deep: a value that
 * comes in can always go out again.
 */

#include "wire/mp.h"

#define REQUEST_DEPTH_MAX 100

/* docs/protocol.md, invoke. All slices; empty where a parameter is absent or nil. The context's values and the extensions are of any type
 * until they are held against CPEX's models (request_check()). */
struct request {
        struct mp hook;    /* str content */
        struct mp payload; /* content of the document */
        struct mp payload_type;
        struct mp context; /* map; always there */
        struct mp request_id, user, tenant_id, server_id, content_type, state, metadata;
        struct mp contexts; /* content of the bin */
        struct mp table;    /* of the contexts, if they are of this request: map from plugin to {"state", "metadata"} */
        struct mp extensions;
        struct mp plugin;    /* str */
        uint64_t timeout_ms; /* 0: none */
        bool violations_as_exceptions;
        bool timing; /* the answer is to say where the time went */
        bool direct; /* `plugin` alone, without the pipeline's rules */
};

/* Return: NULL, or a sentence that says which parameter is wrong. */
const char *request_parse(struct mp params, struct request *ret);

/* Whether context and extensions are what CPEX's models take, and with `payload_too`, as far as we know its model, the payload. Return: 0, or the number of pairs appended to `error`, which make an error's
 * map (docs/protocol.md) of a ValidationError. */
size_t request_check(const struct request *request, bool payload_too, struct buf *error);

/* A worker's answer. Absent keys are neutral: true, empty, 0. */
struct answer {
        bool continue_processing;
        struct mp modified_payload; /* content of the document */
        struct mp payload_type;     /* str value; empty: the hook's own class */
        struct mp payload_is;       /* str value: "given" or "child"; empty: neither */
        struct mp violation;        /* map */
        struct mp metadata;         /* map */
        int64_t retry_delay_ms;
        struct mp modified_extensions;    /* map */
        struct mp contexts;               /* content of the bin: {"state", "metadata"} */
        struct mp state, global_metadata; /* maps */
        struct mp denial_metadata;        /* map */
};

/* Return: NULL, or what is wrong. */
const char *answer_parse(struct mp result, struct answer *ret);
