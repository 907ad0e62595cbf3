/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which program: what argv[0] names, so that a link that leads somewhere else by now is followed; where that is no path, what this process
 * runs, and what has taken its place if that was removed.
 *
 * The state lies in memory that is sealed, whose descriptor is all that the new program is told. It and all others that the state names live
 * through the exec; the rest are closed by it, as they always would be.
 *
 * That the rehearsal has copies of the descriptors changes nothing for their owners: it neither reads nor writes, and is killed when it takes
 * too long. While it runs this process serves on, so the state is saved once more afterwards.
 */

#include "admin/upgrade.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/core.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/timer.h"

#define WAIT_USEC (10 * USEC_PER_SEC) /* for what cannot be carried to end */
#define LOOK_USEC (20 * USEC_PER_MSEC)
#define REHEARSAL_USEC (5 * USEC_PER_SEC)
#define REASON_BYTES 512
#define LOG_ERROR "Z error: "

struct upgrade {
        struct event_base *base;
        char *const *argv;
        char *program;
        const struct upgrade_handler *handler;
        void *data;

        enum { IDLE, WAITING, REHEARSING, LEAVING } phase;
        struct event *timer; /* of the phase */
        usec_t give_up_usec; /* until when it waits */
        struct child *rehearsal;
        struct lines *output; /* of the rehearsal */
        bool agrees;
        char last[REASON_BYTES]; /* line of that */
};

static void refuse(struct upgrade *upgrade, const char *format, ...) PRINTF_LIKE(2, 3);
static void refuse(struct upgrade *upgrade, const char *format, ...) {
        char why[2 * REASON_BYTES + PATH_MAX];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(why, sizeof(why), format, args);
        va_end(args);
        upgrade->phase = IDLE;
        (void)event_del(upgrade->timer);
        log_error("the upgrade is refused: %s; this cpexd keeps serving", why);
        upgrade->handler->refused(upgrade->data, why);
}

/* ---- The state ---- */

/* Return: a descriptor of the saved state, or a negative errno. */
static int save(struct upgrade *upgrade, struct carry *carry) {
        CLEANUP_FD int fd = -1;
        size_t at = 0;

        upgrade->handler->save(upgrade->data, carry);
        if (buf_error(&carry->out))
                return buf_error(&carry->out);
        fd = memfd_create("cpexd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        while (fd >= 0 && at < carry->out.len) {
                ssize_t n = write(fd, carry->out.data + at, carry->out.len - at);

                if (n < 0 && errno != EINTR)
                        return -errno;
                at += n > 0 ? (size_t)n : 0;
        }
        if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        buf_append(&carry->fds, &fd, sizeof(fd));
        return buf_error(&carry->fds) ? buf_error(&carry->fds) : TAKE_FD(fd);
}

struct mp upgrade_state(int given) {
        CLEANUP_FD int fd = given;
        struct stat st;
        struct mp state = {0};

        if (fstat(fd, &st) < 0 || st.st_size <= 0)
                return state;
        state.len = (size_t)st.st_size;
        state.data = mmap(NULL, state.len, PROT_READ, MAP_PRIVATE, fd, 0);
        if (state.data == MAP_FAILED || !mp_is_value(state) || !mp_eq_str(mp_map_value(state, "format"), CARRY_FORMAT))
                return (struct mp){0};
        return state;
}

void upgrade_forget(struct mp state) {
        (void)munmap((void *)state.data, state.len);
}

/* Our own arguments, with one more at the front, in place of that of the last upgrade. Return: NULL: no memory; the caller frees the array. */
static const char **arguments(const struct upgrade *upgrade, const char *first) {
        char *const *rest = upgrade->argv + (upgrade->argv[0] != NULL);
        const char **argv;
        size_t n = 0;

        if (*rest && strncmp(*rest, "--" UPGRADE_TAKE_OVER "=", strlen("--" UPGRADE_TAKE_OVER "=")) == 0)
                rest++;
        while (rest[n])
                n++;
        argv = calloc(n + 3, sizeof(*argv));
        if (!argv)
                return NULL;
        argv[0] = upgrade->program;
        argv[1] = first;
        memcpy(argv + 2, rest, n * sizeof(*argv));
        return argv;
}

/* ---- The rehearsal ---- */

static void end_rehearsal(struct upgrade *upgrade) {
        upgrade->rehearsal = child_free(upgrade->rehearsal);
        upgrade->output = lines_free(upgrade->output);
}

/* A line of its log, without what stands before the message. */
static void on_line(void *data, const char *line) {
        struct upgrade *upgrade = data;
        const char *error = strstr(line, LOG_ERROR);

        if (error)
                line = error + strlen(LOG_ERROR);
        upgrade->agrees = strncmp(line, UPGRADE_AGREES, strlen(UPGRADE_AGREES)) == 0;
        (void)snprintf(upgrade->last, sizeof(upgrade->last), "%s", line);
        log_info("rehearsal of the upgrade: %s", line);
}

static void on_rehearsed(void *data, int status) {
        struct upgrade *upgrade = data;
        const char *colon;

        lines_drain(upgrade->output);
        end_rehearsal(upgrade);
        (void)event_del(upgrade->timer);
        colon = upgrade->last[0] ? ": " : "";
        if (WIFSIGNALED(status)) {
                refuse(upgrade, "%s was killed by signal %d%s%s", upgrade->program, WTERMSIG(status), colon, upgrade->last);
        } else if (WEXITSTATUS(status) != 0) {
                refuse(upgrade, "%s cannot take over%s%s", upgrade->program, colon, upgrade->last);
        } else if (!upgrade->agrees) {
                refuse(upgrade, "%s does not say that it takes over; is it a cpexd?", upgrade->program);
        } else {
                upgrade->phase = LEAVING;
                upgrade->handler->leave_loop(upgrade->data);
        }
}

