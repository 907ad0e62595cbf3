/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A line is put together in one buffer on the stack and written with one write(2), so that lines of several processes on one
 * descriptor do not mix. A line for which a pipe has no room is counted and not waited for, since whoever reads the log must not be
 * able to stop the daemon; the next line that gets through tells how many were lost.
 */

#include "base/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_BYTES 4096

static const struct {
        const char *name;
        char priority; /* of syslog(3) */
} levels[LOG_LEVEL_MAX_] = {
        [LOG_LEVEL_ERROR] = {"error", '3'}, [LOG_LEVEL_WARNING] = {"warning", '4'}, [LOG_LEVEL_NOTICE] = {"notice", '5'},
        [LOG_LEVEL_INFO] = {"info", '6'},   [LOG_LEVEL_DEBUG] = {"debug", '7'},
};

static enum log_level log_level = LOG_LEVEL_NOTICE;
static bool log_to_journal;

/* systemd.exec(5): JOURNAL_STREAM is DEVICE:INODE of the stream that is connected to the journal. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        uintmax_t device, inode;
        struct stat st;

        return stream && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
               (uintmax_t)st.st_dev == device && (uintmax_t)st.st_ino == inode;
}

void log_init(enum log_level level) {
        log_level = level;
        log_to_journal = stderr_is_journal();
}

void log_set_level(enum log_level level) {
        log_level = level;
}

int log_level_from_name(const char *name) {
        for (int i = 0; i < LOG_LEVEL_MAX_; i++)
                if (str_eq(levels[i].name, name))
                        return i;
        return -EINVAL;
}

const char *log_level_name(enum log_level level) {
        return levels[level].name;
}

static size_t add(char *line, size_t at, const char *format, ...) PRINTF_LIKE(3, 4);
static size_t add(char *line, size_t at, const char *format, ...) {
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(line + at, LINE_MAX_BYTES - at, format, args);
        va_end(args);
        return n < 0 ? at : MIN(at + (size_t)n, (size_t)LINE_MAX_BYTES - 1);
}

static size_t add_prefix(char *line, enum log_level level, const struct log_scope *scope) {
        size_t at = 0;

        if (log_to_journal) {
                at = add(line, at, "<%c>", levels[level].priority);
        } else {
                struct timespec now;
                struct tm tm;

                (void)clock_gettime(CLOCK_REALTIME, &now);
                (void)gmtime_r(&now.tv_sec, &tm);
                at = add(line, at, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s: ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                         tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000, levels[level].name);
        }
        if (scope && scope->plugin)
                at = add(line, at, "plugin \"%s\"%s", scope->plugin, scope->worker ? " " : ": ");
        if (scope && scope->worker)
                at = add(line, at, "worker %d: ", (int)scope->worker);
        return at;
}

/* Copies `text`, with control characters made visible, as far as there is room. */
static size_t add_escaped(char *line, size_t at, const char *text) {
        for (; *text && at + 6 < LINE_MAX_BYTES; text++) {
                unsigned char c = (unsigned char)*text;

                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        at = add(line, at, "\\x%02x", c);
                else
                        line[at++] = (char)c;
        }
        return at;
}

/* Return: whether a line can be written without waiting: for a pipe, poll(2) says so when PIPE_BUF bytes fit. */
static bool has_room(void) {
        struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

        return poll(&fd, 1, 0) != 0;
}

void log_write(enum log_level level, const struct log_scope *scope, const char *format, ...) {
        static unsigned long lost;
        char line[LINE_MAX_BYTES], message[LINE_MAX_BYTES];
        int saved = errno;
        va_list args;
        size_t at;

        if (level > log_level)
                return;
        if (!has_room()) {
                lost++;
                errno = saved;
                return;
        }
        va_start(args, format);
        (void)vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        at = add_prefix(line, level, scope);
        if (lost > 0)
                at = add(line, at, "[%lu lines before this one were lost] ", lost);
        lost = 0;
        at = add_escaped(line, at, message);
        line[at++] = '\n';
        (void)!write(STDERR_FILENO, line, at);
        errno = saved;
}

void log_text(enum log_level level, const struct log_scope *scope, const void *text, size_t len) {
        const char *at = text, *end = len > 0 ? at + len : at;

        while (at < end) {
                const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;

                log_write(level, scope, "%.*s", (int)(stop - at), at);
                at = stop + 1;
        }
}
