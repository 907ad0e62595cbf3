/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "pipeline/condition.h"

/* The parameters of an invoke: hook, payload {field: name}, and a context with what is not NULL. */
struct sample {
        const char *hook, *field, *name;
        const char *user, *tenant, *server, *content_type;
};

static void put_request(struct buf *buf, const struct sample *sample) {
        CLEANUP_BUF struct buf payload = {0};

        mp_put_map(&payload, 1);
        mp_put_str(&payload, sample->field);
        mp_put_str(&payload, sample->name);
        mp_put_map(buf, 3);
        mp_put_str(buf, "hook");
        mp_put_str(buf, sample->hook);
        mp_put_str(buf, "payload");
        mp_put_bin(buf, payload.data, payload.len);
        mp_put_str(buf, "context");
        mp_put_map(buf, 5);
        mp_put_str(buf, "request_id");
        mp_put_str(buf, "r");
        mp_put_str(buf, "user");
        mp_put_str(buf, sample->user);
        mp_put_str(buf, "tenant_id");
        mp_put_str(buf, sample->tenant);
        mp_put_str(buf, "server_id");
        mp_put_str(buf, sample->server);
        mp_put_str(buf, "content_type");
        mp_put_str(buf, sample->content_type);
}

#define LIST(...) \
        { .items = (char *[]){__VA_ARGS__}, .n = sizeof((char *[]){__VA_ARGS__}) / sizeof(char *) }

static bool matches(struct plugin_condition *conditions, size_t n, const struct sample *sample) {
        struct plugin_entry entry = {.conditions = conditions, .n_conditions = n};
        CLEANUP_BUF struct buf buf = {0};
        struct request request;

        put_request(&buf, sample);
        assert_null(request_parse((struct mp){buf.data, buf.len}, &request));
        return conditions_match(&entry, &request);
}

static const struct sample tool = {
        .hook = "tool_pre_invoke", .field = "name", .name = "db_query", .user = "alice@x", .tenant = "t1"};

static void test_nothing_restricts_nothing(void **state) {
        struct plugin_condition empty = {0};

        (void)state;
        assert_true(matches(NULL, 0, &tool));
        assert_true(matches(&empty, 1, &tool));
}

static void test_fields_are_anded_and_conditions_ored(void **state) {
        struct plugin_condition both = {.tools = LIST("db_query"), .tenant_ids = LIST("t2")};
        struct plugin_condition either[] = {{.tools = LIST("other")}, {.tenant_ids = LIST("t0", "t1")}};

        (void)state;
        assert_false(matches(&both, 1, &tool));
        assert_true(matches(either, 2, &tool));
}

static void test_missing_ids_match_no_list(void **state) {
        struct plugin_condition servers = {.server_ids = LIST("s1")};
        struct plugin_condition types = {.content_types = LIST("text/html")};

        (void)state;
        assert_false(matches(&servers, 1, &tool));
        assert_false(matches(&types, 1, &tool));
}

static void test_tools_count_only_on_tool_hooks(void **state) {
        struct plugin_condition tools = {.tools = LIST("x")};
        struct sample prompt = {.hook = "prompt_pre_fetch", .field = "prompt_id", .name = "p"};
        struct sample custom = {.hook = "my_hook", .field = "name", .name = "y"};

        (void)state;
        assert_false(matches(&tools, 1, &tool));
        assert_true(matches(&tools, 1, &prompt));
        assert_true(matches(&tools, 1, &custom));
}

static void test_empty_name_passes_any_list(void **state) {
        struct plugin_condition tools = {.tools = LIST("x")};
        struct sample unnamed = {.hook = "tool_pre_invoke", .field = "name", .name = ""};

        (void)state;
        assert_true(matches(&tools, 1, &unnamed));
}

static void test_a_token_is_in_no_list(void **state) {
        struct plugin_condition tools = {.tools = LIST("token", "x")};
        struct sample token = {.hook = "identity_resolve", .field = "raw_token", .name = "token"};
        struct sample empty = {.hook = "identity_resolve", .field = "raw_token", .name = ""};

        (void)state;
        assert_false(matches(&tools, 1, &token));
        assert_true(matches(&tools, 1, &empty));
}

