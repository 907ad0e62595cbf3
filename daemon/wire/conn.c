/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Why not libevent's bufferevents: they copy each byte through chained buffers, while a message that is passed on as one slice
 * wants to lie in one piece. Here bytes are read straight behind those that wait, a resumable scan (wire/mp.h) finds the end of
 * the message without looking at anything twice, and the handler gets pointers into that buffer.
 *
 * The read buffer grows with what has really arrived: once there is a 64th of a message, to all that it is declared to be. A handler may
 * share the memory of a large message; the next one is then read into other memory.
 *
 * A large thing that is only passed on is sent from where it lies: as the tail of the output, which becomes part of it only when something is
 * to follow before it is gone.
 *
 * A callback may free the connection. While messages are being handled (`busy`), conn_free() gives up the descriptor and the
 * events at once but leaves the memory, which holds the message, to the end of the handling.
 */

#include "wire/conn.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include "base/loop.h"

#define READ_CHUNK (64 * 1024)
#define READ_REST 4096          /* what a message may have behind a large value */
#define AHEAD 64                /* times what has arrived of a message: the most that memory is made for */
#define KEEP_BYTES (256 * 1024) /* an empty buffer larger than this is given back */
#define MESSAGES_A_TURN 64      /* so that one busy peer does not hold the loop */

struct conn {
        int fd;
        struct event *readable, *writable, *more, *close_later;
        struct conn_limits limits;
        const struct conn_handler *handler;
        void *data;

        struct buf in;
        size_t in_pos; /* bytes of `in` already handled */
        struct mp_scan scan;
        struct buf out, tail;
        size_t out_pos; /* bytes of both already written */

        size_t told; /* bytes of both buffers, as on_memory was told */
        enum conn_end end;
        const char *reason; /* why it is closing */
        bool closing, paused;
        bool left_over; /* messages have arrived that wait for the next turn */
        bool busy;      /* inside handle_input() */
        bool dead;      /* freed while busy */
};

static void conn_fail(struct conn *conn, enum conn_end end, const char *reason) {
        if (conn->closing)
                return;
        conn->closing = true;
        conn->end = end;
        conn->reason = reason;
        (void)event_del(conn->readable);
        (void)event_del(conn->writable);
        (void)event_del(conn->more);
        event_active(conn->close_later, EV_TIMEOUT, 0);
}

static void on_close_later(evutil_socket_t fd, short what, void *data) {
        struct conn *conn = data;

        (void)fd;
        (void)what;
        conn->handler->on_close(conn->data, conn->end, conn->reason);
}

/* Return: whether the connection may have the memory that it has. */
static bool account_memory(struct conn *conn) {
        size_t bytes = conn_memory(conn);
        const char *reason;

        if (bytes == conn->told || !conn->handler->on_memory)
                return true;
        reason = conn->handler->on_memory(conn->data, bytes);
        if (reason) {
                conn_fail(conn, CONN_BROKEN, reason);
                return false;
        }
        conn->told = bytes;
        return true;
}

static const char *scan_complaint(enum mp_scan_status status) {
        switch (status) {
        case MP_SCAN_BAD:
                return "the bytes are not msgpack";
        case MP_SCAN_DEEP:
                return "a message is nested too deeply";
        default:
                return "a message is longer than the limit (limits.frame_bytes)";
        }
}

/* Drops what was handled, when that is most of it, and the memory of a large message that is gone. */
static void input_compact(struct conn *conn) {
        if (conn->in_pos <= conn->in.len / 2 && conn->in.len > 0)
                return;
        buf_consume(&conn->in, conn->in_pos);
        conn->in_pos = 0;
        if (conn->in.len == 0 && (conn->in.cap > KEEP_BYTES || conn->in.shared))
                buf_done(&conn->in);
        (void)account_memory(conn);
}

static void conn_destroy(struct conn *conn) {
        buf_done(&conn->in);
        buf_done(&conn->out);
        buf_done(&conn->tail);
        free(conn);
}

static void handle_later(struct conn *conn) {
        conn->left_over = true;
        loop_next_turn(conn->more);
}

/* Handles the messages that have arrived whole. Return: false when the connection was freed. */
static bool handle_input(struct conn *conn) {
        struct rpc_msg msg;
        int n = 0;

        conn->busy = true;
        conn->left_over = false;
        while (!conn->dead && !conn->closing && !conn->paused && conn->in_pos < conn->in.len) {
                const uint8_t *data = conn->in.data + conn->in_pos;
                enum mp_scan_status status = mp_scan(&conn->scan, data, conn->in.len - conn->in_pos, conn->limits.frame_bytes);
                const char *wrong;

                if (status == MP_SCAN_MORE)
                        break;
                if (status != MP_SCAN_DONE) {
                        conn_fail(conn, CONN_BROKEN, scan_complaint(status));
                        break;
                }
                if (n++ == MESSAGES_A_TURN) { /* the scan stays at the end of the message */
                        handle_later(conn);
                        break;
                }
                wrong = rpc_parse((struct mp){data, conn->scan.pos}, &msg);
                if (wrong) {
                        conn_fail(conn, CONN_BROKEN, wrong);
                        break;
                }
                msg.memory = &conn->in;
                msg.values = conn->scan.values;
                conn->in_pos += conn->scan.pos;
                conn->scan.pos = 0;
                conn->scan.depth = conn->scan.deepest = 0;
                conn->scan.values = 0;
                conn->handler->on_message(conn->data, &msg);
        }
        conn->busy = false;
        if (conn->dead) {
                conn_destroy(conn);
                return false;
        }
        input_compact(conn);
        return true;
}

