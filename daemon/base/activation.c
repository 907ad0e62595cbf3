/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The descriptors begin at 3; their number and names stand in the environment, which is cleared so that no child takes its own
 * descriptors for these. A descriptor that is no listening Unix stream socket is not ours to use and is never handed out.
 */

#include "base/activation.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/util.h"

#define FIRST_FD 3
#define FDS_MAX 16

static struct {
        int fd; /* -1: taken */
        char *name;
} given[FDS_MAX];
static int n_given = -1; /* the environment has not been looked at */

static bool is_listening(int fd) {
        struct sockaddr_un address;
        socklen_t address_len = sizeof(address), len = sizeof(int);
        int type = 0, accepts = 0;

        return getsockname(fd, (struct sockaddr *)&address, &address_len) == 0 && address.sun_family == AF_UNIX &&
               getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
               getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts;
}

static bool is_bound_to(int fd, const char *path) {
        struct sockaddr_un address = {0};
        socklen_t len = sizeof(address) - 1; /* a path need not end in NUL */

        return getsockname(fd, (struct sockaddr *)&address, &len) == 0 && str_eq(address.sun_path, path);
}

static int count(void) {
        const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

        if (!pid || !n || atol(pid) != (long)getpid())
                return 0;
        return MAX(0, MIN(atoi(n), FDS_MAX));
}

static void look(void) {
        CLEANUP_FREE char *copy = NULL;
        const char *text = getenv("LISTEN_FDNAMES");
        char *names;

        n_given = count();
        names = copy = strdup(text ? text : "");
        for (int i = 0; i < n_given; i++) {
                const char *name = names ? strsep(&names, ":") : NULL;

                given[i].fd = FIRST_FD + i;
                given[i].name = name ? strdup(name) : NULL;
                (void)fcntl(given[i].fd, F_SETFD, FD_CLOEXEC);
        }
        (void)unsetenv("LISTEN_PID");
        (void)unsetenv("LISTEN_FDS");
        (void)unsetenv("LISTEN_FDNAMES");
        (void)unsetenv("LISTEN_PIDFDID");
}

static int take(int i) {
        (void)fcntl(given[i].fd, F_SETFL, fcntl(given[i].fd, F_GETFL) | O_NONBLOCK);
        return TAKE_FD(given[i].fd);
}

int activation_take(const char *name, const char *path) {
        if (n_given < 0)
                look();
        for (int i = 0; i < n_given; i++)
                if (given[i].fd >= 0 && str_eq(given[i].name, name) && is_listening(given[i].fd))
                        return take(i);
        for (int i = 0; i < n_given; i++)
                if (given[i].fd >= 0 && is_bound_to(given[i].fd, path) && is_listening(given[i].fd))
                        return take(i);
        return -1;
}

void activation_done(void) {
        for (int i = 0; i < n_given; i++) {
                if (given[i].fd >= 0)
                        log_warning("descriptor %d, \"%s\", that the service manager passed is not used: it has to be a "
                                    "listening Unix "
                                    "stream socket with FileDescriptorName= host or control",
                                    given[i].fd, given[i].name ? given[i].name : "");
                given[i].fd = fd_close(given[i].fd);
                free(TAKE(given[i].name));
        }
        n_given = 0;
}
