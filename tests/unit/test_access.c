/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "host/access.h"

#include <sys/socket.h>

static bool allows(struct caller caller, const struct peer *peer, const char *hook) {
        const struct callers callers = {.items = &caller, .n = 1};
        const struct mp text = {(const uint8_t *)hook, hook ? strlen(hook) : 0};

        return access_allows(&callers, peer, hook ? &text : NULL);
}

static void test_who_is_meant(void **state) {
        gid_t groups[] = {7, 9};
        struct peer peer = {.uid = 100, .gid = 200, .groups = groups, .n_groups = 2};

        (void)state;
        assert_true(allows((struct caller){.kind = CALLER_ANY}, &peer, NULL));
        assert_true(allows((struct caller){.kind = CALLER_USER, .id = 100}, &peer, NULL));
        assert_false(allows((struct caller){.kind = CALLER_USER, .id = 200}, &peer, NULL)); /* a group's number */
        assert_true(allows((struct caller){.kind = CALLER_GROUP, .id = 200}, &peer, NULL));
        assert_true(allows((struct caller){.kind = CALLER_GROUP, .id = 9}, &peer, NULL));
        assert_false(allows((struct caller){.kind = CALLER_GROUP, .id = 100}, &peer, NULL));
        assert_false(access_allows(&(struct callers){0}, &peer, NULL));
        peer.trusted = true;
        assert_true(access_allows(&(struct callers){0}, &peer, NULL));
}

static void test_hooks(void **state) {
        char *patterns[] = {"tool_*", "resource_post_fetch"};
        const struct caller caller = {.kind = CALLER_ANY, .hooks = {patterns, 2}};
        const struct peer peer = {.uid = 100};
        char longest[257];

        (void)state;
        assert_true(allows(caller, &peer, NULL));
        assert_true(allows(caller, &peer, "tool_pre_invoke"));
        assert_true(allows(caller, &peer, "resource_post_fetch"));
        assert_false(allows(caller, &peer, "resource_pre_fetch"));
        assert_false(allows(caller, &peer, "my_tool_"));
        assert_false(allows(caller, &peer, ""));
        memset(longest, 'x', sizeof(longest));
        memcpy(longest, "tool_", 5);
        longest[256] = 0;
        assert_false(allows(caller, &peer, longest));
        longest[255] = 0;
        assert_true(allows(caller, &peer, longest));
        assert_false(access_allows(&(struct callers){(struct caller *)&caller, 1}, &peer,
                                   &(struct mp){(const uint8_t *)"tool_\0", 6}));
}

static void test_the_kernel_says_who(void **state) {
        struct peer peer = {0};
        int fds[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(peer_read(&peer, fds[0]), 0);
        assert_int_equal(peer.pid, getpid());
        assert_int_equal(peer.uid, geteuid());
        assert_int_equal(peer.gid, getegid());
        assert_int_equal(peer.n_groups, getgroups(0, NULL));
        assert_true(peer.trusted);
        peer_done(&peer);
        close(fds[0]);
        close(fds[1]);
        assert_int_equal(peer_read(&peer, fds[0]), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_who_is_meant),
                cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_the_kernel_says_who),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
