/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One value, taken as the parameters of a host's invoke and as a worker's answer. Whatever is written from it is one whole value.
 *
 * What a model holds is what it would hold again; extensions that the models take are still such ones after any plugin's changes.
 */

#include "fuzz.h"
#include "pipeline/condition.h"
#include "pipeline/extensions.h"
#include "pipeline/models.h"
#include "pipeline/size.h"
#include "pipeline/turn.h"

#define LIST(...) \
        { .items = (char *[]){__VA_ARGS__}, .n = ELEMENTS(((char *[]){__VA_ARGS__})) }

/* Return: the value of the last key with these bytes; empty: none. */
static struct mp lookup(struct mp map, struct mp key) {
        struct mp_cur cur = mp_cur(map);
        struct mp k, v, found = {0};
        uint32_t n = 0;

        for (mp_read_map(&cur, &n); n > 0 && mp_read_any(&cur, &k) && mp_read_any(&cur, &v); n--)
                if (k.len == key.len && memcmp(k.data, key.data, k.len) == 0)
                        found = v;
        return found;
}

/* Each key of `map` has in `merged` its value, or that of `over`. */
static void check_keys(struct mp map, struct mp over, struct mp merged) {
        struct mp_cur cur = mp_cur(map);
        struct mp key, value;
        uint32_t n = 0;

        for (mp_read_map(&cur, &n); n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                struct mp got = lookup(merged, key), want = lookup(over, key);

                want = want.len > 0 ? want : lookup(map, key);
                CHECK(got.len == want.len && memcmp(got.data, want.data, got.len) == 0);
        }
}

static void check_merge(struct mp base, struct mp over) {
        CLEANUP_BUF struct buf merged = {0}, without = {0};

        mp_put_merged(&merged, base, over, NULL);
        CHECK(mp_is_value(buf_mp(&merged)));
        check_keys(base, over, buf_mp(&merged));
        check_keys(over, over, buf_mp(&merged));
        mp_put_merged(&without, base, over, "state");
        CHECK(mp_is_value(buf_mp(&without)));
}

/* The limit is far beyond these inputs, so the payload is measured as part of a longer one. */
static void check_size(struct mp payload) {
        static const char padding[PAYLOAD_SIZE_MAX / 10];
        CLEANUP_BUF struct buf buf = {0};
        const char *what = NULL;

        for (int i = 0; i < 2; i++, buf_reset(&buf)) {
                mp_put_map(&buf, 2);
                mp_put_str(&buf, i > 0 ? "args" : "result");
                mp_put_raw(&buf, payload);
                mp_put_str(&buf, "padding");
                mp_put_bin(&buf, padding, sizeof(padding));
                CHECK(payload.len > sizeof(padding) || payload_size_beyond(buf_mp(&buf), &what) == 0);
        }
}

/* Return: whether the model takes the value. */
static bool check_model(const struct lax_type *model, struct mp value) {
        CLEANUP_BUF struct buf held = {0}, again = {0}, error = {0};
        CLEANUP_INVALID struct invalid invalid = {0};
        size_t map;

        lax_read(model, value, &held, &invalid);
        if (invalid.n > 0) {
                map = mp_map_begin(&error);
                mp_map_end(&error, map, invalid_put(&invalid, model->name, &error));
                CHECK(mp_is_value(buf_mp(&error)));
                return false;
        }
        CHECK(mp_is_value(buf_mp(&held)));
        lax_read(model, buf_mp(&held), &again, &invalid);
        CHECK(invalid.n == 0 && mp_same_value(buf_mp(&held), buf_mp(&again)));
        return true;
}

static void check_same(struct mp a, struct mp b) {
        CHECK(mp_same_value(a, a) && mp_same_value(b, b));
        CHECK(mp_same_value(a, b) == mp_same_value(b, a));
}

/* What becomes of payload and extensions when a plugin returns this. */
static void check_changes(struct turn *turn, const struct answer *answer) {
        struct invocation *invocation = turn->invocation;
        bool valid = invocation->in.extensions.len == 0 || check_model(&model_extensions, invocation->in.extensions);

        if (answer->modified_extensions.len > 0 && turn_take_extensions(turn, answer->modified_extensions)) {
                CHECK(mp_is_value(buf_mp(&invocation->extensions)));
                CHECK(!valid || check_model(&model_extensions, buf_mp(&invocation->extensions)));
        }
        for (int i = 0; i < 2; i++)
                if (turn_take_payload(turn, answer, NULL))
                        CHECK(mp_is_value(buf_mp(&invocation->payload)));
}

static void check_request(const struct request *request, const struct answer *answer) {
        struct plugin_condition condition = {
                .tools = LIST("search", ""), .user_patterns = LIST("bob", ""), .content_types = LIST("text/html ; x")};
        struct plugin_entry entry = {.name = "pii",
                                     .capabilities = LIST("read_subject", "append_labels", "append_delegation", "write_headers"),
                                     .conditions = &condition,
                                     .n_conditions = 1};
        struct plugin plugin = {.entry = &entry};
        struct daemon_config daemon = {.enforce_tiers = true};
        struct plugins_config config = {0};
        struct generation generation = {.daemon = &daemon, .config = &config};
        struct hook_policy policy = {.hook = (char *)"", .writable_fields = LIST("args", "name", "message", "x")};
        struct hook hook = {.policy = request->violations_as_exceptions ? &policy : NULL};
        struct step step = {0};
        CLEANUP_FREE struct invocation *invocation = calloc(1, sizeof(*invocation) + sizeof(struct turn));
        CLEANUP_BUF struct buf filtered = {0}, error = {0};

        CHECK(mp_is_value(request->payload) && mp_is_value(request->context));
        (void)request_check(request, true, &error);
        (void)conditions_match(&entry, request);
        extensions_put_filtered(&filtered, request->extensions, &entry.capabilities);
        CHECK(mp_is_value(buf_mp(&filtered)));
        check_merge(request->state, request->metadata);
        check_size(request->payload);
        invocation->in = *request;
        invocation->generation = &generation;
        invocation->hook = &hook;
        invocation->turns[0] = (struct turn){.invocation = invocation, .plugin = &plugin};
        CHECK(turn_put_params(&invocation->turns[0], &step) == 0);
        buf_append(&step.params, step.payload.data, step.payload.len);
        CHECK(mp_is_value(buf_mp(&step.params)));
        step_done(&step);
        if (answer)
                check_changes(&invocation->turns[0], answer);
        buf_done(&invocation->extensions);
        buf_done(&invocation->payload);
        buf_done(&invocation->payload_type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct mp value = {data, len};
        struct request request;
        struct answer answer;
        bool answers;

        if (len == 0 || !mp_is_value(value))
                return 0;
        log_init(LOG_LEVEL_ERROR);
        (void)check_model(&model_global_context, value);
        (void)check_model(&model_extensions, value);
        check_size(value);
        check_merge(value, value);
        answers = !answer_parse(value, &answer);
        if (!request_parse(value, &request)) {
                check_request(&request, answers ? &answer : NULL);
                check_same(request.context, request.payload);
                check_same(request.extensions, request.payload);
        }
        if (answers) {
                check_merge(answer.state, answer.global_metadata);
                check_merge(answer.metadata, answer.denial_metadata);
                CHECK(answer.contexts.len == 0 || mp_is_value(answer.contexts));
        }
        return 0;
}
