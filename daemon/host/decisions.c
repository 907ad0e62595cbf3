/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What was written leaves the buffer byte by byte, so that a line which a full disk has cut goes on where it was cut when there is room again. Only a
 * new file must not begin with the rest of one: that line is dropped.
 *
 * Whether the file is still the one at its path is looked at before each write; so whoever rotates it has to tell nobody. Nothing waits: a
 * FIFO is opened and written without blocking, a file is written to the page cache.
 */

#include "host/decisions.h"

#include <fcntl.h>
#include <sys/stat.h>

#define WAITING_BYTES ((size_t)1 << 20)
#define AT_ONCE_BYTES ((size_t)64 << 10)
#define COLLECT_USEC (50 * USEC_PER_MSEC)
#define RETRY_USEC USEC_PER_SEC

struct decisions {
        struct generation *const *current;
        struct event *timer;
        char *path; /* NULL: none yet */
        int fd;     /* -1: it is not open */
        struct buf waiting;
        bool cut; /* the first line that waits is partly written */
        uint64_t dropped;
        usec_t retry_usec;           /* not before */
        bool failing;                /* and the log says so */
        uint64_t dropped_at_failure; /* how many had been dropped before */
};

/* ---- Complaints: once, and once when it is over ---- */

static void complain(struct decisions *decisions, int error) {
        if (decisions->failing)
                return;
        decisions->failing = true;
        decisions->dropped_at_failure = decisions->dropped;
        log_error("%s: decisions cannot be written: %s; they wait, and those beyond %zu KiB are dropped (decisions.path)",
                  decisions->path, strerror(error), WAITING_BYTES >> 10);
}

static void recover(struct decisions *decisions) {
        if (!decisions->failing)
                return;
        decisions->failing = false;
        log_notice("%s: decisions are written again; %llu were dropped", decisions->path,
                   (unsigned long long)(decisions->dropped - decisions->dropped_at_failure));
}

static void fail(struct decisions *decisions, int error) {
        decisions->retry_usec = clock_now_usec() + RETRY_USEC;
        complain(decisions, error);
}

/* ---- The file ---- */

static void close_file(struct decisions *decisions) {
        uint8_t *newline = decisions->cut ? memchr(decisions->waiting.data, '\n', decisions->waiting.len) : NULL;

        if (newline) {
                buf_consume(&decisions->waiting, (size_t)(newline - decisions->waiting.data) + 1);
                decisions->dropped++;
        }
        decisions->cut = false;
        decisions->fd = fd_close(decisions->fd);
}

