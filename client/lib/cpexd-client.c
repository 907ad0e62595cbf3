/* SPDX-License-Identifier: Apache-2.0 */

/*
 * No call on the socket blocks, and every wait is one poll() with what is left of the deadline, so a daemon that stops in the
 * middle of an answer costs the caller its timeout and no more. The client reads while it writes: a daemon that is held up by
 * answers to calls given up before would otherwise wait for us as we wait for it.
 *
 * What has arrived is walked message by message and dropped once per read, and the deadline holds between reads even where there
 * is always more to read; so a daemon that floods us with notifications costs no more than one that is silent.
 *
 * Ids count up, so an answer with a smaller id than the current one belongs to a call that timed out and is dropped; one with a
 * larger id was never asked for. A request that was cut off in the middle leaves a stream that nothing can follow, so the
 * connection is given up.
 */

#include "lib/cpexd-client.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "wire/rpc.h"

#define READ_BYTES ((size_t)64 << 10)
#define SEND_PROBLEM "the daemon hung up while the request was sent; is it longer than the daemon's limits.frame_bytes?"

struct cpexd_client {
        int fd; /* -1: given up */
        uint32_t next_id;
        struct buf in, out;
        size_t out_pos;
        size_t in_pos;       /* the end of the messages in `in` that have been looked at, the answer handed out last included */
        struct mp_scan scan; /* of the message at `in_pos` */
        char problem[256];
};

static usec_t deadline_after(uint64_t timeout_usec) {
        usec_t deadline;

        return __builtin_add_overflow(clock_now_usec(), timeout_usec, &deadline) ? USEC_INFINITY : deadline;
}

/* Notes the sentence. Return: `error`. */
static int complain(struct cpexd_client *client, int error, const char *problem) {
        (void)snprintf(client->problem, sizeof(client->problem), "%s", problem);
        return error;
}

/* The same for what the connection does not survive. */
static int give_up(struct cpexd_client *client, int error, const char *problem) {
        client->fd = fd_close(client->fd);
        return complain(client, error, problem);
}

/* connect() on a Unix socket waits only while the listener's queue is full, and then minds SO_SNDTIMEO. */
static int limit_connect(int fd, uint64_t timeout_usec) {
        struct timeval limit = {.tv_sec = (time_t)(timeout_usec / USEC_PER_SEC),
                                .tv_usec = (suseconds_t)(timeout_usec % USEC_PER_SEC)};

        if (timeout_usec == CPEXD_NO_TIMEOUT)
                return 0;
        if (timeout_usec == 0)
                limit.tv_usec = 1; /* 0 would mean no limit */
        return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

int cpexd_connect(struct cpexd_client **ret, const char *path, uint64_t timeout_usec) {
        CLEANUP_FREE struct cpexd_client *client = NULL;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        CLEANUP_FD int fd = -1;
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path));
        client = calloc(1, sizeof(*client));
        if (!client)
                return -ENOMEM;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        r = limit_connect(fd, timeout_usec);
        if (r < 0)
                return r;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        client->fd = TAKE_FD(fd);
        client->in.limit = CPEXD_FRAME_BYTES + READ_BYTES;
        *ret = TAKE(client);
        return 0;
}

void cpexd_disconnect(struct cpexd_client *client) {
        if (!client)
                return;
        (void)fd_close(client->fd);
        buf_done(&client->in);
        buf_done(&client->out);
        free(client);
}

const char *cpexd_problem(const struct cpexd_client *client) {
        return client->problem;
}

