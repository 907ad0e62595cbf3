/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One table a message: key, type, where it goes, and the sentence for a value of another type. One pass over the map fills the
 * slices; a key given twice is refused, for two readers might otherwise take different ones.
 */

#include "pipeline/request.h"

#include "pipeline/models.h"

enum want { WANT_STR, WANT_DOCUMENT, WANT_MAP, WANT_SHALLOW, WANT_BOOL, WANT_POSITIVE, WANT_INT, WANT_ANY };

struct field {
        const char *key;
        enum want want;
        size_t offset;
        const char *wrong;
};

/* A document that is whole, and nothing behind it. */
static bool read_document(struct mp_cur *cur, struct mp *ret) {
        struct mp content;

        if (!mp_read_bin(cur, &content) || !mp_is_value(content))
                return false;
        *ret = content;
        return true;
}

static bool take(const struct field *field, struct mp value, void *object) {
        void *to = (char *)object + field->offset;
        struct mp_cur cur = mp_cur(value);
        enum mp_type type = mp_peek(&cur);
        int64_t i;

        switch (field->want) {
        case WANT_STR:
                if (type == MP_STR)
                        *(struct mp *)to = value;
                return type == MP_STR;
        case WANT_DOCUMENT:
                return read_document(&cur, to);
        case WANT_MAP:
        case WANT_SHALLOW:
                if ((field->want == WANT_MAP && type != MP_MAP) || mp_depth(value) > REQUEST_DEPTH_MAX)
                        return false;
                *(struct mp *)to = value;
                return true;
        case WANT_BOOL:
                return mp_read_bool(&cur, to);
        case WANT_POSITIVE:
                return mp_read_uint(&cur, to) && *(uint64_t *)to > 0;
        case WANT_INT:
                if (!mp_read_int(&cur, &i))
                        return false;
                *(int64_t *)to = i;
                return true;
        case WANT_ANY:
                *(struct mp *)to = value;
                return true;
        }
        return false;
}

/* Fills `object` from `map` by `fields`. Return: NULL or what is wrong. */
static const char *read_fields(struct mp map, const struct field *fields, size_t n_fields, void *object) {
        struct mp_cur cur = mp_cur(map);
        uint64_t seen = 0;
        struct mp key, value;
        uint32_t n;

        if (!mp_read_map(&cur, &n))
                return "it is not a map";
        for (; n > 0; n--) {
                bool named = mp_read_str(&cur, &key);

                if ((!named && !mp_read_any(&cur, &key)) || !mp_read_any(&cur, &value))
                        break;
                for (size_t i = 0; named && i < n_fields; i++) {
                        if (!mp_is_text(key, fields[i].key))
                                continue;
                        if (seen & (1ull << i))
                                return "a key is given twice";
                        seen |= 1ull << i;
                        /* nil is as good as absent, but not where it could be taken for a yes. */
                        if ((!mp_is_nil(value) || fields[i].want == WANT_BOOL) && !take(&fields[i], value, object))
                                return fields[i].wrong;
                        break;
                }
        }
        return NULL;
}

#define REQUEST(key, want, member, wrong) \
        { key, want, offsetof(struct request, member), wrong }
static const struct field request_fields[] = {
        REQUEST("payload", WANT_DOCUMENT, payload, "payload: must be a bin that holds exactly one msgpack value"),
        REQUEST("payload_type", WANT_STR, payload_type, "payload_type: must be a string"),
        REQUEST("context", WANT_MAP, context, "context: must be a map, nested at most 100 deep"),
        REQUEST("contexts", WANT_DOCUMENT, contexts, "contexts: must be the bin that the last answer returned, or nil"),
        REQUEST("extensions", WANT_SHALLOW, extensions, "extensions: must be nested at most 100 deep"),
        REQUEST("timeout_ms", WANT_POSITIVE, timeout_ms, "timeout_ms: must be a positive integer"),
        REQUEST("plugin", WANT_STR, plugin, "plugin: must be a string"),
        REQUEST("violations_as_exceptions", WANT_BOOL, violations_as_exceptions, "violations_as_exceptions: must be a boolean"),
        REQUEST("direct", WANT_BOOL, direct, "direct: must be a boolean"),
        REQUEST("timing", WANT_BOOL, timing, "timing: must be a boolean"),
        REQUEST("hook", WANT_STR, hook, "hook: must be a string"),
};

/* Of what types these may be is a matter of CPEX's models (models.h). */
static const struct field context_fields[] = {
        REQUEST("request_id", WANT_ANY, request_id, NULL),     REQUEST("user", WANT_ANY, user, NULL),
        REQUEST("tenant_id", WANT_ANY, tenant_id, NULL),       REQUEST("server_id", WANT_ANY, server_id, NULL),
        REQUEST("content_type", WANT_ANY, content_type, NULL), REQUEST("state", WANT_ANY, state, NULL),
        REQUEST("metadata", WANT_ANY, metadata, NULL),
};

