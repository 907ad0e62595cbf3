/* SPDX-License-Identifier: Apache-2.0 */

/* The C client library against a thread that answers as each method's name asks it to. */

#include "unit.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "lib/cpexd-client.h"
#include "wire/rpc.h"

#define SECOND ((uint64_t)1000000)

static char folder[] = P_tmpdir "/cpexd-test-client-XXXXXX";
static char path[64];
static int listener = -1;
static pthread_t server;

static void put_ok(struct buf *out, uint32_t id, const char *text) {
        rpc_put_result(out, id);
        mp_put_map(out, 1);
        mp_put_str(out, "said");
        mp_put_str(out, text);
}

/* Sends a byte at a time, so that the client meets every place where an answer can be cut. */
static void send_slowly(int fd, const struct buf *buf, size_t len) {
        for (size_t i = 0; i < len; i++) {
                (void)send(fd, buf->data + i, 1, MSG_NOSIGNAL);
                (void)sched_yield();
        }
}

static void put_notifications(struct buf *out, unsigned n) {
        for (; n > 0; n--) {
                rpc_put_notification(out, "g");
                mp_put_map(out, 0);
        }
}

/* Sends notifications until the client hangs up, or for so long that a client without a deadline fails its test. It does not
 * sleep while the socket is full, so that there is always something to read. */
static void flood(int fd) {
        CLEANUP_BUF struct buf out = {0};
        usec_t end = clock_now_usec() + 10 * SECOND;
        size_t pos = 0;

        put_notifications(&out, 10000);
        while (clock_now_usec() < end) {
                ssize_t n = send(fd, out.data + pos, out.len - pos, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno != EAGAIN)
                        return;
                pos = (pos + (size_t)MAX(n, 0)) % out.len;
        }
}

/* Return: whether the connection goes on. */
static bool serve_message(int fd, const struct rpc_msg *msg, uint32_t *late) {
        CLEANUP_BUF struct buf out = {0};

        if (msg->kind != RPC_REQUEST) {
                if (rpc_method_is(msg, "cancel")) /* only now the answer to the call that was given up */
                        put_ok(&out, *late, "late");
        } else if (rpc_method_is(msg, "echo") || rpc_method_is(msg, "invoke")) {
                rpc_put_notification(&out, "generation");
                mp_put_map(&out, 0);
                rpc_put_result(&out, msg->id);
                mp_put_raw(&out, msg->params);
        } else if (rpc_method_is(msg, "slowly")) {
                put_ok(&out, msg->id, "slowly");
                send_slowly(fd, &out, out.len);
                return true;
        } else if (rpc_method_is(msg, "noisy")) {
                put_notifications(&out, 100000);
                put_ok(&out, msg->id, "noisy");
                put_notifications(&out, 1000);
        } else if (rpc_method_is(msg, "ahead")) { /* answers the next call too, in a packet of its own */
                put_ok(&out, msg->id, "ahead");
                (void)send(fd, out.data, out.len, MSG_NOSIGNAL);
                buf_reset(&out);
                (void)usleep(20000);
                put_ok(&out, msg->id + 1, "ahead");
        } else if (rpc_method_is(msg, "flood")) {
                flood(fd);
                return false;
        } else if (rpc_method_is(msg, "refuse")) {
                rpc_put_protocol_error(&out, msg->id, "unknown_method", "no");
        } else if (rpc_method_is(msg, "silence")) {
                *late = msg->id;
        } else if (rpc_method_is(msg, "foreign")) {
                put_ok(&out, msg->id + 1, "not yours");
        } else if (rpc_method_is(msg, "garbage")) {
                buf_append(&out, "\xc1", 1);
        } else if (rpc_method_is(msg, "huge")) {
                buf_append(&out, "\x94\x01\x00\xc0\xc6\xff\xff\xff\xff", 9);
        } else if (rpc_method_is(msg, "half")) {
                put_ok(&out, msg->id, "half");
                send_slowly(fd, &out, out.len - 1);
                return false;
        } else {
                return false;
        }
        (void)send(fd, out.data, out.len, MSG_NOSIGNAL);
        return true;
}

static void serve(int fd) {
        CLEANUP_BUF struct buf in = {0};
        uint32_t late = 0;

        for (;;) {
                struct mp_scan scan = {0};
                struct rpc_msg msg;
                uint8_t *end;
                ssize_t n;

                if (in.len > 0 && mp_scan(&scan, in.data, in.len, (size_t)64 << 20) == MP_SCAN_DONE) {
                        if (rpc_parse((struct mp){in.data, scan.pos}, &msg) || !serve_message(fd, &msg, &late))
                                return;
                        buf_consume(&in, scan.pos);
                        continue;
                }
                end = buf_reserve(&in, 1 << 20);
                n = end ? recv(fd, end, 1 << 20, 0) : -1;
                if (n <= 0)
                        return;
                in.len += (size_t)n;
        }
}

