/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One value, taken as the parameters of a host's invoke and as a worker's answer. Whatever is written from it is one whole value.
 */

#include "fuzz.h"
#include "pipeline/condition.h"
#include "pipeline/extensions.h"
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

static void check_request(const struct request *request) {
        struct plugin_condition condition = {
                .tools = LIST("search", ""), .user_patterns = LIST("bob", ""), .content_types = LIST("text/html ; x")};
        struct plugin_entry entry = {
                .name = "pii", .capabilities = LIST("read_subject", "read_labels"), .conditions = &condition, .n_conditions = 1};
        struct plugin plugin = {.entry = &entry};
        struct daemon_config daemon = {0};
        struct generation generation = {.daemon = &daemon};
        CLEANUP_FREE struct invocation *invocation = calloc(1, sizeof(*invocation) + sizeof(struct turn));
        CLEANUP_BUF struct buf params = {0}, filtered = {0};

        CHECK(mp_is_value(request->payload) && mp_is_value(request->context) && mp_is_value(request->request_id));
        (void)conditions_match(&entry, request);
        extensions_put_filtered(&filtered, request->extensions, &entry.capabilities);
        CHECK(mp_is_value(buf_mp(&filtered)));
        check_merge(request->state, request->metadata);
        check_size(request->payload);
        invocation->generation = &generation;
        invocation->in = *request;
        invocation->turns[0] = (struct turn){.invocation = invocation, .plugin = &plugin};
        CHECK(turn_put_params(&invocation->turns[0], &params) == 0 && mp_is_value(buf_mp(&params)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct mp value = {data, len};
        struct request request;
        struct answer answer;

        if (len == 0 || !mp_is_value(value))
                return 0;
        check_size(value);
        check_merge(value, value);
        if (!request_parse(value, &request))
                check_request(&request);
        if (!answer_parse(value, &answer)) {
                check_merge(answer.state, answer.global_metadata);
                check_merge(answer.metadata, answer.denial_metadata);
                CHECK(answer.contexts.len == 0 || mp_is_value(answer.contexts));
        }
        return 0;
}
