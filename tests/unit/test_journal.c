/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <stdio.h>
#include <sys/socket.h>

#include "base/journal.h"

struct fixture {
        char folder[64], path[96];
        int fd; /* who reads the journal */
        struct journal journal;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        (void)snprintf(f->folder, sizeof(f->folder), "%s", "/tmp/test-journal-XXXXXX");
        assert_non_null(mkdtemp(f->folder));
        (void)snprintf(f->path, sizeof(f->path), "%s/socket", f->folder);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->path);
        f->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(f->fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(journal_open(&f->journal, f->path), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        (void)fd_close(f->fd);
        (void)fd_close(f->journal.fd);
        (void)unlink(f->path);
        (void)rmdir(f->folder);
        free(f);
        return 0;
}

static void test_an_entry(void **state) {
        static const char expected[] = "PRIORITY\n\1\0\0\0\0\0\0\0006\n"
                                       "MESSAGE\n\4\0\0\0\0\0\0\0a\nB=\n"
                                       "PLUGIN\n\0\0\0\0\0\0\0\0\n";
        const struct journal_field fields[] = {{"PRIORITY", "6", 1}, {"MESSAGE", "a\nB=", 4}, {"PLUGIN", "", 0}};
        struct fixture *f = *state;
        char got[256];

        assert_int_equal(journal_send(&f->journal, fields, ELEMENTS(fields)), 0);
        assert_int_equal(recv(f->fd, got, sizeof(got), 0), sizeof(expected) - 1);
        assert_memory_equal(got, expected, sizeof(expected) - 1);
}

static void test_a_full_journal_is_not_waited_for(void **state) {
        const struct journal_field field = {"MESSAGE", "x", 1};
        struct fixture *f = *state;
        char got[64];
        int r = 0;

        for (int i = 0; i < 100000 && r == 0; i++)
                r = journal_send(&f->journal, &field, 1);
        assert_int_equal(r, -EAGAIN);
        assert_true(recv(f->fd, got, sizeof(got), 0) > 0);
        assert_int_equal(journal_send(&f->journal, &field, 1), 0);
}

/* The fixture's socket has room for some; the rest waits, in order, and what is beyond the bound is refused. */
static void test_entries_wait_for_the_loop(void **state) {
        const struct timeval while_it_turns = {.tv_usec = 30000};
        struct event_base *base = event_base_new();
        struct fixture *f = *state;
        int sent = 0, read = 0;
        char text[16];

        assert_int_equal(journal_attach(&f->journal, base), 0);
        for (int r = 0; r == 0; sent += r == 0) {
                (void)snprintf(text, sizeof(text), "x%d\n", sent);
                r = journal_send(&f->journal, &(struct journal_field){"M", text, strlen(text) + 1}, 1);
                assert_true(r == 0 || r == -EAGAIN);
        }
        assert_in_range(f->journal.waiting.len, (256 << 10) - 64, 256 << 10);
        for (int turn = 0; turn < 3; turn++) {
                for (;; read++) {
                        char got[64] = "", expected[16];

                        if (recv(f->fd, got, sizeof(got) - 1, MSG_DONTWAIT) < 0)
                                break;
                        (void)snprintf(expected, sizeof(expected), "x%d\n", read);
                        assert_string_equal(got + 10, expected);
                }
                assert_int_equal(event_base_loopexit(base, &while_it_turns), 0);
                (void)event_base_dispatch(base);
        }
        assert_true(read > 2 && read < sent);
        assert_int_equal(journal_send(&f->journal, &(struct journal_field){"M", "", 0}, 1), 0);
        journal_detach(&f->journal);
        assert_int_equal(f->journal.waiting.len, 0);
        event_base_free(base);
}

static void test_an_absent_journal(void **state) {
        const struct journal_field field = {"MESSAGE", "x", 1};
        struct fixture *f = *state;

        f->fd = fd_close(f->fd);
        assert_int_equal(journal_send(&f->journal, &field, 1), -ECONNREFUSED);
        assert_int_equal(unlink(f->path), 0);
        assert_int_equal(journal_send(&f->journal, &field, 1), -ENOENT);
}

static void test_bounds(void **state) {
        const struct journal_field fields[17] = {0};
        struct fixture *f = *state;
        struct journal journal;
        char path[109];

        assert_int_equal(journal_send(&f->journal, fields, 17), -E2BIG);
        memset(path, 'x', sizeof(path));
        path[108] = 0;
        assert_int_equal(journal_open(&journal, path), -ENAMETOOLONG);
        path[107] = 0;
        assert_int_equal(journal_open(&journal, path), 0);
        (void)fd_close(journal.fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_an_entry, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_full_journal_is_not_waited_for, setup, teardown),
                cmocka_unit_test_setup_teardown(test_entries_wait_for_the_loop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_an_absent_journal, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