static void *run_server(void *data) {
        (void)data;
        for (;;) {
                int fd = accept(listener, NULL, NULL);

                if (fd < 0)
                        return NULL;
                serve(fd);
                (void)close(fd);
        }
}

static int start_server(void **state) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        (void)state;
        if (!mkdtemp(folder))
                return -1;
        (void)snprintf(path, sizeof(path), "%s/s", folder);
        memcpy(address.sun_path, path, strlen(path));
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 0) < 0)
                return -1;
        return pthread_create(&server, NULL, run_server, NULL);
}

static int stop_server(void **state) {
        (void)state;
        (void)shutdown(listener, SHUT_RDWR);
        (void)pthread_join(server, NULL);
        (void)close(listener);
        (void)unlink(path);
        return rmdir(folder);
}

static struct cpexd_client *connected(void) {
        struct cpexd_client *client = NULL;

        assert_int_equal(cpexd_connect(&client, path, 5 * SECOND), 0);
        return client;
}

static int call(struct cpexd_client *client, const char *method, uint64_t timeout_usec, struct cpexd_reply *ret) {
        return cpexd_call(client, method, NULL, 0, timeout_usec, ret);
}

static void assert_said(const struct cpexd_reply *reply, const char *text) {
        struct mp said;

        assert_false(reply->failed);
        assert_true(mp_map_get((struct mp){reply->data, reply->len}, "said", &said));
        assert_true(mp_eq_str(said, text));
}

static void test_no_connection(void **state) {
        struct cpexd_client *client = NULL;
        char name[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];

        (void)state;
        assert_int_equal(cpexd_connect(&client, "/nowhere/at/all", SECOND), -ENOENT);
        memset(name, 'x', sizeof(name));
        name[sizeof(name) - 1] = '\0';
        assert_int_equal(cpexd_connect(&client, name, SECOND), -ENAMETOOLONG);
        name[sizeof(name) - 2] = '\0'; /* one shorter fits, NUL included */
        assert_int_equal(cpexd_connect(&client, name, SECOND), -ENOENT);
        assert_null(client);
        cpexd_disconnect(NULL);
}

static void test_answers_in_pieces(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;

        (void)state;
        for (int i = 0; i < 3; i++) {
                assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), 0);
                assert_said(&reply, "slowly");
        }
        cpexd_disconnect(client);
}

static void test_an_error_is_an_answer(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;
        struct mp code;

        (void)state;
        assert_int_equal(call(client, "refuse", 5 * SECOND, &reply), 0);
        assert_true(reply.failed);
        assert_true(mp_map_get((struct mp){reply.data, reply.len}, "code", &code));
        assert_true(mp_eq_str(code, "unknown_method"));
        cpexd_disconnect(client);
}

/* Larger than any socket buffer, both ways at once; and a notification before the answer. */
static void test_large(void **state) {
        struct cpexd_client *client = connected();
        CLEANUP_BUF struct buf params = {0};
        CLEANUP_FREE char *big = calloc(8, 1 << 20);
        struct cpexd_reply reply;

        (void)state;
        mp_put_map(&params, 1);
        mp_put_str(&params, "big");
        mp_put_bin(&params, big, (size_t)8 << 20);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(cpexd_call(client, "echo", params.data, params.len, 20 * SECOND, &reply), 0);
                assert_int_equal(reply.len, params.len);
                assert_memory_equal(reply.data, params.data, params.len);
        }
        assert_string_equal(cpexd_problem(client), "");
        cpexd_disconnect(client);
}

static void test_a_late_answer_is_dropped(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;
        usec_t start = clock_now_usec();

        (void)state;
        assert_int_equal(call(client, "silence", SECOND / 20, &reply), -ETIMEDOUT);
        assert_true(clock_now_usec() - start >= SECOND / 20);
        assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), 0);
        assert_said(&reply, "slowly");
        cpexd_disconnect(client);
}

/* The answer in the midst of more notifications than a read holds, cut wherever the reads cut them. */
static void test_an_answer_among_notifications(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;

        (void)state;
        for (int i = 0; i < 3; i++) {
                assert_int_equal(call(client, "noisy", 20 * SECOND, &reply), 0);
                assert_said(&reply, "noisy");
        }
        assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), 0);
        assert_said(&reply, "slowly");
        cpexd_disconnect(client);
}

static void test_a_flood_does_not_stop_the_clock(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;
        usec_t start = clock_now_usec();

        (void)state;
        assert_int_equal(call(client, "flood", SECOND / 5, &reply), -ETIMEDOUT);
        assert_in_range(clock_now_usec() - start, SECOND / 5, 3 * SECOND);
        cpexd_disconnect(client);
}

/* When the time is over nothing is read any more, not even what is there. */
static void test_data_does_not_stop_the_clock(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;

        (void)state;
        assert_int_equal(call(client, "ahead", 5 * SECOND, &reply), 0);
        (void)usleep(200000);
        assert_int_equal(call(client, "silence", 0, &reply), -ETIMEDOUT);
        assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), 0);
        assert_said(&reply, "slowly");
        cpexd_disconnect(client);
}