static void on_more(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)handle_input(data);
}

/* How much to ask for. A large message under way says how much is still to come at least, and has its memory for itself, which does not
 * grow for the little that may follow. */
static size_t read_size(const struct conn *conn) {
        size_t want = MIN((size_t)READ_CHUNK, conn->limits.frame_bytes + 1), have = conn->in.len - conn->in_pos;
        size_t coming = conn->scan.pos > have ? MIN(conn->scan.pos - have, AHEAD * have) : 0;
        size_t room = conn->in.cap - conn->in.len;

        if (have < READ_CHUNK)
                return MAX(want, coming);
        return coming > 0 ? coming + READ_REST : room >= READ_REST ? MIN(room, want) : want;
}

static void on_readable(evutil_socket_t fd, short what, void *data) {
        struct conn *conn = data;
        size_t want = read_size(conn);
        uint8_t *end;
        ssize_t n;

        (void)what;
        if (conn->closing || conn->left_over)
                return;
        end = buf_reserve(&conn->in, want);
        if (!end) {
                conn_fail(conn, CONN_BROKEN, "out of memory");
                return;
        }
        if (!account_memory(conn))
                return;
        n = recv(fd, end, want, MSG_DONTWAIT);
        if (n < 0) {
                if (errno != EAGAIN && errno != EINTR)
                        conn_fail(conn, CONN_LOST, "the peer has gone");
                return;
        }
        if (n == 0) {
                bool whole = conn->in.len == conn->in_pos;

                conn_fail(conn, whole ? CONN_CLOSED : CONN_LOST,
                          whole ? "the peer has closed" : "the peer has gone in the middle of a message");
                return;
        }
        conn->in.len += (size_t)n;
        (void)handle_input(conn);
}

static struct iovec rest_of(const struct buf *buf, size_t pos) {
        return (struct iovec){buf->len > pos ? buf->data + pos : NULL, buf->len - pos};
}

/* What is still to be written. */
static struct iovec out_left(const struct conn *conn) {
        return rest_of(&conn->out, MIN(conn->out_pos, conn->out.len));
}

static struct iovec tail_left(const struct conn *conn) {
        return rest_of(&conn->tail, conn->out_pos - MIN(conn->out_pos, conn->out.len));
}

/* Return: what send() returns. */
static ssize_t send_some(const struct conn *conn) {
        struct iovec parts[] = {out_left(conn), tail_left(conn)};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = ELEMENTS(parts)};

        return sendmsg(conn->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* All that waited is written. */
static void output_reset(struct conn *conn) {
        conn->out_pos = 0;
        buf_done(&conn->tail);
        buf_reset(&conn->out);
        if (conn->out.cap > KEEP_BYTES)
                buf_done(&conn->out);
        (void)account_memory(conn);
}

void conn_flush(struct conn *conn) {
        if (conn->closing)
                return;
        if (buf_error(&conn->out)) {
                conn_fail(conn, CONN_BROKEN,
                          buf_error(&conn->out) == -ENOMEM ? "out of memory"
                                                           : "the peer does not read its answers (limits.output_bytes)");
                return;
        }
        while (conn_pending(conn) > 0) {
                ssize_t n = send_some(conn);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        conn_fail(conn, CONN_LOST, "the peer has gone");
                        return;
                }
                conn->out_pos += (size_t)n;
        }
        if (conn_pending(conn) == 0) {
                output_reset(conn);
                return;
        }
        if (!account_memory(conn))
                return;
        if (conn->tail.len == 0 && conn->out_pos > conn->out.len / 2) {
                buf_consume(&conn->out, conn->out_pos);
                conn->out_pos = 0;
        }
        (void)event_add(conn->writable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        conn_flush(data);
}

int conn_new(struct conn **ret, struct event_base *base, int fd, const struct conn_limits *limits,
             const struct conn_handler *handler, void *data) {
        CLEANUP_CONN struct conn *conn = calloc(1, sizeof(*conn));

        if (!conn) {
                (void)fd_close(fd);
                return -ENOMEM;
        }
        conn->fd = fd;
        conn->limits = *limits;
        conn->handler = handler;
        conn->data = data;
        conn->out.limit = limits->output_bytes;
        conn->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, conn);
        conn->writable = event_new(base, fd, EV_WRITE, on_writable, conn);
        conn->more = evtimer_new(base, on_more, conn);
        conn->close_later = event_new(base, -1, 0, on_close_later, conn);
        if (!conn->readable || !conn->writable || !conn->more || !conn->close_later || event_add(conn->readable, NULL) < 0)
                return -ENOMEM;
        *ret = TAKE(conn);
        return 0;
}

