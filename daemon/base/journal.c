/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A field is NAME, a newline, its length in eight bytes, the value and a newline. In that form, unlike in NAME=value, no value can end its
 * field early and begin another: values come from plugins and hosts.
 *
 * The journal's socket has room for few entries (net.unix.max_dgram_qlen: ten, where nobody has raised it), and a burst fills it
 * before the journal is scheduled. sd_journal_send(3) waits then; here the entries do. There is no telling when a datagram socket has
 * room, so they are tried again by the clock.
 */

#include "base/journal.h"

#include <endian.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"

#define FIELDS_MAX 16
#define PARTS 5 /* of a field */
#define WAITING_BYTES ((size_t)256 << 10)
#define RETRY_USEC (10 * USEC_PER_MSEC)
#define DETACH_USEC (100 * USEC_PER_MSEC)

int journal_open(struct journal *ret, const char *path) {
        struct journal journal = {.address.sun_family = AF_UNIX, .waiting.limit = WAITING_BYTES};

        if (strlen(path) >= sizeof(journal.address.sun_path))
                return -ENAMETOOLONG;
        memcpy(journal.address.sun_path, path, strlen(path) + 1);
        journal.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (journal.fd < 0)
                return -errno;
        *ret = journal;
        return 0;
}

static int send_parts(const struct journal *journal, struct iovec *parts, size_t n, int flags) {
        struct msghdr message = {
                .msg_name = (void *)&journal->address,
                .msg_namelen = sizeof(journal->address),
                .msg_iov = parts,
                .msg_iovlen = n,
        };

        return sendmsg(journal->fd, &message, MSG_NOSIGNAL | flags) < 0 ? -errno : 0;
}

/* ---- What waits ---- */

/* Sends in order until one has no room. */
static void send_waiting(struct journal *journal, int flags) {
        size_t at = 0, len;

        while (at < journal->waiting.len) {
                struct iovec part;

                memcpy(&len, journal->waiting.data + at, sizeof(len));
                part = (struct iovec){journal->waiting.data + at + sizeof(len), len};
                if (send_parts(journal, &part, 1, flags) == -EAGAIN)
                        break;
                at += sizeof(len) + len;
        }
        buf_consume(&journal->waiting, at);
}

static void schedule(struct journal *journal) {
        const struct timeval after = usec_to_timeval(RETRY_USEC);

        if (!event_pending(journal->retry, EV_TIMEOUT, NULL))
                (void)event_add(journal->retry, &after);
}

static void on_retry(evutil_socket_t fd, short what, void *data) {
        struct journal *journal = data;

        (void)fd;
        (void)what;
        send_waiting(journal, MSG_DONTWAIT);
        if (journal->waiting.len > 0)
                schedule(journal);
        else
                buf_done(&journal->waiting);
}

static int add_waiting(struct journal *journal, const struct iovec *parts, size_t n) {
        size_t len = 0;

        for (size_t i = 0; i < n; i++)
                len += parts[i].iov_len;
        if (!journal->retry || !buf_reserve(&journal->waiting, sizeof(len) + len)) {
                journal->waiting.error = 0;
                return -EAGAIN;
        }
        buf_append(&journal->waiting, &len, sizeof(len));
        for (size_t i = 0; i < n; i++)
                buf_append(&journal->waiting, parts[i].iov_base, parts[i].iov_len);
        schedule(journal);
        return 0;
}

int journal_attach(struct journal *journal, struct event_base *base) {
        journal->retry = evtimer_new(base, on_retry, journal);
        return journal->retry ? 0 : -ENOMEM;
}

void journal_detach(struct journal *journal) {
        const struct timeval limit = usec_to_timeval(DETACH_USEC);

        if (!journal->retry)
                return;
        (void)setsockopt(journal->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        send_waiting(journal, 0);
        buf_done(&journal->waiting);
        event_free(TAKE(journal->retry));
}

/* ---- Entries ---- */

int journal_send(struct journal *journal, const struct journal_field *fields, size_t n) {
        struct iovec parts[FIELDS_MAX * PARTS];
        uint64_t lengths[FIELDS_MAX];
        int r = -EAGAIN;

        if (n > FIELDS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < n; i++) {
                struct iovec *part = &parts[i * PARTS];

                lengths[i] = htole64(fields[i].len);
                part[0] = (struct iovec){(void *)fields[i].name, strlen(fields[i].name)};
                part[1] = part[4] = (struct iovec){(void *)"\n", 1};
                part[2] = (struct iovec){&lengths[i], sizeof(lengths[i])};
                part[3] = (struct iovec){(void *)fields[i].value, fields[i].len};
        }
        if (journal->waiting.len == 0)
                r = send_parts(journal, parts, n * PARTS, MSG_DONTWAIT);
        return r == -EAGAIN ? add_waiting(journal, parts, n * PARTS) : r;
}
