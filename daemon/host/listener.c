/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether a socket file is stale is found out by connecting to it. Between that and binding another daemon could do the same,
 * so both happen under flock(2) on PATH.lock; the lock is held for life, which also tells a daemon that hangs from one that is gone.
 *
 * The file's mode is set by the umask while binding, not afterwards: there is no moment in which it is too open.
 */

#include "host/listener.h"

#include <event2/listener.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 511 /* as nginx; the kernel cuts it to net.core.somaxconn */
#define LOCK_ATTEMPTS 5
#define PAUSE_USEC (100 * USEC_PER_MSEC)

struct listener {
        struct evconnlistener *accepting;
        struct event *resume;
        char *path, *lock_path;
        int lock_fd;
        dev_t device;
        ino_t inode;
        listener_callback on_connection;
        void *data;
        usec_t last_complaint_usec;
};

static int make_folder(const char *path) {
        CLEANUP_FREE char *folder = strdup(path);
        char *slash;

        if (!folder)
                return -ENOMEM;
        slash = strrchr(folder, '/');
        if (!slash || slash == folder)
                return 0;
        *slash = 0;
        return mkdir(folder, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Return: 0 with the lock, -EADDRINUSE when another process has it, -EAGAIN when one removed the file under us as it ended. */
static int try_lock(struct listener *listener) {
        CLEANUP_FD int fd = open(listener->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        struct stat ours, theirs;

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
        if (fstat(fd, &ours) < 0 || stat(listener->lock_path, &theirs) < 0 || ours.st_ino != theirs.st_ino)
                return -EAGAIN;
        listener->lock_fd = TAKE_FD(fd);
        return 0;
}

static int take_lock(struct listener *listener) {
        int r = -EAGAIN;

        for (int i = 0; i < LOCK_ATTEMPTS && r == -EAGAIN; i++)
                r = try_lock(listener);
        return r == -EAGAIN ? -EADDRINUSE : r;
}

/* Removes a socket file that nobody listens on. */
static int remove_stale(const struct sockaddr_un *address) {
        CLEANUP_FD int fd = -1;
        struct stat st;

        if (lstat(address->sun_path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -ENOTSOCK;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
                return -EADDRINUSE;
        if (errno != ECONNREFUSED)
                return -errno;
        log_notice("the socket file %s was left behind and is replaced", address->sun_path);
        return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_socket(const struct socket_config *config, struct sockaddr_un *address, int *ret_fd) {
        CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mode_t saved;
        int r;

        if (fd < 0)
                return -errno;
        saved = umask((mode_t)(~config->mode & 0777));
        r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
        (void)umask(saved);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static void on_accept(struct evconnlistener *accepting, evutil_socket_t fd, struct sockaddr *address, int len, void *data) {
        struct listener *listener = data;

        (void)accepting;
        (void)address;
        (void)len;
        listener->on_connection(listener->data, fd);
}

static void accept_later(struct listener *listener) {
        const struct timeval pause = usec_to_timeval(PAUSE_USEC);

        (void)event_add(listener->resume, &pause);
}

static void on_accept_error(struct evconnlistener *accepting, void *data) {
        struct listener *listener = data;
        usec_t now = clock_now_usec();
        int error = EVUTIL_SOCKET_ERROR();

        (void)evconnlistener_disable(accepting);
        accept_later(listener);
        if (now - listener->last_complaint_usec < USEC_PER_SEC)
                return;
        listener->last_complaint_usec = now;
        log_error("%s: cannot accept a connection: %s; trying again", listener->path, strerror(error));
}

static void on_resume(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        listener_start(data);
}

/* Return: 0 with a socket that is bound but does not listen yet. */
static int make_socket(struct listener *listener, const struct socket_config *config, int *ret_fd) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct stat st;
        int r;

        if (strlen(config->path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, config->path, strlen(config->path) + 1);
        if (asprintf(&listener->lock_path, "%s.lock", config->path) < 0) {
                listener->lock_path = NULL;
                return -ENOMEM;
        }
        r = make_folder(config->path);
        r = r < 0 ? r : take_lock(listener);
        r = r < 0 ? r : remove_stale(&address);
        r = r < 0 ? r : bind_socket(config, &address, ret_fd);
        if (r == 0 && stat(config->path, &st) == 0) {
                listener->device = st.st_dev;
                listener->inode = st.st_ino;
        }
        return r;
}

static char *path_of(int fd) {
        struct sockaddr_un address = {0};
        socklen_t len = sizeof(address) - 1; /* a path need not end in NUL */

        (void)getsockname(fd, (struct sockaddr *)&address, &len);
        if (address.sun_path[0] == 0) /* an abstract address */
                address.sun_path[0] = '@';
        return strdup(address.sun_path);
}

/* Takes over `fd`. `backlog`: 0 where it listens already. */
static int accept_on(struct listener *listener, struct event_base *base, int fd, int backlog) {
        listener->accepting = evconnlistener_new(base, on_accept, listener,
                                                 LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, backlog, fd);
        if (!listener->accepting) {
                int r = -errno;

                (void)fd_close(fd);
                return r;
        }
        evconnlistener_set_error_cb(listener->accepting, on_accept_error);
        return 0;
}

static int start_listening(struct listener *listener, struct event_base *base, const struct socket_config *config, int given) {
        CLEANUP_FD int fd = given;
        int r = 0;

        listener->path = given < 0 ? strdup(config->path) : path_of(given);
        listener->resume = evtimer_new(base, on_resume, listener);
        if (!listener->path || !listener->resume)
                return -ENOMEM;
        if (given < 0)
                r = make_socket(listener, config, &fd);
        if (r < 0)
                return r;
        /* The manager's socket listens already. */
        return accept_on(listener, base, TAKE_FD(fd), given < 0 ? BACKLOG : 0);
}

int listener_new(struct listener **ret, struct event_base *base, const struct socket_config *config, int fd,
                 listener_callback on_connection, void *data) {
        struct listener *listener = calloc(1, sizeof(*listener));
        int r;

        if (!listener) {
                (void)fd_close(fd);
                return -ENOMEM;
        }
        listener->lock_fd = -1;
        listener->on_connection = on_connection;
        listener->data = data;
        r = start_listening(listener, base, config, fd);
        if (r < 0) {
                (void)listener_free(listener);
                return r;
        }
        *ret = listener;
        return 0;
}

/* ---- An upgrade ---- */

static const struct carried members[] = {
        CARRIED(STR, struct listener, path),    CARRIED(STR, struct listener, lock_path), CARRIED(FD, struct listener, lock_fd),
        CARRIED(UINT, struct listener, device), CARRIED(UINT, struct listener, inode),
};

struct held {
        int fd;
};
static const struct carried held_members[] = {CARRIED(FD, struct held, fd)};

void listener_save(const struct listener *listener, struct carry *carry) {
        const struct held held = {listener_fd(listener)};

        mp_put_map(&carry->out, ELEMENTS(members) + ELEMENTS(held_members));
        carry_put(carry, members, ELEMENTS(members), listener);
        carry_put(carry, held_members, ELEMENTS(held_members), &held);
}

int listener_adopt(struct listener **ret, struct event_base *base, struct mp saved, listener_callback on_connection, void *data) {
        struct listener *listener = calloc(1, sizeof(*listener));
        struct held held = {-1};
        int r;

        if (!listener)
                return -ENOMEM;
        listener->lock_fd = -1;
        listener->on_connection = on_connection;
        listener->data = data;
        listener->resume = evtimer_new(base, on_resume, listener);
        r = listener->resume ? carry_get(saved, members, ELEMENTS(members), listener) : -ENOMEM;
        r = r < 0 ? r : carry_get(saved, held_members, ELEMENTS(held_members), &held);
        r = r < 0 ? r : accept_on(listener, base, held.fd, 0);
        if (r == 0)
                *ret = listener;
        return r;
}

const char *listener_path(const struct listener *listener) {
        return listener->path;
}

void listener_start(struct listener *listener) {
        if (evconnlistener_enable(listener->accepting) < 0)
                accept_later(listener);
}

void listener_stop(struct listener *listener) {
        (void)event_del(listener->resume);
        (void)evconnlistener_disable(listener->accepting);
}

int listener_fd(const struct listener *listener) {
        return evconnlistener_get_fd(listener->accepting);
}

struct listener *listener_free(struct listener *listener) {
        struct stat st;

        if (!listener)
                return NULL;
        if (listener->inode && lstat(listener->path, &st) == 0 && st.st_dev == listener->device && st.st_ino == listener->inode)
                (void)unlink(listener->path);
        if (listener->lock_fd >= 0)
                (void)unlink(listener->lock_path);
        if (listener->accepting)
                evconnlistener_free(listener->accepting);
        if (listener->resume)
                event_free(listener->resume);
        (void)fd_close(listener->lock_fd);
        free(listener->lock_path);
        free(listener->path);
        free(listener);
        return NULL;
}