struct conn *conn_free(struct conn *conn) {
        if (!conn)
                return NULL;
        if (conn->readable)
                event_free(conn->readable);
        if (conn->writable)
                event_free(conn->writable);
        if (conn->more)
                event_free(conn->more);
        if (conn->close_later)
                event_free(conn->close_later);
        conn->readable = conn->writable = conn->more = conn->close_later = NULL;
        conn->fd = fd_close(conn->fd);
        if (conn->busy)
                conn->dead = true;
        else
                conn_destroy(conn);
        return NULL;
}

void conn_freep(struct conn **conn) {
        *conn = conn_free(*conn);
}

/* What is to follow the tail follows a copy of what is left of it. */
struct buf *conn_output(struct conn *conn) {
        const struct iovec left = tail_left(conn);

        if (conn->tail.len > 0) {
                conn->out_pos = MIN(conn->out_pos, conn->out.len);
                if (conn->out_pos > conn->out.len / 2) {
                        buf_consume(&conn->out, conn->out_pos);
                        conn->out_pos = 0;
                }
                buf_append(&conn->out, left.iov_base, left.iov_len);
                buf_done(&conn->tail);
        }
        return &conn->out;
}

void conn_put_tail(struct conn *conn, struct buf *tail) {
        struct buf *out = conn_output(conn);

        if (tail->len < BUF_SHARE_MIN)
                buf_append(out, tail->data, tail->len);
        else if (out->limit && tail->len > out->limit - MIN(out->len, out->limit))
                out->error = out->error ? out->error : -EMSGSIZE;
        else
                buf_share(&conn->tail, tail, tail->data, tail->len);
        if (buf_error(&conn->tail))
                out->error = buf_error(&conn->tail);
        buf_done(tail);
}

void conn_pause(struct conn *conn) {
        if (conn->paused || conn->closing)
                return;
        conn->paused = true;
        (void)event_del(conn->readable);
        (void)event_del(conn->more);
}

void conn_resume(struct conn *conn) {
        if (!conn->paused || conn->closing)
                return;
        conn->paused = false;
        (void)event_add(conn->readable, NULL);
        handle_later(conn); /* messages may be waiting in our buffer */
}

size_t conn_pending(const struct conn *conn) {
        return conn->out.len + conn->tail.len - conn->out_pos;
}

int conn_fd(const struct conn *conn) {
        return conn->fd;
}

size_t conn_memory(const struct conn *conn) {
        return conn->in.cap + conn->out.cap + conn->tail.cap;
}

/* ---- An upgrade ---- */

struct saved {
        int fd;
        struct mp in, out, tail;
};
static const struct carried members[] = {
        CARRIED(FD, struct saved, fd),
        CARRIED(SLICE, struct saved, in),
        CARRIED(SLICE, struct saved, out),
        CARRIED(SLICE, struct saved, tail),
};

static struct mp slice(struct iovec bytes) {
        return (struct mp){bytes.iov_base, bytes.iov_len};
}

void conn_save(const struct conn *conn, struct carry *carry) {
        const struct saved saved = {conn->fd, slice(rest_of(&conn->in, conn->in_pos)), slice(out_left(conn)),
                                    slice(tail_left(conn))};

        mp_put_map(&carry->out, ELEMENTS(members));
        carry_put(carry, members, ELEMENTS(members), &saved);
}

int conn_adopt(struct conn **ret, struct event_base *base, struct mp map, const struct conn_limits *limits,
               const struct conn_handler *handler, void *data) {
        struct saved saved = {.fd = -1};
        CLEANUP_CONN struct conn *conn = NULL;
        int r = carry_get(map, members, ELEMENTS(members), &saved);

        r = r < 0 ? r : conn_new(&conn, base, saved.fd, limits, handler, data);
        if (r < 0)
                return r;
        buf_append(&conn->in, saved.in.data, saved.in.len);
        conn->out.limit = 0; /* it may have been higher when this was appended */
        buf_append(&conn->out, saved.out.data, saved.out.len);
        buf_append(&conn->out, saved.tail.data, saved.tail.len);
        conn->out.limit = limits->output_bytes;
        if (buf_error(&conn->in) || buf_error(&conn->out) || (conn->out.len > 0 && event_add(conn->writable, NULL) < 0))
                return -ENOMEM;
        if (conn->in.len > 0)
                handle_later(conn);
        conn->told = conn_memory(conn);
        *ret = TAKE(conn);
        return 0;
}
