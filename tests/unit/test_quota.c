/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "host/quota.h"

#include <unistd.h>

#define ALICE 100001
#define BOB 100002
#define CAROL 100003

static struct accounts accounts_of(size_t total) {
        return (struct accounts){.total = {total, total, total}, .rate = 3};
}

/* n users may hold 1/(n+1) each, to the unit. */
static void test_shares(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *alice = account_open(&accounts, ALICE), *bob, *carol;

        (void)state;
        assert_int_equal(account_limit(alice, QUOTA_CALLS), 6);
        assert_true(account_take(alice, QUOTA_CALLS, 5));
        assert_false(account_take(alice, QUOTA_CALLS, 2));
        assert_true(account_take(alice, QUOTA_CALLS, 1));
        assert_false(account_take(alice, QUOTA_CALLS, 1));
        assert_true(account_take(alice, QUOTA_BYTES, 6)); /* each kind for itself */

        bob = account_open(&accounts, BOB);
        assert_int_equal(account_limit(bob, QUOTA_CALLS), 4);
        assert_true(account_take(bob, QUOTA_CALLS, 4));
        assert_false(account_take(bob, QUOTA_CALLS, 1));
        account_give(alice, QUOTA_CALLS, 2); /* she is at the new limit, and gets nothing */
        assert_false(account_take(alice, QUOTA_CALLS, 1));
        account_give(alice, QUOTA_CALLS, 1);
        assert_true(account_take(alice, QUOTA_CALLS, 1));

        carol = account_open(&accounts, CAROL);
        assert_int_equal(account_limit(carol, QUOTA_CALLS), 3);
        assert_true(account_take(carol, QUOTA_CALLS, 3));
        assert_false(account_take(carol, QUOTA_CALLS, 1));
        accounts_done(&accounts);
}

/* What there is, is never exceeded, though each is within the share. */
static void test_total(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *alice = account_open(&accounts, ALICE), *root = account_open(&accounts, 0);

        (void)state;
        assert_true(account_take(root, QUOTA_BYTES, 12));
        assert_false(account_take(alice, QUOTA_BYTES, 1));
        assert_false(account_take(root, QUOTA_BYTES, 1));
        account_give(root, QUOTA_BYTES, 12);
        assert_true(account_take(alice, QUOTA_BYTES, 6));
        assert_false(account_take(root, QUOTA_BYTES, 7));
        assert_true(account_take(root, QUOTA_BYTES, 6));
        assert_false(account_take(alice, QUOTA_BYTES, SIZE_MAX));
        accounts_done(&accounts);
}

static void test_trusted(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *own = account_open(&accounts, geteuid());

        (void)state;
        assert_int_equal(account_limit(own, QUOTA_CONNECTIONS), 12);
        for (int i = 0; i < 10; i++)
                assert_true(account_connects(own, 5));
        assert_int_equal(account_limit(account_open(&accounts, ALICE), QUOTA_CONNECTIONS), 6);
        accounts_done(&accounts);
}

static void test_rate(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *alice = account_open(&accounts, ALICE);
        usec_t now = clock_now_usec();

        (void)state;
        for (int i = 0; i < 3; i++)
                assert_true(account_connects(alice, now));
        assert_false(account_connects(alice, now));
        assert_false(account_connects(alice, now + USEC_PER_SEC - 1));
        assert_true(account_connects(alice, now + USEC_PER_SEC));
        accounts_done(&accounts);
}

/* Who goes and comes again within the second is the same. */
static void test_memory_of_the_gone(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *alice = account_open(&accounts, ALICE);

        (void)state;
        assert_true(account_connects(alice, clock_now_usec()));
        account_close(alice);
        assert_ptr_equal(account_open(&accounts, ALICE), alice);
        account_close(alice);
        alice->second_usec -= USEC_PER_SEC;
        (void)account_open(&accounts, BOB);
        assert_int_equal(accounts.n_untrusted, 1);
        accounts_done(&accounts);
        assert_int_equal(accounts.n_untrusted, 0);
}

/* What was held before an upgrade is held again, whatever the limits are by now; there is just no more. */
static void test_hold(void **state) {
        struct accounts accounts = accounts_of(12);
        struct account *alice = account_open(&accounts, ALICE);

        (void)state;
        account_hold(alice, QUOTA_CALLS, 13);
        assert_false(account_take(alice, QUOTA_CALLS, 1));
        account_give(alice, QUOTA_CALLS, 8);
        assert_true(account_take(alice, QUOTA_CALLS, 1));
        assert_false(account_take(alice, QUOTA_CALLS, 1));
        accounts_done(&accounts);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_shares),
                cmocka_unit_test(test_total),
                cmocka_unit_test(test_trusted),
                cmocka_unit_test(test_rate),
                cmocka_unit_test(test_memory_of_the_gone),
                cmocka_unit_test(test_hold),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
