/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/conn.h"

#define LARGE (2u << 20)

/* A connection on one end of a socketpair; the test is the peer on the other. */
struct fixture {
        struct event_base *base;
        struct conn *conn;
        int peer;
        unsigned messages, closes;
        uint32_t last_id;
        char reason[128];
        bool free_in_callback;
        struct buf kept; /* the parameters of the last message, shared */
        size_t memory;   /* of the connection, as it says */
};

static void on_message(void *data, const struct rpc_msg *msg) {
        struct fixture *f = data;

        f->messages++;
        f->last_id = msg->id;
        buf_share(&f->kept, msg->memory, msg->params.data, msg->params.len);
        if (f->free_in_callback)
                f->conn = conn_free(f->conn);
}

static void on_close(void *data, enum conn_end end, const char *reason) {
        struct fixture *f = data;

        f->closes++;
        (void)snprintf(f->reason, sizeof(f->reason), "%s", end == CONN_CLOSED ? "orderly" : reason);
        f->conn = conn_free(f->conn);
}

static const char *on_memory(void *data, size_t bytes) {
        ((struct fixture *)data)->memory = bytes;
        return NULL;
}

static int set_up_with(void **state, const struct conn_limits *limits) {
        static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close, .on_memory = on_memory};
        struct fixture *f = calloc(1, sizeof(*f));
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        f->base = event_base_new();
        f->peer = pair[1];
        assert_int_equal(conn_new(&f->conn, f->base, pair[0], limits, &handler, f), 0);
        *state = f;
        return 0;
}

static int set_up(void **state) {
        return set_up_with(state, &(struct conn_limits){.frame_bytes = 1024, .output_bytes = 4096});
}

static int set_up_large(void **state) {
        return set_up_with(state, &(struct conn_limits){.frame_bytes = LARGE, .output_bytes = 2 * LARGE});
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        (void)conn_free(f->conn);
        event_base_free(f->base);
        (void)fd_close(f->peer);
        buf_done(&f->kept);
        free(f);
        return 0;
}

static void turn(struct fixture *f) {
        for (int i = 0; i < 8; i++)
                assert_true(event_base_loop(f->base, EVLOOP_NONBLOCK) >= 0);
}

static void feed(struct fixture *f, const void *bytes, size_t len) {
        assert_int_equal(write(f->peer, bytes, len), (ssize_t)len);
        turn(f);
}

static void put_request(struct buf *buf, uint32_t id, size_t padding) {
        static const char zeros[2048];

        rpc_put_request(buf, id, "m");
        mp_put_map(buf, 1);
        mp_put_str(buf, "p");
        mp_put_bin(buf, zeros, padding);
}

static void test_split_at_every_byte(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct fixture *f = *state;

        put_request(&buf, 7, 100);
        for (size_t i = 0; i < buf.len; i++) {
                assert_int_equal(f->messages, 0);
                feed(f, buf.data + i, 1);
        }
        assert_int_equal(f->messages, 1);
        assert_int_equal(f->last_id, 7);
}

static void test_many_in_one_read(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct fixture *f = *state;

        for (uint32_t i = 0; i < 200; i++)
                put_request(&buf, i, 3);
        feed(f, buf.data, buf.len);
        turn(f);
        assert_int_equal(f->messages, 200);
        assert_int_equal(f->last_id, 199);
        assert_int_equal(f->closes, 0);
}

static void test_frame_limit_is_exact(void **state) {
        CLEANUP_BUF struct buf ok = {0}, over = {0};
        struct fixture *f = *state;
        size_t envelope;

        put_request(&ok, 1, 300);
        envelope = ok.len - 300;
        buf_reset(&ok);
        put_request(&ok, 1, 1024 - envelope);
        assert_int_equal(ok.len, 1024);
        feed(f, ok.data, ok.len);
        assert_int_equal(f->messages, 1);
        put_request(&over, 2, 1024 - envelope + 1);
        feed(f, over.data, over.len);
        assert_int_equal(f->messages, 1);
        assert_int_equal(f->closes, 1);
        assert_non_null(strstr(f->reason, "limits.frame_bytes"));
}

static void test_declared_4_gib_is_refused_at_its_header(void **state) {
        struct fixture *f = *state;

        feed(f, "\x94\x00\x01\xa1m\x91\x81\xa1p\xc6\xff\xff\xff\xff", 14);
        assert_int_equal(f->closes, 1);
        assert_non_null(strstr(f->reason, "longer"));
}

static void test_garbage_ends_it(void **state) {
        struct fixture *f = *state;

        feed(f, "GET / HTTP/1.1\r\n\r\n", 18);
        assert_int_equal(f->messages, 0);
        assert_int_equal(f->closes, 1);
}