/* The request goes out, and so does the cancel that brings the late answer. */
static void test_no_time_at_all(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;

        (void)state;
        assert_int_equal(call(client, "silence", 0, &reply), -ETIMEDOUT);
        assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), 0);
        assert_said(&reply, "slowly");
        cpexd_disconnect(client);
}

static void test_what_breaks_the_connection(void **state) {
        static const struct {
                const char *method;
                int error;
        } cases[] = {
                {"foreign", -EPROTO}, {"garbage", -EPROTO}, {"huge", -EMSGSIZE}, {"half", -ECONNRESET}, {"hang up", -ECONNRESET}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct cpexd_client *client = connected();
                struct cpexd_reply reply;

                assert_int_equal(call(client, cases[i].method, 5 * SECOND, &reply), cases[i].error);
                assert_string_not_equal(cpexd_problem(client), "");
                assert_int_equal(call(client, "slowly", 5 * SECOND, &reply), -ENOTCONN);
                cpexd_disconnect(client);
        }
}

static void test_wrong_parameters_are_not_sent(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;

        (void)state;
        assert_int_equal(cpexd_call(client, "echo", "\x90", 1, SECOND, &reply), -EINVAL);
        assert_int_equal(cpexd_call(client, "echo", "\x80\x80", 2, SECOND, &reply), -EINVAL);
        assert_int_equal(cpexd_call(client, "echo", "\x81", 1, SECOND, &reply), -EINVAL);
        assert_int_equal(cpexd_call(client, "echo", "\x80", 1, 5 * SECOND, &reply), 0);
        cpexd_disconnect(client);
}

static void test_invoke_sends_what_is_given(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_invocation invocation = {.hook = "h", .payload = "\xc0", .payload_len = 1, .request_id = "r1"};
        struct cpexd_reply reply;
        const char least[] = "\xdf\0\0\0\3\xa4hook\xa1h\xa7payload\xc4\1\xc0\xa7"
                             "context\x81\xaarequest_id\xa2r1";
        struct mp value;

        (void)state;
        assert_int_equal(cpexd_invoke(client, &invocation, 5 * SECOND, &reply), 0);
        assert_int_equal(reply.len, sizeof(least) - 1);
        assert_memory_equal(reply.data, least, sizeof(least) - 1);

        invocation.contexts = "\x90";
        invocation.contexts_len = 1;
        invocation.extensions = "\x80";
        invocation.extensions_len = 1;
        invocation.payload_type = "";
        invocation.plugin = "p";
        invocation.timeout_ms = 5;
        invocation.violations_as_exceptions = true;
        assert_int_equal(cpexd_invoke(client, &invocation, 5 * SECOND, &reply), 0);
        value = (struct mp){reply.data, reply.len};
        assert_true(mp_is_value(value));
        for (size_t i = 0; i < 6; i++) {
                static const char *const keys[] = {"contexts", "extensions", "payload_type",
                                                   "plugin",   "timeout_ms", "violations_as_exceptions"};
                struct mp item;

                assert_true(mp_map_get(value, keys[i], &item));
        }
        cpexd_disconnect(client);
}

static void test_invoke_needs_its_parts(void **state) {
        struct cpexd_client *client = connected();
        struct cpexd_reply reply;
        const struct cpexd_invocation wrong[] = {
                {.payload = "\xc0", .payload_len = 1, .request_id = "r1"},
                {.hook = "h", .request_id = "r1"},
                {.hook = "h", .payload = "\xc0\xc0", .payload_len = 2, .request_id = "r1"},
                {.hook = "h", .payload = "\xc0", .payload_len = 1},
                {.hook = "h", .payload = "\xc0", .payload_len = 1, .context = "\x90", .context_len = 1},
                {.hook = "h", .payload = "\xc0", .payload_len = 1, .request_id = "r1", .extensions = "\xc0", .extensions_len = 1},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                assert_int_equal(cpexd_invoke(client, wrong + i, SECOND, &reply), -EINVAL);
                assert_string_not_equal(cpexd_problem(client), "");
        }
        cpexd_disconnect(client);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_connection),
                cmocka_unit_test(test_answers_in_pieces),
                cmocka_unit_test(test_an_error_is_an_answer),
                cmocka_unit_test(test_large),
                cmocka_unit_test(test_a_late_answer_is_dropped),
                cmocka_unit_test(test_an_answer_among_notifications),
                cmocka_unit_test(test_a_flood_does_not_stop_the_clock),
                cmocka_unit_test(test_data_does_not_stop_the_clock),
                cmocka_unit_test(test_no_time_at_all),
                cmocka_unit_test(test_what_breaks_the_connection),
                cmocka_unit_test(test_wrong_parameters_are_not_sent),
                cmocka_unit_test(test_invoke_sends_what_is_given),
                cmocka_unit_test(test_invoke_needs_its_parts),
        };

        return cmocka_run_group_tests(tests, start_server, stop_server);
}
