/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A host or an administrator that sends anything, in pieces of any size, to what serves the two sockets. There are no plugins: a call ends at once.
 * admin/service.h and admin/upgrade.h are replaced below: a reload and an upgrade end on the next turn of the loop, one way or the other.
 *
 * Input: which socket (bit 0), whether reloads and upgrades are refused (bit 1), the size of the
 * pieces, and the bytes. What comes back are whole responses, of which each answers a request that was sent, and none twice.
 */

#include <fcntl.h>
#include <sys/socket.h>

#include "admin/control.h"
#include "config/load.h"
#include "fuzz.h"
#include "host/session.h"

#define REQUESTS_MAX 2048

static struct event_base *base;
static struct generation *generation;
static bool refuses;
static TAILQ_HEAD(, reload_waiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);

/* ---- The service ---- */

struct generation *service_newest(const struct service *service) {
        (void)service;
        return generation;
}

enum service_state service_state(const struct service *service) {
        (void)service;
        return SERVICE_RUNNING;
}

usec_t service_uptime_usec(const struct service *service) {
        (void)service;
        return 1;
}

void service_reload(struct service *service, struct reload_waiter *waiter) {
        (void)service;
        TAILQ_INSERT_TAIL(&waiters, waiter, link);
        waiter->waits = WAITS_NOW;
}

void service_forget(struct service *service, struct reload_waiter *waiter) {
        (void)service;
        if (waiter->waits != WAITS_NOT)
                TAILQ_REMOVE(&waiters, waiter, link);
        waiter->waits = WAITS_NOT;
}

static void end_reloads(void) {
        static const uint8_t empty_map[] = {0x80};
        const struct diags diags = {0};
        struct reload_waiter *waiter;

        while ((waiter = TAILQ_FIRST(&waiters))) {
                TAILQ_REMOVE(&waiters, waiter, link);
                waiter->waits = WAITS_NOT;
                waiter->on_done(waiter, &(struct reload_result){.refused = refuses,
                                                                .diags = &diags,
                                                                .message = "no",
                                                                .generation = 1,
                                                                .changed = {empty_map, sizeof(empty_map)}});
        }
}

static bool upgrades;

void upgrade_start(struct upgrade *upgrade) {
        (void)upgrade;
        upgrades = true;
}

static void end_upgrade(struct control *control) {
        if (upgrades && refuses)
                control_upgrade_refused(control, "no");
        else if (upgrades)
                control_upgraded(control, &(struct upgrade_result){.workers = 1});
        upgrades = false;
}

/* ---- What was asked, and what comes back ---- */

static struct {
        uint32_t ids[REQUESTS_MAX];
        size_t n;
} open_requests;

/* The requests that the bytes hold, up to where they are none. */
static void note_requests(const uint8_t *data, size_t len) {
        struct mp_scan scan = {0};
        struct rpc_msg msg;

        open_requests.n = 0;
        while (open_requests.n < REQUESTS_MAX && mp_scan(&scan, data, len, len) == MP_SCAN_DONE &&
               !rpc_parse((struct mp){data, scan.pos}, &msg)) {
                if (msg.kind == RPC_REQUEST)
                        open_requests.ids[open_requests.n++] = msg.id;
                data += scan.pos;
                len -= scan.pos;
                scan = (struct mp_scan){0};
        }
}

static void take_response(const struct rpc_msg *msg) {
        CHECK(msg->kind == RPC_RESPONSE);
        for (size_t i = 0; i < open_requests.n; i++)
                if (open_requests.ids[i] == msg->id) {
                        open_requests.ids[i] = open_requests.ids[--open_requests.n];
                        return;
                }
        CHECK(open_requests.n == REQUESTS_MAX || !"it answers what was not asked");
}

static void take_output(int fd, struct buf *input) {
        struct mp_scan scan = {0};
        struct rpc_msg msg;
        ssize_t n;

        do {
                uint8_t *end = buf_reserve(input, 65536);

                n = read(fd, end, 65536);
                input->len += (size_t)MAX(n, (ssize_t)0);
        } while (n > 0);
        while (mp_scan(&scan, input->data, input->len, SIZE_MAX / 2) == MP_SCAN_DONE) {
                CHECK(!rpc_parse((struct mp){input->data, scan.pos}, &msg));
                take_response(&msg);
                buf_consume(input, scan.pos);
                scan = (struct mp_scan){0};
        }
}

/* ---- The target ---- */

static void start(void) {
        static const struct pool_layout layout = {0};
        static const struct generation_handler handler = {0};
        static const char text[] = "plugins: []\n";
        const struct config_overrides overrides = {
                .plugins = SOURCE_ROOT "/conf/plugins.yaml", .socket = "/run/a", .control = "/run/b"};
        struct daemon_config *daemon = NULL;
        struct plugins_config *config = NULL;
        struct diags diags = {0};
        struct place beyond;

        log_init(LOG_LEVEL_ERROR);
        (void)setenv("CACHE_DIRECTORY", "/nowhere", 1);
        base = event_base_new();
        CHECK(daemon_config_parse(&daemon, NULL, "", 0, &overrides, &diags) == 0);
        CHECK(plugins_config_parse(&config, daemon, (struct config_text){text, strlen(text)}, &beyond, &diags) == 0);
        CHECK(generation_new(&generation, base, NULL, daemon, config, &layout, &handler, NULL) == 0);
        diags_done(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        CLEANUP_BUF struct buf output = {0};
        struct control *control;
        struct hosts *hosts;
        size_t piece;
        int pair[2];

        if (len < 3)
                return 0;
        if (!base)
                start();
        refuses = data[0] & 2;
        piece = MAX((size_t)data[1], len / 32 + 1);
        note_requests(data + 2, len - 2);
        CHECK(hosts_new(&hosts, base, &generation) == 0 && control_new(&control, base, NULL, hosts, NULL) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        if (data[0] & 1)
                control_accept(control, pair[0]);
        else
                hosts_accept(hosts, pair[0]);
        for (size_t at = 2; at < len; at += piece) {
                (void)send(pair[1], data + at, MIN(piece, len - at), MSG_NOSIGNAL);
                for (int i = 0; i < 3; i++)
                        (void)event_base_loop(base, EVLOOP_NONBLOCK);
                end_reloads();
                end_upgrade(control);
                take_output(pair[1], &output);
        }
        (void)close(pair[1]);
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        CHECK(hosts_counts(hosts).connected == 0 && hosts_counts(hosts).calls_active == 0);
        (void)control_free(control);
        (void)hosts_free(hosts);
        CHECK(TAILQ_EMPTY(&waiters) && generation->refs == 1);
        return 0;
}