static void test_orderly_and_disorderly_end(void **state) {
        struct fixture *f = *state;

        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        turn(f);
        assert_int_equal(f->closes, 1);
        assert_string_equal(f->reason, "orderly");
}

static void test_end_in_the_middle(void **state) {
        struct fixture *f = *state;

        feed(f, "\x94\x00", 2);
        assert_int_equal(shutdown(f->peer, SHUT_WR), 0);
        turn(f);
        assert_int_equal(f->closes, 1);
        assert_non_null(strstr(f->reason, "middle"));
}

static void test_freed_in_its_own_callback(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct fixture *f = *state;

        f->free_in_callback = true;
        put_request(&buf, 1, 10);
        put_request(&buf, 2, 10);
        feed(f, buf.data, buf.len);
        assert_int_equal(f->messages, 1);
        assert_int_equal(f->closes, 0);
}

static void test_paused_messages_come_after_resume(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct fixture *f = *state;

        conn_pause(f->conn);
        put_request(&buf, 5, 10);
        feed(f, buf.data, buf.len);
        assert_int_equal(f->messages, 0);
        conn_resume(f->conn);
        turn(f);
        assert_int_equal(f->messages, 1);
}

/* One peer with thousands of messages leaves the loop to the others between its turns. */
static void test_flood_leaves_turns_to_others(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct fixture *f = *state;

        for (uint32_t i = 0; i < 2000; i++) {
                rpc_put_notification(&buf, "x");
                mp_put_map(&buf, 0);
        }
        assert_int_equal(write(f->peer, buf.data, buf.len), (ssize_t)buf.len);
        while (f->messages < 2000) {
                unsigned before = f->messages;

                assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
                assert_true(f->messages - before <= 2 * 64);
        }
}

static void test_peer_that_does_not_read_is_cut_off(void **state) {
        struct fixture *f = *state;
        char block[1000] = {0};

        /* The kernel's buffer takes some; what is kept beyond is bounded. */
        for (int i = 0; i < 4096 && f->closes == 0; i++) {
                mp_put_bin(conn_output(f->conn), block, sizeof(block));
                conn_flush(f->conn);
                turn(f);
        }
        assert_int_equal(f->closes, 1);
        assert_non_null(strstr(f->reason, "output_bytes"));
}

/* Never idle and never far behind: what the peer has read is not kept. */
static void test_peer_that_always_has_some_pending(void **state) {
        static const uint8_t content[300 * 1024];
        struct fixture *f = *state;
        char block[50 * 1024];

        for (int i = 0; i < 100 && f->closes == 0; i++) {
                struct buf tail = {0};

                buf_append(&tail, content, sizeof(content));
                mp_put_uint(conn_output(f->conn), 1);
                conn_put_tail(f->conn, &tail);
                conn_flush(f->conn);
                turn(f);
                while (conn_pending(f->conn) > 250 * 1024 && recv(f->peer, block, sizeof(block), MSG_DONTWAIT) > 0)
                        turn(f);
        }
        assert_int_equal(f->closes, 0);
}

static void put_numbers(struct buf *buf, size_t len, unsigned seed) {
        for (size_t i = 0; i < len; i++)
                buf_append(buf, &(uint8_t){(uint8_t)(seed + i * 7 + i / 256)}, 1);
}

/* Half a message and an answer that nobody has read go on on another connection. */
static void test_carried(void **state) {
        static const struct conn_handler handler = {.on_message = on_message, .on_close = on_close};
        const struct conn_limits limits = {.frame_bytes = 1024, .output_bytes = 4096};
        CLEANUP_BUF struct buf request = {0};
        CLEANUP_CARRY struct carry carry = {0};
        struct fixture *f = *state;
        int fd = conn_fd(f->conn), copy = dup(fd);
        CLEANUP_BUF struct buf tail = {0};
        static char answer[6 + BUF_SHARE_MIN];

        put_request(&request, 1, 10);
        feed(f, request.data, 5);
        buf_append_str(conn_output(f->conn), "unread");
        put_numbers(&tail, BUF_SHARE_MIN, 1);
        conn_put_tail(f->conn, &tail);
        assert_int_equal(conn_pending(f->conn), sizeof(answer));
        conn_save(f->conn, &carry);
        f->conn = conn_free(f->conn);
        assert_int_equal(dup2(copy, fd), fd); /* it was not closed */
        (void)close(copy);

        assert_int_equal(conn_adopt(&f->conn, f->base, (struct mp){carry.out.data, carry.out.len}, &limits, &handler, f), 0);
        feed(f, request.data + 5, request.len - 5);
        assert_int_equal(f->messages, 1);
        assert_int_equal(read(f->peer, answer, sizeof(answer)), sizeof(answer));
        assert_memory_equal(answer, "unread", 6);
        put_numbers(&tail, BUF_SHARE_MIN, 1);
        assert_memory_equal(answer + 6, tail.data, tail.len);
        assert_int_equal(f->closes, 0);
}