/* The table [1, request_id, {name: {…}}] of the last answer. One of another request counts for nothing. Return: NULL or what is wrong. */
static const char *read_contexts(struct request *request) {
        static const char wrong[] = "contexts: must be the bin that the last answer returned, or nil";
        struct mp_cur cur = mp_cur(request->contexts);
        struct mp request_id, table;
        uint64_t version;
        uint32_t n;

        if (request->contexts.len == 0)
                return NULL;
        if (!mp_read_array(&cur, &n) || n != 3 || !mp_read_uint(&cur, &version) || version != 1 || mp_peek(&cur) != MP_STR ||
            !mp_read_any(&cur, &request_id) || mp_peek(&cur) != MP_MAP || !mp_read_any(&cur, &table))
                return wrong;
        if (mp_same_str(request_id, request->request_id))
                request->table = table;
        return NULL;
}

const char *request_parse(struct mp params, struct request *ret) {
        struct request request = {0};
        const char *wrong = read_fields(params, request_fields, ELEMENTS(request_fields), &request);
        struct mp payload;
        struct mp_cur cur;

        if (wrong)
                return wrong;
        if (request.hook.len == 0)
                return "hook: is required";
        if (!mp_map_get(params, "payload", &payload))
                return "payload: is required; nil is an empty one";
        if (mp_is_nil(request.payload) && !mp_eq_str(request.payload_type, ""))
                request.payload = mp_empty_map;
        cur = mp_cur(request.hook);
        (void)mp_read_str(&cur, &request.hook);
        if (request.direct && request.plugin.len == 0)
                return "plugin: is required with direct";
        if (request.context.len == 0)
                return "context: is required, with a request_id";
        wrong = read_fields(request.context, context_fields, ELEMENTS(context_fields), &request);
        if (wrong)
                return wrong;
        wrong = read_contexts(&request);
        if (wrong)
                return wrong;
        *ret = request;
        return NULL;
}

static size_t check(const struct lax_type *model, struct mp value, struct buf *error) {
        CLEANUP_INVALID struct invalid invalid = {0};

        lax_read(model, value, NULL, &invalid);
        return invalid.n > 0 ? invalid_put(&invalid, model->name, error) : 0;
}

size_t request_check(const struct request *request, bool payload_too, struct buf *error) {
        const struct lax_type *payload = payload_too && mp_is_nil(request->payload_type) ? model_payload(request->hook) : NULL;
        size_t n = check(&model_global_context, request->context, error);

        if (n == 0 && payload)
                n = check(payload, request->payload, error);
        if (n == 0 && request->extensions.len > 0)
                n = check(&model_extensions, request->extensions, error);
        return n;
}

#define ANSWER(key, want, member, wrong) \
        { key, want, offsetof(struct answer, member), wrong }
static const struct field answer_fields[] = {
        ANSWER("continue_processing", WANT_BOOL, continue_processing, "continue_processing is no boolean"),
        ANSWER("modified_payload", WANT_DOCUMENT, modified_payload, "modified_payload is not a bin that holds one msgpack value"),
        ANSWER("payload_type", WANT_STR, payload_type, "payload_type is no string"),
        ANSWER("payload_is", WANT_STR, payload_is, "payload_is is no string"),
        ANSWER("violation", WANT_MAP, violation, "violation is no map, or nested too deep"),
        ANSWER("metadata", WANT_MAP, metadata, "metadata is no map, or nested too deep"),
        ANSWER("retry_delay_ms", WANT_INT, retry_delay_ms, "retry_delay_ms is no integer"),
        ANSWER("modified_extensions", WANT_MAP, modified_extensions, "modified_extensions is no map, or nested too deep"),
        ANSWER("contexts", WANT_DOCUMENT, contexts, "contexts is not a bin that holds one msgpack value"),
        ANSWER("state", WANT_MAP, state, "state is no map, or nested too deep"),
        ANSWER("global_metadata", WANT_MAP, global_metadata, "global_metadata is no map, or nested too deep"),
        ANSWER("denial_metadata", WANT_MAP, denial_metadata, "denial_metadata is no map, or nested too deep"),
};

const char *answer_parse(struct mp result, struct answer *ret) {
        struct answer answer = {.continue_processing = true};
        const char *wrong = read_fields(result, answer_fields, ELEMENTS(answer_fields), &answer);

        if (!wrong)
                *ret = answer;
        return wrong;
}