static int start_rehearsal(struct upgrade *upgrade, struct carry *carry) {
        CLEANUP_FD int state = save(upgrade, carry), output_read = -1, output_write = -1;
        CLEANUP_FREE const char **argv = NULL;
        char first[64];
        int r = state < 0 ? state : child_pipe(&output_read, &output_write);

        r = r < 0 ? r : lines_new(&upgrade->output, upgrade->base, TAKE_FD(output_read), on_line, upgrade);
        if (r < 0)
                return r;
        (void)snprintf(first, sizeof(first), "--" UPGRADE_REHEARSE "=%d", state);
        argv = arguments(upgrade, first);
        if (!argv)
                return -ENOMEM;
        carry_keep(carry, true);
        r = child_spawn(
                &upgrade->rehearsal, upgrade->base,
                &(struct child_spec){.argv = argv, .output = output_write, .error = output_write, .group = true, .heir = true},
                on_rehearsed, upgrade);
        carry_keep(carry, false);
        return r;
}

static void rehearse(struct upgrade *upgrade) {
        CLEANUP_CARRY struct carry carry = {0};
        int r;

        upgrade->phase = REHEARSING;
        upgrade->agrees = false;
        upgrade->last[0] = 0;
        r = start_rehearsal(upgrade, &carry);
        if (r < 0) {
                end_rehearsal(upgrade);
                refuse(upgrade, "%s cannot be run: %s", upgrade->program, strerror(-r));
                return;
        }
        timer_start(upgrade->timer, REHEARSAL_USEC);
}

/* ---- The way ---- */

/* Return: whether there is something that cannot be carried; then it is looked at again soon, or the upgrade is refused. */
static bool has_to_wait(struct upgrade *upgrade) {
        const char *obstacle = upgrade->handler->obstacle(upgrade->data);

        if (!obstacle)
                return false;
        upgrade->phase = WAITING;
        if (clock_now_usec() >= upgrade->give_up_usec)
                refuse(upgrade, "%s", obstacle);
        else
                timer_start(upgrade->timer, LOOK_USEC);
        return true;
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        struct upgrade *upgrade = data;

        (void)fd;
        (void)what;
        if (upgrade->phase == REHEARSING) {
                end_rehearsal(upgrade);
                refuse(upgrade, "%s did not say within %d s whether it can take over", upgrade->program,
                       (int)(REHEARSAL_USEC / USEC_PER_SEC));
        } else if (!has_to_wait(upgrade)) {
                rehearse(upgrade);
        }
}

void upgrade_start(struct upgrade *upgrade) {
        if (upgrade->phase != IDLE)
                return;
        upgrade->phase = WAITING;
        upgrade->give_up_usec = clock_now_usec() + WAIT_USEC;
        log_notice("an upgrade is asked for");
        timer_start(upgrade->timer, 0);
}

void upgrade_execute(struct upgrade *upgrade) {
        CLEANUP_CARRY struct carry carry = {0};
        CLEANUP_FREE const char **argv = NULL;
        CLEANUP_FD int state = -1;
        char first[64];
        int r;

        if (has_to_wait(upgrade))
                return;
        state = save(upgrade, &carry);
        (void)snprintf(first, sizeof(first), "--" UPGRADE_TAKE_OVER "=%d", state);
        argv = arguments(upgrade, first);
        r = state < 0 ? state : argv ? 0 : -ENOMEM;
        if (r == 0) {
                notify_reloading();
                log_detach();
                carry_keep(&carry, true);
                core_spread();
                (void)execv(upgrade->program, (char *const *)argv);
                r = -errno;
                carry_keep(&carry, false);
                (void)log_attach(upgrade->base);
                notify_ready();
        }
        refuse(upgrade, "%s cannot be run: %s", upgrade->program, strerror(-r));
}

/* ---- Life ---- */

static char *find_program(const char *argv0) {
        static const char deleted[] = " (deleted)";
        char path[PATH_MAX];
        ssize_t n;

        if (argv0 && strchr(argv0, '/'))
                return strdup(argv0);
        n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        path[MAX(n, (ssize_t)0)] = 0;
        if (n > (ssize_t)strlen(deleted) && str_eq(path + n - strlen(deleted), deleted))
                path[n - (ssize_t)strlen(deleted)] = 0;
        return strdup(path);
}

int upgrade_new(struct upgrade **ret, struct event_base *base, char *const *argv, const struct upgrade_handler *handler,
                void *data) {
        struct upgrade *upgrade = calloc(1, sizeof(*upgrade));

        if (!upgrade)
                return -ENOMEM;
        upgrade->base = base;
        upgrade->argv = argv;
        upgrade->handler = handler;
        upgrade->data = data;
        upgrade->program = find_program(argv[0]);
        upgrade->timer = evtimer_new(base, on_timer, upgrade);
        if (!upgrade->program || !upgrade->timer) {
                (void)upgrade_free(upgrade);
                return -ENOMEM;
        }
        *ret = upgrade;
        return 0;
}

struct upgrade *upgrade_free(struct upgrade *upgrade) {
        if (!upgrade)
                return NULL;
        end_rehearsal(upgrade);
        if (upgrade->timer)
                event_free(upgrade->timer);
        free(upgrade->program);
        free(upgrade);
        return NULL;
}