/* What is to follow a tail that nobody has read yet comes after it. */
static void test_tails_keep_their_place(void **state) {
        CLEANUP_BUF struct buf all = {0}, got = {0}, tail = {0}, numbers = {0};
        struct fixture *f = *state;
        ssize_t n;

        for (unsigned i = 0; i < 3; i++) {
                buf_append_str(conn_output(f->conn), "head");
                buf_append_str(&all, "head");
                buf_reset(&numbers);
                put_numbers(&numbers, 600 * 1000, i);
                buf_append(&all, numbers.data, numbers.len);
                buf_share(&tail, &numbers, numbers.data, numbers.len);
                conn_put_tail(f->conn, &tail);
                assert_int_equal(tail.len, 0);
                conn_flush(f->conn);
                assert_in_range(f->memory, conn_pending(f->conn), 3 * all.len);
        }
        while (got.len < all.len && (n = read(f->peer, buf_reserve(&got, 100 * 1000), 100 * 1000)) > 0) {
                got.len += (size_t)n;
                turn(f);
        }
        assert_int_equal(got.len, all.len);
        assert_memory_equal(got.data, all.data, all.len);
        assert_int_equal(conn_pending(f->conn), 0);
        assert_int_equal(f->closes, 0);
}

static void test_a_tail_counts_for_the_limit(void **state) {
        CLEANUP_BUF struct buf tail = {0}, numbers = {0};
        struct fixture *f = *state;

        put_numbers(&numbers, LARGE, 1);
        for (size_t more = 0; more <= 1; more++) {
                buf_reset(conn_output(f->conn));
                put_numbers(conn_output(f->conn), LARGE + more, 2);
                buf_share(&tail, &numbers, numbers.data, numbers.len);
                conn_put_tail(f->conn, &tail);
                assert_int_equal(buf_error(conn_output(f->conn)), more ? -EMSGSIZE : 0);
        }
}

/* A message that somebody keeps is not written over by the next ones. */
static void test_kept_messages_stay(void **state) {
        CLEANUP_BUF struct buf buf = {0}, kept = {0}, numbers = {0};
        struct fixture *f = *state;
        size_t sent = 0, len;

        for (uint32_t i = 0; i < 3; i++) {
                buf_reset(&numbers);
                put_numbers(&numbers, 500 * 1000, i);
                rpc_put_request(&buf, i, "m");
                mp_put_map(&buf, 2);
                mp_put_str(&buf, "p");
                mp_put_bin(&buf, numbers.data, numbers.len);
                mp_put_str(&buf, "q");
                mp_put_nil(&buf);
        }
        len = buf.len / 3;
        while (sent < buf.len) {
                ssize_t n = write(f->peer, buf.data + sent, MIN(buf.len - sent, (size_t)50 * 1000));

                assert_true(n > 0);
                sent += (size_t)n;
                turn(f);
                if (f->messages == 1 && kept.len == 0)
                        buf_share(&kept, &f->kept, f->kept.data, f->kept.len);
        }
        assert_int_equal(f->messages, 3);
        assert_memory_equal(kept.data, buf.data + len - kept.len, kept.len);
        assert_memory_equal(f->kept.data, buf.data + 3 * len - f->kept.len, f->kept.len);
        assert_true(f->memory < 600 * 1000);
        assert_ptr_not_equal(kept.shared, f->kept.shared);
        assert_non_null(kept.shared);
        assert_non_null(f->kept.shared);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_split_at_every_byte, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_many_in_one_read, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_frame_limit_is_exact, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_declared_4_gib_is_refused_at_its_header, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_garbage_ends_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_orderly_and_disorderly_end, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_end_in_the_middle, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_freed_in_its_own_callback, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_paused_messages_come_after_resume, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_flood_leaves_turns_to_others, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_peer_that_does_not_read_is_cut_off, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_peer_that_always_has_some_pending, set_up_large, tear_down),
                cmocka_unit_test_setup_teardown(test_carried, set_up_large, tear_down),
                cmocka_unit_test_setup_teardown(test_tails_keep_their_place, set_up_large, tear_down),
                cmocka_unit_test_setup_teardown(test_a_tail_counts_for_the_limit, set_up_large, tear_down),
                cmocka_unit_test_setup_teardown(test_kept_messages_stay, set_up_large, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
