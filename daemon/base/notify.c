/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The protocol is a datagram of lines, and is spoken here rather than by libsystemd, whose functions wait for as long as the
 * manager does not read. A change of state has to arrive, or the manager acts on an older one: it is waited for, but not for
 * long. All else is said again soon, or is only for people, and is dropped when it cannot be sent at once.
 *
 * RELOADING=1 carries MONOTONIC_USEC, so that systemd 253 and later can use Type=notify-reload.
 */

#include "base/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SEND_LIMIT_USEC (250 * USEC_PER_MSEC)

static int open_socket(struct sockaddr_un *ret_address, socklen_t *ret_len) {
        const char *path = getenv("NOTIFY_SOCKET");
        size_t len = path ? strlen(path) : 0;
        int fd;

        if (len < 2 || len >= sizeof(ret_address->sun_path) || (path[0] != '/' && path[0] != '@'))
                return -1;
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -1;
        *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(ret_address->sun_path, path, len);
        if (path[0] == '@') /* an abstract address */
                ret_address->sun_path[0] = 0;
        *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
        return fd;
}

static void tell(const char *state, usec_t limit_usec) {
        const struct timeval limit = usec_to_timeval(limit_usec);
        struct sockaddr_un address;
        socklen_t len;
        CLEANUP_FD int fd = open_socket(&address, &len);

        if (fd < 0)
                return;
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL | (limit_usec == 0 ? MSG_DONTWAIT : 0),
                     (const struct sockaddr *)&address, len);
}

void notify_ready(void) {
        tell("READY=1", SEND_LIMIT_USEC);
}

void notify_reloading(void) {
        char state[64];

        (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_now_usec());
        tell(state, SEND_LIMIT_USEC);
}

void notify_stopping(usec_t most_usec) {
        char state[64];

        (void)snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu", (unsigned long long)most_usec);
        tell(state, SEND_LIMIT_USEC);
}

void notify_status(const char *format, ...) {
        char state[512] = "STATUS=";
        va_list args;

        va_start(args, format);
        (void)vsnprintf(state + 7, sizeof(state) - 7, format, args);
        va_end(args);
        tell(state, 0);
}

void notify_extend(usec_t usec) {
        char state[64];

        (void)snprintf(state, sizeof(state), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
        tell(state, 0);
}

/* ---- Watchdog ---- */

static unsigned long long number(const char *variable) {
        const char *text = getenv(variable);
        unsigned long long value;
        char *end;

        if (!text || *text < '0' || *text > '9')
                return 0;
        value = strtoull(text, &end, 10);
        return *end ? 0 : value;
}

static void on_watchdog(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)data;
        tell("WATCHDOG=1", 0);
}

int notify_watchdog_new(struct event **ret, struct event_base *base) {
        const usec_t limit = number("WATCHDOG_USEC");
        const struct timeval half = usec_to_timeval(limit / 2);
        struct event *event;

        *ret = NULL;
        if (limit < 2 || limit == USEC_INFINITY ||
            (getenv("WATCHDOG_PID") && number("WATCHDOG_PID") != (unsigned long long)getpid()))
                return 0;
        event = event_new(base, -1, EV_PERSIST, on_watchdog, NULL);
        if (!event)
                return -ENOMEM;
        if (event_add(event, &half) < 0) {
                event_free(event);
                return -ENOMEM;
        }
        *ret = event;
        return 0;
}
