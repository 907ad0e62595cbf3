/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the users who connect may hold at once: connections, calls in flight, and bytes in the daemon's memory.
 *
 * Each kind has a total. Of what there is, n users may hold 1/(n+1) each, so that something is always left for the next one,
 * however many connections a user opens. The daemon's own user and root, who can stop the daemon anyway, may hold all.
 *
 * A user who connects too often is refused for the rest of the second.
 */

#include <sys/queue.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/util.h"

enum quota { QUOTA_CONNECTIONS, QUOTA_CALLS, QUOTA_BYTES, QUOTA_MAX_ };

struct account {
        LIST_ENTRY(account) link;
        struct accounts *accounts;
        uid_t uid;
        bool trusted;
        unsigned refs;
        size_t held[QUOTA_MAX_];
        usec_t second_usec; /* when the second began in which n_opened are counted */
        unsigned n_opened;
};

struct accounts {
        LIST_HEAD(, account) all;
        size_t n_untrusted;
        size_t held[QUOTA_MAX_], total[QUOTA_MAX_];
        unsigned rate; /* connections a second of one user */
};

/* The account of a user, new or not. Return: NULL for want of memory. */
struct account *account_open(struct accounts *accounts, uid_t uid);

/* Gives the reference up. An account that nobody refers to goes when its second is over, or when the next one is opened after that. */
void account_close(struct account *account);

/* Counts a connection. Return: whether it is within the rate. */
bool account_connects(struct account *account, usec_t now);

/* Return: the most that the user may hold now. */
size_t account_limit(const struct account *account, enum quota quota);

/* Return: whether there is so much more for the user, who has it then. */
bool account_take(struct account *account, enum quota quota, size_t amount);
void account_hold(struct account *account, enum quota quota, size_t amount); /* what it had before, whatever the limits are */
void account_give(struct account *account, enum quota quota, size_t amount);

void accounts_done(struct accounts *accounts);
