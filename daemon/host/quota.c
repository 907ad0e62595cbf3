/* SPDX-License-Identifier: Apache-2.0 */

/*
 * dbus-broker's rule: what a user may hold depends on how many users there are and not on who came first. A user may hold more than the
 * share after others have come, but gets no more until enough was given back.
 *
 * An account outlives its last connection by its second, or reconnecting would be a way around the rate.
 */

#include "host/quota.h"

#include <unistd.h>

static void account_free(struct account *account) {
        account->accounts->n_untrusted -= !account->trusted;
        LIST_REMOVE(account, link);
        free(account);
}

static void forget_the_gone(struct accounts *accounts, usec_t now) {
        struct account *account = LIST_FIRST(&accounts->all), *next;

        for (; account; account = next) {
                next = LIST_NEXT(account, link);
                if (account->refs == 0 && now - account->second_usec >= USEC_PER_SEC)
                        account_free(account);
        }
}

struct account *account_open(struct accounts *accounts, uid_t uid) {
        struct account *account;

        forget_the_gone(accounts, clock_now_usec());
        LIST_FOREACH(account, &accounts->all, link)
                if (account->uid == uid)
                        break;
        if (!account) {
                account = calloc(1, sizeof(*account));
                if (!account)
                        return NULL;
                account->accounts = accounts;
                account->uid = uid;
                account->trusted = uid == 0 || uid == geteuid();
                accounts->n_untrusted += !account->trusted;
                LIST_INSERT_HEAD(&accounts->all, account, link);
        }
        account->refs++;
        return account;
}

void account_close(struct account *account) {
        account->refs--;
}

bool account_connects(struct account *account, usec_t now) {
        if (now - account->second_usec >= USEC_PER_SEC) {
                account->second_usec = now;
                account->n_opened = 0;
        }
        return account->trusted || account->n_opened++ < account->accounts->rate;
}

size_t account_limit(const struct account *account, enum quota quota) {
        size_t total = account->accounts->total[quota];

        return account->trusted ? total : total / (account->accounts->n_untrusted + 1);
}

bool account_take(struct account *account, enum quota quota, size_t amount) {
        struct accounts *accounts = account->accounts;
        size_t limit = account_limit(account, quota), total = accounts->total[quota];

        if (amount > limit || account->held[quota] > limit - amount || amount > total || accounts->held[quota] > total - amount)
                return false;
        account_hold(account, quota, amount);
        return true;
}

void account_hold(struct account *account, enum quota quota, size_t amount) {
        account->held[quota] += amount;
        account->accounts->held[quota] += amount;
}

void account_give(struct account *account, enum quota quota, size_t amount) {
        account->held[quota] -= amount;
        account->accounts->held[quota] -= amount;
}

void accounts_done(struct accounts *accounts) {
        while (!LIST_EMPTY(&accounts->all))
                account_free(LIST_FIRST(&accounts->all));
}
