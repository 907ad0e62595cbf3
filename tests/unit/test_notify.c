/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/notify.h"

/* Listens as a service manager does, at an abstract address. */
static int manager(void) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char name[64];
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)snprintf(name, sizeof(name), "@cpexd-test-notify-%d", (int)getpid());
        memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
        assert_int_equal(
                bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
        return fd;
}

static void expect(int fd, const char *expected) {
        char got[1024] = "";

        assert_true(recv(fd, got, sizeof(got) - 1, 0) > 0);
        assert_string_equal(got, expected);
}

static void test_what_is_said(void **state) {
        CLEANUP_FD int fd = manager();
        char got[1024] = "";

        (void)state;
        notify_status("%d %s", 5, "things");
        expect(fd, "STATUS=5 things");
        notify_ready();
        expect(fd, "READY=1");
        notify_stopping(7 * USEC_PER_SEC);
        expect(fd, "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000");
        notify_extend(30 * USEC_PER_SEC);
        expect(fd, "EXTEND_TIMEOUT_USEC=30000000");
        notify_reloading();
        assert_true(recv(fd, got, sizeof(got) - 1, 0) > 0);
        assert_int_equal(strncmp(got, "RELOADING=1\nMONOTONIC_USEC=", 27), 0);
}

static void test_a_manager_that_does_not_read(void **state) {
        CLEANUP_FD int fd = manager();
        usec_t before = clock_now_usec();

        (void)state;
        (void)fd;
        for (int i = 0; i < 10000; i++)
                notify_status("x");
        notify_ready();
        assert_true(clock_now_usec() - before < 5 * USEC_PER_SEC);
}

static void test_nobody_asked(void **state) {
        (void)state;
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        notify_ready();
        assert_int_equal(setenv("NOTIFY_SOCKET", "relative", 1), 0);
        notify_ready();
        assert_int_equal(setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1), 0);
        notify_ready();
}

static unsigned barks(int fd) {
        char got[64] = "";
        unsigned n = 0;

        for (; recv(fd, got, sizeof(got) - 1, 0) > 0; n++)
                assert_string_equal(got, "WATCHDOG=1");
        return n;
}

static void test_watchdog(void **state) {
        const struct timeval while_it_turns = {.tv_usec = 260000};
        CLEANUP_FD int fd = manager();
        struct event_base *base = event_base_new();
        struct event *watchdog = NULL;

        (void)state;
        assert_int_equal(setenv("WATCHDOG_USEC", "100000", 1), 0);
        assert_int_equal(unsetenv("WATCHDOG_PID"), 0);
        assert_int_equal(notify_watchdog_new(&watchdog, base), 0);
        assert_non_null(watchdog);
        (void)usleep(150000);
        assert_int_equal(barks(fd), 0); /* the loop does not turn */
        assert_int_equal(event_base_loopexit(base, &while_it_turns), 0);
        (void)event_base_dispatch(base);
        assert_in_range(barks(fd), 1, 6);
        event_free(watchdog);
        event_base_free(base);
}

static void test_no_watchdog(void **state) {
        static const char *const others[] = {"0", "", "x", "5x", "-5", "18446744073709551615"};
        struct event_base *base = event_base_new();
        struct event *watchdog;

        (void)state;
        for (size_t i = 0; i < ELEMENTS(others); i++) {
                assert_int_equal(setenv("WATCHDOG_USEC", others[i], 1), 0);
                assert_int_equal(notify_watchdog_new(&watchdog, base), 0);
                assert_null(watchdog);
        }
        assert_int_equal(setenv("WATCHDOG_USEC", "1000000", 1), 0);
        assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0); /* somebody else's */
        assert_int_equal(notify_watchdog_new(&watchdog, base), 0);
        assert_null(watchdog);
        event_base_free(base);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_is_said), cmocka_unit_test(test_a_manager_that_does_not_read),
                cmocka_unit_test(test_nobody_asked), cmocka_unit_test(test_watchdog),
                cmocka_unit_test(test_no_watchdog),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
