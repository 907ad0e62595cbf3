/* SPDX-License-Identifier: Apache-2.0 */

/* Runs tests/vectors/protocol.json, whose path is the argument; the file says how values are written in it. */

#include "unit.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "wire/rpc.h"

#define LIMIT ((size_t)16 << 20)

static const char *vectors_path;

static struct buf from_hex(const char *hex) {
        struct buf buf = {0};

        for (unsigned byte; *hex && sscanf(hex, "%2x", &byte) == 1; hex += 2)
                buf_append(&buf, &(uint8_t){(uint8_t)byte}, 1);
        return buf;
}

static bool bytes_are(struct mp bytes, const char *hex) {
        CLEANUP_BUF struct buf buf = from_hex(hex);

        return bytes.len == buf.len && (buf.len == 0 || memcmp(bytes.data, buf.data, buf.len) == 0);
}

static bool text_is(struct mp text, const json_t *json) {
        return text.len == json_string_length(json) && memcmp(text.data, json_string_value(json), text.len) == 0;
}

static bool matches(struct mp value, json_t *json);

static bool int_is(struct mp_cur cur, const char *decimal) {
        char text[32] = "";
        uint64_t u;
        int64_t i;

        if (mp_read_uint(&cur, &u))
                (void)snprintf(text, sizeof(text), "%" PRIu64, u);
        else if (mp_read_int(&cur, &i))
                (void)snprintf(text, sizeof(text), "%" PRId64, i);
        return str_eq(text, decimal);
}

static bool float_is(struct mp_cur cur, const char *name) {
        double d, right = strtod(name, NULL);

        if (mp_peek(&cur) != MP_FLOAT || !mp_read_float(&cur, &d))
                return false;
        return isnan(right) ? isnan(d) : d == right && signbit(d) == signbit(right);
}

/* A value that JSON lacks, as an object with a key that begins with $. Return: 1 or 0, -1 for any other object. */
static int special_matches(struct mp_cur cur, json_t *json) {
        json_t *inner;
        struct mp bytes;
        int8_t type;

        if ((inner = json_object_get(json, "$bytes")))
                return mp_read_bin(&cur, &bytes) && bytes_are(bytes, json_string_value(inner));
        if ((inner = json_object_get(json, "$document")))
                return mp_read_bin(&cur, &bytes) && mp_is_value(bytes) && matches(bytes, inner);
        if ((inner = json_object_get(json, "$secret")))
                return mp_read_ext(&cur, &type, &bytes) && type == MP_EXT_SECRET && text_is(bytes, inner);
        if (json_object_get(json, "$bigint"))
                return mp_read_ext(&cur, &type, &bytes) && type == MP_EXT_BIGINT &&
                       bytes_are(bytes, json_string_value(json_object_get(json, "bytes")));
        if ((inner = json_object_get(json, "$int")))
                return int_is(cur, json_string_value(inner));
        if ((inner = json_object_get(json, "$float")))
                return float_is(cur, json_string_value(inner));
        return -1;
}

static bool map_matches(struct mp value, json_t *json) {
        struct mp_cur cur = mp_cur(value);
        const char *key;
        json_t *right;
        struct mp item;
        uint32_t n;

        if (!mp_read_map(&cur, &n) || n != json_object_size(json))
                return false;
        json_object_foreach(json, key, right) {
                if (!mp_map_get(value, key, &item) || !matches(item, right))
                        return false;
        }
        return true;
}

static bool array_matches(struct mp_cur cur, json_t *json) {
        struct mp item;
        json_t *right;
        size_t i;
        uint32_t n;

        if (!mp_read_array(&cur, &n) || n != json_array_size(json))
                return false;
        json_array_foreach(json, i, right) {
                if (!mp_read_any(&cur, &item) || !matches(item, right))
                        return false;
        }
        return cur.at == cur.end;
}

static bool matches(struct mp value, json_t *json) {
        struct mp_cur cur = mp_cur(value);
        struct mp text;
        double d;
        int64_t i;
        bool b;
        int r;

        switch (json_typeof(json)) {
        case JSON_OBJECT:
                r = special_matches(cur, json);
                return r < 0 ? map_matches(value, json) : r;
        case JSON_ARRAY:
                return array_matches(cur, json);
        case JSON_STRING:
                return mp_read_str(&cur, &text) && text_is(text, json);
        case JSON_INTEGER:
                return mp_read_int(&cur, &i) && i == json_integer_value(json);
        case JSON_REAL:
                return mp_peek(&cur) == MP_FLOAT && mp_read_float(&cur, &d) && d == json_real_value(json);
        case JSON_NULL:
                return mp_read_nil(&cur);
        default:
                return mp_read_bool(&cur, &b) && b == json_is_true(json);
        }
}

/* Return: NULL, or why the message is refused. */
static const char *take(const struct buf *buf, struct rpc_msg *ret) {
        struct mp_scan scan = {0};
        enum mp_scan_status status = mp_scan(&scan, buf->data, buf->len, LIMIT);

        if (status == MP_SCAN_MORE)
                fail_msg("the vector is cut short");
        if (status != MP_SCAN_DONE)
                return "the scan refuses it";
        assert_true(scan.pos == buf->len);
        return rpc_parse((struct mp){buf->data, buf->len}, ret);
}

static bool message_matches(const struct rpc_msg *msg, json_t *vector) {
        static const char *const kinds[] = {"request", "response", "notification"};

        if (!str_eq(json_string_value(json_object_get(vector, "kind")), kinds[msg->kind]))
                return false;
        if (msg->kind != RPC_NOTIFICATION && msg->id != json_integer_value(json_object_get(vector, "id")))
                return false;
        if (msg->kind == RPC_RESPONSE)
                return matches(msg->error, json_object_get(vector, "error")) &&
                       matches(msg->result, json_object_get(vector, "result"));
        return text_is(msg->method, json_object_get(vector, "method")) && matches(msg->params, json_object_get(vector, "params"));
}

static void test_vectors(void **state) {
        json_error_t error;
        json_t *file = json_load_file(vectors_path, JSON_ALLOW_NUL, &error), *vectors, *vector;
        size_t i, wrong = 0;

        (void)state;
        if (!file)
                fail_msg("%s:%d: %s", vectors_path, error.line, error.text);
        vectors = json_object_get(file, "vectors");
        assert_true(json_array_size(vectors) >= 40);
        json_array_foreach(vectors, i, vector) {
                const char *name = json_string_value(json_object_get(vector, "name"));
                bool refused = json_object_get(vector, "refused");
                CLEANUP_BUF struct buf buf = from_hex(json_string_value(json_object_get(vector, "hex")));
                struct rpc_msg msg;
                const char *why = take(&buf, &msg);

                if (refused ? !why : why || !message_matches(&msg, vector)) {
                        print_error("%s: %s\n", name, refused ? "was taken" : why ? why : "means something else");
                        wrong++;
                }
        }
        json_decref(file);
        assert_int_equal(wrong, 0);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors),
        };

        vectors_path = argc > 1 ? argv[1] : "tests/vectors/protocol.json";
        return cmocka_run_group_tests(tests, NULL, NULL);
}
