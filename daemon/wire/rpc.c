/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The envelope is read strictly: a peer whose envelope is wrong cannot be answered, for there may be no id to answer to, so every
 * deviation is a sentence for the log and the end of the connection.
 */

#include "wire/rpc.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/core.h"

/* A message's last value is all that is left of it. */
static struct mp read_rest(struct mp_cur *cur) {
        struct mp rest = {cur->at, (size_t)(cur->end - cur->at)};

        cur->at = cur->end;
        return rest;
}

static const char *parse_params(struct mp_cur *cur, struct rpc_msg *msg) {
        uint32_t n;

        if (!mp_read_str(cur, &msg->method))
                return "the method is not a string";
        if (!mp_read_array(cur, &n) || n > 1)
                return "the parameters are not an array of one map";
        msg->params = mp_empty_map;
        if (n == 1 && mp_peek(cur) != MP_MAP)
                return "the parameters are not an array of one map";
        if (n == 1)
                msg->params = read_rest(cur);
        return NULL;
}

static const char *parse_response(struct mp_cur *cur, struct rpc_msg *msg) {
        if (!mp_read_any(cur, &msg->error))
                return "a response has four elements";
        msg->result = read_rest(cur);
        if (mp_is_nil(msg->error))
                return NULL;
        if (msg->error.len == 0 || mp_peek(&(struct mp_cur){msg->error.data, msg->error.data + msg->error.len}) != MP_MAP)
                return "the error is neither nil nor a map";
        return NULL;
}

const char *rpc_parse(struct mp value, struct rpc_msg *ret) {
        struct mp_cur cur = mp_cur(value);
        struct rpc_msg msg = {0};
        uint64_t kind, id = 0;
        const char *wrong;
        uint32_t n;

        if (!mp_read_array(&cur, &n))
                return "a message is an array";
        if (n == 0 || !mp_read_uint(&cur, &kind) || kind > RPC_NOTIFICATION)
                return "a message begins with 0, 1 or 2";
        if (n != (kind == RPC_NOTIFICATION ? 3 : 4))
                return "the message has the wrong number of elements";
        if (kind != RPC_NOTIFICATION && (!mp_read_uint(&cur, &id) || id > UINT32_MAX))
                return "the message id is not an integer of 32 bits";

        msg.kind = (enum rpc_kind)kind;
        msg.id = (uint32_t)id;
        wrong = kind == RPC_RESPONSE ? parse_response(&cur, &msg) : parse_params(&cur, &msg);
        if (!wrong)
                *ret = msg;
        return wrong;
}

uint64_t rpc_values(const struct rpc_msg *msg, uint64_t most) {
        const struct mp maps[] = {msg->params, msg->error, msg->result};
        uint64_t values = msg->values;

        for (size_t i = 0; i < ELEMENTS(maps); i++) {
                struct mp_cur cur = mp_cur(maps[i]);
                struct mp key, value;
                uint32_t n;

                if (!mp_read_map(&cur, &n))
                        continue;
                for (; n > 0 && values <= most && mp_read_any(&cur, &key); n--)
                        if (mp_read_bin(&cur, &value))
                                values = mp_count(value, values, most);
                        else
                                (void)mp_read_any(&cur, &value);
        }
        return values;
}

bool rpc_method_is(const struct rpc_msg *msg, const char *method) {
        return msg->method.len == strlen(method) && memcmp(msg->method.data, method, msg->method.len) == 0;
}

void rpc_put_request(struct buf *buf, uint32_t id, const char *method) {
        mp_put_array(buf, 4);
        mp_put_uint(buf, RPC_REQUEST);
        mp_put_uint(buf, id);
        mp_put_str(buf, method);
        mp_put_array(buf, 1);
}

void rpc_put_notification(struct buf *buf, const char *method) {
        mp_put_array(buf, 3);
        mp_put_uint(buf, RPC_NOTIFICATION);
        mp_put_str(buf, method);
        mp_put_array(buf, 1);
}

void rpc_put_result(struct buf *buf, uint32_t id) {
        mp_put_array(buf, 4);
        mp_put_uint(buf, RPC_RESPONSE);
        mp_put_uint(buf, id);
        mp_put_nil(buf);
}

void rpc_put_error(struct buf *buf, uint32_t id) {
        mp_put_array(buf, 4);
        mp_put_uint(buf, RPC_RESPONSE);
        mp_put_uint(buf, id);
}

void rpc_put_error_end(struct buf *buf) {
        mp_put_nil(buf);
}

/* The error's map but for the value of its last key, `details`. */
static void put_error_head(struct buf *buf, uint32_t id, const char *code, const char *message) {
        rpc_put_error(buf, id);
        mp_put_map(buf, 5);
        mp_put_str(buf, "code");
        mp_put_str(buf, code);
        mp_put_str(buf, "type");
        mp_put_str(buf, "ProtocolError");
        mp_put_str(buf, "message");
        mp_put_text(buf, message, strlen(message)); /* it may quote the peer, and be cut in the middle of a character */
        mp_put_str(buf, "plugin_name");
        mp_put_nil(buf);
        mp_put_str(buf, "details");
}

void rpc_put_protocol_error(struct buf *buf, uint32_t id, const char *code, const char *format, ...) {
        char message[1024];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        put_error_head(buf, id, code, message);
        mp_put_map(buf, 0);
        rpc_put_error_end(buf);
}

void rpc_put_limit(struct buf *buf, const char *limit, uint64_t value, uint64_t maximum, const char *setting) {
        mp_put_map(buf, 4);
        mp_put_str(buf, "limit");
        mp_put_str(buf, limit);
        mp_put_str(buf, "value");
        mp_put_uint(buf, value);
        mp_put_str(buf, "maximum");
        mp_put_uint(buf, maximum);
        mp_put_str(buf, "setting");
        mp_put_str(buf, setting);
}

void rpc_put_limit_error(struct buf *buf, uint32_t id, const char *message, const char *limit, uint64_t value, uint64_t maximum,
                         const char *setting) {
        char sentence[1024];

        (void)snprintf(sentence, sizeof(sentence), "%s: %llu, at most %llu (%s)", message, (unsigned long long)value,
                       (unsigned long long)maximum, setting);
        put_error_head(buf, id, "limit", sentence);
        rpc_put_limit(buf, limit, value, maximum, setting);
        rpc_put_error_end(buf);
}

void rpc_tell_core(struct buf *buf, unsigned *told) {
        unsigned core = (unsigned)(core_gathered() - CORE_NONE);

        if (*told == core)
                return;
        *told = core;
        rpc_put_notification(buf, "core");
        mp_put_map(buf, 1);
        mp_put_str(buf, "core");
        if (core == 0)
                mp_put_nil(buf);
        else
                mp_put_uint(buf, core - 1);
}