static void test_users_contain_a_pattern(void **state) {
        struct plugin_condition users = {.user_patterns = LIST("bob", "lice")};
        struct sample nobody = {.hook = "tool_pre_invoke", .field = "name", .name = "t"};

        (void)state;
        assert_true(matches(&users, 1, &tool));
        assert_false(matches(&users, 1, &nobody));
}

static void test_content_types_are_normalised(void **state) {
        struct plugin_condition types = {.content_types = LIST("Application/JSON; charset=utf-8")};
        struct sample json = {.hook = "x", .field = "name", .name = "t", .content_type = " application/json;q=1"};
        struct sample blank = {.hook = "x", .field = "name", .name = "t", .content_type = "  "};
        struct sample bare = {.hook = "x", .field = "name", .name = "t", .content_type = ";q=1"};
        struct plugin_condition none = {.content_types = LIST("")};

        (void)state;
        assert_true(matches(&types, 1, &json));
        assert_false(matches(&types, 1, &blank));
        assert_false(matches(&types, 1, &bare));
        assert_false(matches(&none, 1, &blank));
        assert_true(matches(&none, 1, &bare));
}

static void test_bad_requests_name_the_parameter(void **state) {
        const uint8_t no_map[] = {0x90}, empty[] = {0x80};
        const uint8_t twice[] = {0x82, 0xa4, 'h', 'o', 'o', 'k', 0xa1, 'a', 0xa4, 'h', 'o', 'o', 'k', 0xa1, 'b'};
        const uint8_t number[] = {0x81, 0xa4, 'h', 'o', 'o', 'k', 1};
        const uint8_t junk[] = {0x81, 0xa7, 'p', 'a', 'y', 'l', 'o', 'a', 'd', 0xc4, 2, 0x01, 0x02};
        const uint8_t direct[] = "\x83\xa4hook\xa1h\xa7payload\xc4\x01\xc0\xa6\144irect\xc3";
        struct request request;

        (void)state;
        assert_non_null(request_parse((struct mp){no_map, sizeof(no_map)}, &request));
        assert_string_equal(request_parse((struct mp){empty, sizeof(empty)}, &request), "hook: is required");
        assert_string_equal(request_parse((struct mp){twice, sizeof(twice)}, &request), "a key is given twice");
        assert_string_equal(request_parse((struct mp){number, sizeof(number)}, &request), "hook: must be a string");
        assert_non_null(strstr(request_parse((struct mp){junk, sizeof(junk)}, &request), "payload"));
        assert_string_equal(request_parse((struct mp){direct, sizeof(direct) - 1}, &request), "plugin: is required with direct");
}

static void test_answers_are_neutral_or_checked(void **state) {
        const uint8_t empty[] = {0x80};
        const uint8_t bad[] = {0x81, 0xae, 'r', 'e', 't', 'r', 'y', '_', 'd', 'e', 'l', 'a', 'y', '_', 'm', 's', 0xa1, 'x'};
        struct answer answer;

        (void)state;
        assert_null(answer_parse((struct mp){empty, sizeof(empty)}, &answer));
        assert_true(answer.continue_processing);
        assert_int_equal(answer.modified_payload.len, 0);
        assert_string_equal(answer_parse((struct mp){bad, sizeof(bad)}, &answer), "retry_delay_ms is no integer");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_restricts_nothing),
                cmocka_unit_test(test_fields_are_anded_and_conditions_ored),
                cmocka_unit_test(test_missing_ids_match_no_list),
                cmocka_unit_test(test_tools_count_only_on_tool_hooks),
                cmocka_unit_test(test_empty_name_passes_any_list),
                cmocka_unit_test(test_a_token_is_in_no_list),
                cmocka_unit_test(test_users_contain_a_pattern),
                cmocka_unit_test(test_content_types_are_normalised),
                cmocka_unit_test(test_bad_requests_name_the_parameter),
                cmocka_unit_test(test_answers_are_neutral_or_checked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