/* Return: whether what is open is what is at the path. */
static bool is_current(const struct decisions *decisions) {
        struct stat ours, theirs;

        return decisions->fd >= 0 && fstat(decisions->fd, &ours) == 0 && stat(decisions->path, &theirs) == 0 &&
               ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* Its group may read it, whatever the umask. Return: a descriptor, or a negative errno. */
static int open_or_create(const char *path) {
        const int flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
        int fd = open(path, flags);

        if (fd >= 0 || errno != ENOENT)
                return fd >= 0 ? fd : -errno;
        fd = open(path, flags | O_CREAT | O_EXCL, 0640);
        if (fd < 0)
                return -errno;
        (void)fchmod(fd, 0640);
        return fd;
}

/* Return: whether the file at the path is open. */
static bool open_file(struct decisions *decisions) {
        int fd;

        if (is_current(decisions))
                return true;
        close_file(decisions);
        fd = open_or_create(decisions->path);
        if (fd < 0)
                fail(decisions, -fd);
        else
                decisions->fd = fd;
        return fd >= 0;
}

static void write_waiting(struct decisions *decisions) {
        struct buf *waiting = &decisions->waiting;

        while (waiting->len > 0) {
                ssize_t n = write(decisions->fd, waiting->data, waiting->len);
                int error = n < 0 ? errno : 0;

                if (error == EINTR)
                        continue;
                if (error == EAGAIN) /* who reads the FIFO is slow */
                        return;
                if (error == EPIPE) /* who read it is gone */
                        close_file(decisions);
                if (error) {
                        fail(decisions, error);
                        return;
                }
                decisions->cut = waiting->data[n - 1] != '\n';
                buf_consume(waiting, (size_t)n);
        }
        recover(decisions);
}

/* Without memory for that, the next line asks again. */
static void flush_after(struct decisions *decisions, usec_t usec) {
        const struct timeval after = usec_to_timeval(usec);

        (void)event_add(decisions->timer, &after);
}

static void flush(struct decisions *decisions) {
        if (decisions->waiting.len == 0)
                return;
        if (clock_now_usec() >= decisions->retry_usec && open_file(decisions))
                write_waiting(decisions);
        if (decisions->waiting.len > 0)
                flush_after(decisions, clock_now_usec() < decisions->retry_usec ? RETRY_USEC : COLLECT_USEC);
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        flush(data);
}

/* ---- Lines ---- */

/* Return: whether it is known; what waits goes to the new one, too. */
static bool take_path(struct decisions *decisions, const char *path) {
        if (str_eq(decisions->path, path))
                return true;
        close_file(decisions);
        free(decisions->path);
        decisions->path = strdup(path);
        decisions->retry_usec = 0;
        if (decisions->path)
                flush(decisions);
        return decisions->path;
}

void decisions_add(struct decisions *decisions, const struct invocation *invocation, const struct decision_host *host) {
        const struct daemon_config *config = (*decisions->current)->daemon;
        struct buf *waiting = &decisions->waiting;
        size_t before = waiting->len;

        if (!config->decisions_path || !decision_is_wanted(invocation, (enum decisions_which)config->decisions_which) ||
            !take_path(decisions, config->decisions_path))
                return;
        decision_put(invocation, host, waiting);
        if (buf_error(waiting)) {
                waiting->len = before;
                waiting->error = 0;
                complain(decisions, ENOBUFS);
                decisions->dropped++;
        }
        if (before < AT_ONCE_BYTES && waiting->len >= AT_ONCE_BYTES)
                flush(decisions);
        else if (!event_pending(decisions->timer, EV_TIMEOUT, NULL))
                flush_after(decisions, COLLECT_USEC);
}

uint64_t decisions_dropped(const struct decisions *decisions) {
        return decisions->dropped;
}

int decisions_new(struct decisions **ret, struct event_base *base, struct generation *const *current) {
        struct decisions *decisions = calloc(1, sizeof(*decisions));

        if (!decisions || !(decisions->timer = evtimer_new(base, on_timer, decisions))) {
                free(decisions);
                return -ENOMEM;
        }
        decisions->current = current;
        decisions->fd = -1;
        decisions->waiting.limit = WAITING_BYTES;
        *ret = decisions;
        return 0;
}

static const struct carried members[] = {
        CARRIED(STR, struct decisions, path),     CARRIED(FD, struct decisions, fd),
        CARRIED(BUF, struct decisions, waiting),  CARRIED(BOOL, struct decisions, cut),
        CARRIED(UINT, struct decisions, dropped), CARRIED(UINT, struct decisions, retry_usec),
        CARRIED(BOOL, struct decisions, failing), CARRIED(UINT, struct decisions, dropped_at_failure),
};

void decisions_save(const struct decisions *decisions, struct carry *carry) {
        mp_put_map(&carry->out, ELEMENTS(members));
        carry_put(carry, members, ELEMENTS(members), decisions);
}

int decisions_adopt(struct decisions *decisions, struct mp saved) {
        int r = carry_get(saved, members, ELEMENTS(members), decisions);

        if (decisions->waiting.len > 0)
                flush_after(decisions, COLLECT_USEC);
        return r;
}

struct decisions *decisions_free(struct decisions *decisions) {
        if (!decisions)
                return NULL;
        decisions->retry_usec = 0;
        flush(decisions);
        event_free(decisions->timer);
        close_file(decisions);
        free(decisions->path);
        buf_done(&decisions->waiting);
        free(decisions);
        return NULL;
}