/* Sends what the socket takes. */
static int send_some(struct cpexd_client *client) {
        ssize_t n = send(client->fd, client->out.data + client->out_pos, client->out.len - client->out_pos,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : give_up(client, -ECONNRESET, SEND_PROBLEM);
        client->out_pos += (size_t)n;
        if (client->out_pos == client->out.len) {
                buf_reset(&client->out);
                client->out_pos = 0;
        }
        return 0;
}

static int receive_some(struct cpexd_client *client) {
        size_t have = client->in.len - client->in_pos, coming = client->scan.pos > have ? client->scan.pos - have : 0;
        size_t want = MAX((size_t)READ_BYTES, coming); /* all of an answer, once its length is known */
        uint8_t *end = buf_reserve(&client->in, want);
        ssize_t n;

        if (!end)
                return give_up(client, -ENOMEM, "out of memory");
        n = recv(client->fd, end, want, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : give_up(client, -ECONNRESET, "the connection to the daemon broke");
        if (n == 0)
                return give_up(client, -ECONNRESET, "the daemon closed the connection before it answered");
        client->in.len += (size_t)n;
        return 0;
}

static int refuse_scan(struct cpexd_client *client, enum mp_scan_status status) {
        if (status == MP_SCAN_BIG)
                return give_up(client, -EMSGSIZE, "the daemon's answer is longer than 256 MiB");
        return give_up(client, -EPROTO,
                       status == MP_SCAN_DEEP ? "the daemon's answer is nested too deeply"
                                              : "what answered is not a cpexd: the bytes are not msgpack");
}

/* Drops the messages that have been looked at, and the memory of a large one. */
static void drop_seen(struct cpexd_client *client) {
        if (client->in_pos == 0)
                return;
        buf_consume(&client->in, client->in_pos);
        client->in_pos = 0;
        if (client->in.len == 0 && client->in.cap > 4 * READ_BYTES)
                buf_done(&client->in);
}

/* Looks through the messages that have arrived for the answer to `id`. Return: 1 when it is in *ret, 0 when it is not there
 * yet. */
static int find_answer(struct cpexd_client *client, uint32_t id, struct cpexd_reply *ret) {
        while (client->in_pos < client->in.len) {
                const uint8_t *at = client->in.data + client->in_pos;
                enum mp_scan_status status = mp_scan(&client->scan, at, client->in.len - client->in_pos, CPEXD_FRAME_BYTES);
                struct rpc_msg msg;
                const char *wrong;

                if (status == MP_SCAN_MORE)
                        break;
                if (status != MP_SCAN_DONE)
                        return refuse_scan(client, status);
                wrong = rpc_parse((struct mp){at, client->scan.pos}, &msg);
                client->in_pos += client->scan.pos;
                client->scan = (struct mp_scan){0};
                if (wrong)
                        return give_up(client, -EPROTO, wrong);
                if (msg.kind == RPC_REQUEST)
                        return give_up(client, -EPROTO, "what answered is not a cpexd: it sent a request");
                if (msg.kind == RPC_RESPONSE && msg.id == id) {
                        bool failed = !mp_is_nil(msg.error);
                        struct mp value = failed ? msg.error : msg.result;

                        *ret = (struct cpexd_reply){failed, value.data, value.len};
                        return 1;
                }
                if (msg.kind == RPC_RESPONSE && (int32_t)(msg.id - id) > 0)
                        return give_up(client, -EPROTO, "the daemon answered a call that was not made");
        }
        drop_seen(client);
        return 0;
}

/* Waits until the socket can be read, or written where there is something to write. Return: 0, or -ETIMEDOUT. */
static int wait_for_socket(struct cpexd_client *client, usec_t deadline, short *ret_events) {
        struct pollfd fd = {.fd = client->fd, .events = (short)(POLLIN | (client->out.len > 0 ? POLLOUT : 0))};
        struct timespec left;
        usec_t now = clock_now_usec(), left_usec;
        int n;

        if (now >= deadline) /* poll() with no time left would still say yes to data that is there */
                return -ETIMEDOUT;
        left_usec = deadline - now;
        left = (struct timespec){(time_t)(left_usec / USEC_PER_SEC), (long)(left_usec % USEC_PER_SEC * 1000)};
        n = ppoll(&fd, 1, deadline == USEC_INFINITY ? NULL : &left, NULL);
        if (n == 0)
                return -ETIMEDOUT;
        *ret_events = n < 0 ? 0 : fd.revents; /* negative: a signal */
        return 0;
}

/* Tells the daemon, as far as the socket takes it now; a call that is not cancelled only goes on for nobody. */
static int time_over(struct cpexd_client *client, uint32_t id) {
        if (client->out.len > 0)
                return give_up(client, -ETIMEDOUT, "the daemon did not take the request in time");
        rpc_put_notification(&client->out, "cancel");
        mp_put_map(&client->out, 1);
        mp_put_str(&client->out, "msgid");
        mp_put_uint(&client->out, id);
        if (buf_error(&client->out))
                return give_up(client, -ETIMEDOUT, "the daemon did not answer in time");
        (void)send_some(client);
        return complain(client, -ETIMEDOUT, "the daemon did not answer in time");
}

static int exchange(struct cpexd_client *client, uint32_t id, usec_t deadline, struct cpexd_reply *ret) {
        int r = send_some(client); /* also where no time is given: the request goes out all the same */

        if (r < 0)
                return r;
        for (;;) {
                short events;

                r = find_answer(client, id, ret);
                if (r != 0)
                        return MIN(r, 0);
                r = wait_for_socket(client, deadline, &events);
                if (r < 0)
                        return time_over(client, id);
                if (events & POLLOUT)
                        r = send_some(client);
                if (r == 0 && (events & (POLLIN | POLLHUP | POLLERR)))
                        r = receive_some(client);
                if (r < 0)
                        return r;
        }
}

static bool is_map(struct mp value) {
        struct mp_cur cur = mp_cur(value);

        return mp_is_value(value) && mp_peek(&cur) == MP_MAP;
}

int cpexd_call(struct cpexd_client *client, const char *method, const void *params, size_t params_len, uint64_t timeout_usec,
               struct cpexd_reply *ret) {
        struct mp map = {params, params_len};
        uint32_t id;

        if (client->fd < 0)
                return -ENOTCONN; /* the sentence of the failure that led here stays */
        if (params_len > 0 && !is_map(map))
                return complain(client, -EINVAL, "the parameters are not one msgpack map");
        client->problem[0] = '\0';
        drop_seen(client);
        id = client->next_id++;
        rpc_put_request(&client->out, id, method);
        if (params_len > 0)
                mp_put_raw(&client->out, map);
        else
                mp_put_map(&client->out, 0);
        if (buf_error(&client->out))
                return give_up(client, -ENOMEM, "out of memory");
        return exchange(client, id, deadline_after(timeout_usec), ret);
}

/* Appends a key with an optional value. Return: how many. */
static size_t put_raw(struct buf *buf, const char *key, const void *data, size_t len) {
        if (len == 0)
                return 0;
        mp_put_str(buf, key);
        mp_put_raw(buf, (struct mp){data, len});
        return 1;
}

static size_t put_str(struct buf *buf, const char *key, const char *text) {
        if (!text)
                return 0;
        mp_put_str(buf, key);
        mp_put_str(buf, text);
        return 1;
}

static size_t put_bin(struct buf *buf, const char *key, const void *data, size_t len) {
        if (len == 0)
                return 0;
        mp_put_str(buf, key);
        mp_put_bin(buf, data, len);
        return 1;
}

static size_t put_flag(struct buf *buf, const char *key, bool flag) {
        if (!flag)
                return 0;
        mp_put_str(buf, key);
        mp_put_bool(buf, true);
        return 1;
}

static void put_invocation(struct buf *buf, const struct cpexd_invocation *call) {
        size_t map = mp_map_begin(buf), n = 0;

        n += put_str(buf, "hook", call->hook);
        n += put_bin(buf, "payload", call->payload, call->payload_len);
        if (call->context_len > 0) {
                n += put_raw(buf, "context", call->context, call->context_len);
        } else {
                mp_put_str(buf, "context");
                mp_put_map(buf, 1);
                (void)put_str(buf, "request_id", call->request_id);
                n++;
        }
        n += put_bin(buf, "contexts", call->contexts, call->contexts_len);
        n += put_raw(buf, "extensions", call->extensions, call->extensions_len);
        n += put_str(buf, "payload_type", call->payload_type);
        n += put_str(buf, "plugin", call->plugin);
        if (call->timeout_ms > 0) {
                mp_put_str(buf, "timeout_ms");
                mp_put_uint(buf, call->timeout_ms);
                n++;
        }
        n += put_flag(buf, "violations_as_exceptions", call->violations_as_exceptions);
        n += put_flag(buf, "timing", call->timing);
        mp_map_end(buf, map, n);
}

static const char *invocation_complaint(const struct cpexd_invocation *call) {
        if (!call->hook)
                return "the invocation names no hook";
        if (!mp_is_value((struct mp){call->payload, call->payload_len}))
                return "the payload is not one msgpack value";
        if (call->context_len == 0 && !call->request_id)
                return "the invocation has neither a request id nor a context";
        if (call->context_len > 0 && !is_map((struct mp){call->context, call->context_len}))
                return "the context is not one msgpack map";
        if (call->extensions_len > 0 && !is_map((struct mp){call->extensions, call->extensions_len}))
                return "the extensions are not one msgpack map";
        return NULL;
}

int cpexd_invoke(struct cpexd_client *client, const struct cpexd_invocation *invocation, uint64_t timeout_usec,
                 struct cpexd_reply *ret) {
        CLEANUP_BUF struct buf params = {0};
        const char *wrong = invocation_complaint(invocation);

        if (wrong)
                return complain(client, -EINVAL, wrong);
        put_invocation(&params, invocation);
        if (buf_error(&params))
                return complain(client, -ENOMEM, "out of memory");
        return cpexd_call(client, "invoke", params.data, params.len, timeout_usec, ret);
}
