/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <event2/event.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/timer.h"
#include "wire/carry.h"

enum colour { RED, GREEN };

struct thing {
        bool flag;
        enum colour colour;
        unsigned small;
        size_t large;
        int negative;
        int64_t very_negative;
        uint64_t figures[3];
        int fd, no_fd;
        char *text, *no_text;
        char bytes[8];
        struct buf buf;
        struct mp slice;
        struct event *timer, *idle;
};

static const struct carried members[] = {
        CARRIED(BOOL, struct thing, flag),     CARRIED(UINT, struct thing, colour),  CARRIED(UINT, struct thing, small),
        CARRIED(UINT, struct thing, large),    CARRIED(INT, struct thing, negative), CARRIED(INT, struct thing, very_negative),
        CARRIED(UINTS, struct thing, figures), CARRIED(FD, struct thing, fd),        CARRIED(FD, struct thing, no_fd),
        CARRIED(STR, struct thing, text),      CARRIED(STR, struct thing, no_text),  CARRIED(BYTES, struct thing, bytes),
        CARRIED(BUF, struct thing, buf),       CARRIED(SLICE, struct thing, slice),  CARRIED(TIMER, struct thing, timer),
        CARRIED(TIMER, struct thing, idle),
};

static void save(struct carry *carry, const struct thing *thing) {
        mp_put_map(&carry->out, ELEMENTS(members));
        carry_put(carry, members, ELEMENTS(members), thing);
}

static struct mp saved(const struct carry *carry) {
        return (struct mp){carry->out.data, carry->out.len};
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)data;
}

static bool is_kept(int fd) {
        return !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

/* What is read is what was written. */
static void test_both_ways(void **state) {
        struct event_base *base = event_base_new();
        struct thing thing = {
                .flag = true,
                .colour = GREEN,
                .small = UINT32_MAX,
                .large = SIZE_MAX,
                .negative = INT32_MIN,
                .very_negative = INT64_MIN,
                .figures = {1, UINT64_MAX, 0},
                .fd = open("/dev/null", O_RDONLY | O_CLOEXEC),
                .no_fd = -1,
                .text = "text",
                .bytes = "1234567",
                .slice = {(const uint8_t *)"slice", 5},
                .timer = evtimer_new(base, on_timer, NULL),
                .idle = evtimer_new(base, on_timer, NULL),
        };
        struct thing read = {
                .no_fd = 7,
                .timer = evtimer_new(base, on_timer, NULL),
                .idle = evtimer_new(base, on_timer, NULL),
        };
        CLEANUP_CARRY struct carry carry = {0};
        usec_t at = clock_now_usec() + 5 * USEC_PER_SEC;

        (void)state;
        buf_append_str(&thing.buf, "buf");
        timer_start_at(thing.timer, at);
        save(&carry, &thing);
        assert_int_equal(buf_error(&carry.out), 0);

        carry_keep(&carry, true);
        assert_true(is_kept(thing.fd));
        carry_keep(&carry, false);
        assert_false(is_kept(thing.fd));
        carry_keep(&carry, true);

        assert_int_equal(carry_get(saved(&carry), members, ELEMENTS(members), &read), 0);
        assert_true(read.flag && read.colour == GREEN && read.small == UINT32_MAX && read.large == SIZE_MAX);
        assert_true(read.negative == INT32_MIN && read.very_negative == INT64_MIN);
        assert_memory_equal(read.figures, thing.figures, sizeof(read.figures));
        assert_int_equal(read.fd, thing.fd);
        assert_false(is_kept(read.fd));
        assert_int_equal(read.no_fd, -1);
        assert_string_equal(read.text, "text");
        assert_ptr_not_equal(read.text, thing.text);
        assert_null(read.no_text);
        assert_string_equal(read.bytes, "1234567");
        assert_int_equal(read.buf.len, 3);
        assert_memory_equal(read.buf.data, "buf", 3);
        assert_int_equal(read.slice.len, 5);
        /* The loop's clock is coarse: it goes by ticks of up to 10 ms. */
        assert_true(timer_at(read.timer) > at - 20 * USEC_PER_MSEC && timer_at(read.timer) < at + 20 * USEC_PER_MSEC);
        assert_int_equal(timer_at(read.idle), 0);

        event_free(thing.timer);
        event_free(thing.idle);
        event_free(read.timer);
        event_free(read.idle);
        event_base_free(base);
        free(read.text);
        buf_done(&read.buf);
        buf_done(&thing.buf);
        (void)close(thing.fd);
}

struct small {
        unsigned number;
        char name[4];
};
static const struct carried small_members[] = {CARRIED(UINT, struct small, number), CARRIED(BYTES, struct small, name)};

static int get_small(const struct buf *buf, struct small *ret) {
        return carry_get((struct mp){buf->data, buf->len}, small_members, ELEMENTS(small_members), ret);
}

/* Another version may know more, or less. */
static void test_other_versions(void **state) {
        CLEANUP_BUF struct buf more = {0}, none = {0}, longer = {0};
        struct small small = {.number = 1};

        (void)state;
        mp_put_map(&none, 0);
        assert_int_equal(get_small(&none, &small), 0);
        assert_int_equal(small.number, 1);

        mp_put_map(&more, 2);
        mp_put_str(&more, "something new");
        mp_put_array(&more, 0);
        mp_put_str(&more, "number");
        mp_put_uint(&more, 2);
        assert_int_equal(get_small(&more, &small), 0);
        assert_int_equal(small.number, 2);

        mp_put_map(&longer, 1);
        mp_put_str(&longer, "name");
        mp_put_bin(&longer, "abcdefgh", 8);
        assert_int_equal(get_small(&longer, &small), 0);
        assert_string_equal(small.name, "abc");
}

/* What does not fit is refused. */
static void test_wrong_types(void **state) {
        CLEANUP_BUF struct buf large = {0}, text = {0}, array = {0};
        struct small small;

        (void)state;
        mp_put_map(&large, 1);
        mp_put_str(&large, "number");
        mp_put_uint(&large, (uint64_t)UINT32_MAX + 1);
        assert_int_equal(get_small(&large, &small), -EBADMSG);

        mp_put_map(&text, 1);
        mp_put_str(&text, "number");
        mp_put_str(&text, "2");
        assert_int_equal(get_small(&text, &small), -EBADMSG);

        mp_put_array(&array, 0);
        assert_int_equal(get_small(&array, &small), -EBADMSG);
        assert_int_equal(carry_get((struct mp){0}, small_members, ELEMENTS(small_members), &small), -EBADMSG);
}

/* A buffer that lacks something because memory was short is not carried as if it were whole. */
static void test_an_error_is_not_carried(void **state) {
        struct thing thing = {.buf = {.error = -ENOMEM}};
        static const struct carried buf[] = {CARRIED(BUF, struct thing, buf)};
        CLEANUP_CARRY struct carry carry = {0};

        (void)state;
        carry_put(&carry, buf, ELEMENTS(buf), &thing);
        assert_int_equal(buf_error(&carry.out), -ENOMEM);
}

static void test_items(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        struct carry_items items;
        struct mp item;

        (void)state;
        mp_put_array(&buf, 2);
        mp_put_uint(&buf, 1);
        mp_put_map(&buf, 0);
        items = carry_items((struct mp){buf.data, buf.len});
        assert_true(carry_next(&items, &item) && carry_next(&items, &item));
        assert_false(carry_next(&items, &item));
        items = carry_items(item);
        assert_false(carry_next(&items, &item));
        items = carry_items((struct mp){0});
        assert_false(carry_next(&items, &item));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_both_ways),   cmocka_unit_test(test_other_versions),
                cmocka_unit_test(test_wrong_types), cmocka_unit_test(test_an_error_is_not_carried),
                cmocka_unit_test(test_items),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
