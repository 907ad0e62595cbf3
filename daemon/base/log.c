/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A line is put together in one buffer on the stack and written with one write(2), so that lines of several processes on one
 * descriptor do not mix. A line for which a pipe has no room is counted and not waited for, since whoever reads the log must not be
 * able to stop the daemon; the next line that gets through tells how many were lost.
 *
 * An entry that the journal does not take, not even later, goes to standard error as a line: that is the journal's too, but has no fields.
 */

#include "base/log.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/journal.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES 4096
#define REQUEST_ID_MAX_BYTES 256

static const struct {
        const char *name, *priority; /* of syslog(3) */
} levels[LOG_LEVEL_MAX_] = {
        [LOG_LEVEL_ERROR] = {"error", "3"}, [LOG_LEVEL_WARNING] = {"warning", "4"}, [LOG_LEVEL_NOTICE] = {"notice", "5"},
        [LOG_LEVEL_INFO] = {"info", "6"},   [LOG_LEVEL_DEBUG] = {"debug", "7"},
};

static enum log_level log_level = LOG_LEVEL_NOTICE;
static uint64_t log_generation; /* 0: none yet */
static bool log_to_journal;
static log_tap log_tapped;
static void *log_tap_data;
static struct journal journal = {.fd = -1};

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
        if (log_to_journal && journal.fd < 0)
                (void)journal_open(&journal, JOURNAL_SOCKET);
}

void log_set_level(enum log_level level) {
        log_level = level;
}

void log_set_generation(uint64_t generation) {
        log_generation = generation;
}

void log_set_tap(log_tap tap, void *data) {
        log_tapped = tap;
        log_tap_data = data;
}

int log_attach(struct event_base *base) {
        return journal.fd >= 0 ? journal_attach(&journal, base) : 0;
}

void log_detach(void) {
        journal_detach(&journal);
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

static size_t add_time_and_level(char *line, enum log_level level) {
        struct timespec now;
        struct tm tm;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)gmtime_r(&now.tv_sec, &tm);
        return add(line, 0, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s: ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                   tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000, levels[level].name);
}

static size_t add_scope(char *line, size_t at, const struct log_scope *scope) {
        if (scope && scope->plugin)
                at = add(line, at, "%s \"%s\"%s", scope->group ? "group" : "plugin", scope->plugin, scope->worker ? " " : ": ");
        if (scope && scope->worker)
                at = add(line, at, "worker %d: ", (int)scope->worker);
        return at;
}

/* Return: the length of the UTF-8 character at `text`, 0 if there is none, or one that controls. */
static size_t printable(const char *text) {
        uint32_t c = 0;
        size_t len = utf8_decode((const uint8_t *)text, strnlen(text, 4), &c);

        return utf8_is_control(c) && c != '\t' ? 0 : len;
}

/* Copies `text`, with what is not printable made visible, as far as there is room. */
static size_t add_escaped(char *line, size_t at, const char *text) {
        while (*text && at + 6 < LINE_MAX_BYTES) {
                size_t len = printable(text);

                if (len == 0)
                        at = add(line, at, "\\x%02x", (unsigned char)*text++);
                for (; len > 0; len--)
                        line[at++] = *text++;
        }
        return at;
}

/* ---- Where it goes ---- */

static struct journal_field number_field(const char *name, char text[24], uint64_t number) {
        int len = snprintf(text, 24, "%" PRIu64, number);

        return (struct journal_field){name, text, (size_t)len};
}

static bool send_entry(enum log_level level, const struct log_scope *scope, const char *text, size_t len) {
        struct journal_field fields[8] = {
                {"PRIORITY", levels[level].priority, 1},
                {"SYSLOG_IDENTIFIER", "cpexd", 5},
                {"MESSAGE", text, len},
        };
        uint64_t number = scope && scope->generation ? scope->generation : log_generation;
        char worker[24], generation[24];
        size_t n = 3;

        if (!log_to_journal || journal.fd < 0)
                return false;
        if (scope && scope->plugin)
                fields[n++] = (struct journal_field){"PLUGIN", scope->plugin, strlen(scope->plugin)};
        if (scope && scope->worker)
                fields[n++] = number_field("WORKER_PID", worker, (uint64_t)scope->worker);
        if (number > 0)
                fields[n++] = number_field("GENERATION", generation, number);
        if (scope && scope->request_id)
                fields[n++] =
                        (struct journal_field){"REQUEST_ID", scope->request_id, MIN(scope->request_id_len, REQUEST_ID_MAX_BYTES)};
        return journal_send(&journal, fields, n) == 0;
}

/* Return: whether a line can be written without waiting: for a pipe, poll(2) says so when PIPE_BUF bytes fit. */
static bool has_room(void) {
        struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

        return poll(&fd, 1, 0) != 0;
}

/* `text` is what comes after the time and the level. */
static void write_line(enum log_level level, const char *text, size_t len) {
        static unsigned long lost;
        char line[LINE_MAX_BYTES + 128];
        size_t at;

        if (!has_room()) {
                lost++;
                return;
        }
        at = log_to_journal ? add(line, 0, "<%s>", levels[level].priority) : add_time_and_level(line, level);
        if (lost > 0)
                at = add(line, at, "[%lu lines before this one were lost] ", lost);
        lost = 0;
        memcpy(line + at, text, len);
        line[at + len] = '\n';
        (void)!write(STDERR_FILENO, line, at + len + 1);
}

static void write_message(enum log_level level, const struct log_scope *scope, const char *message) {
        char text[LINE_MAX_BYTES];
        size_t len = add_escaped(text, add_scope(text, 0, scope), message);

        if (!send_entry(level, scope, text, len))
                write_line(level, text, len);
}

static void tap_message(enum log_level level, const struct log_scope *scope, const char *message) {
        struct log_scope full = scope ? *scope : (struct log_scope){0};

        if (!full.generation)
                full.generation = log_generation;
        log_tapped(log_tap_data, level, &full, message);
}

void log_write(enum log_level level, const struct log_scope *scope, const char *format, ...) {
        bool tapped = log_tapped && level <= MAX(log_level, LOG_LEVEL_INFO);
        char message[LINE_MAX_BYTES];
        int saved = errno;
        va_list args;

        if (level > log_level && !tapped)
                return;
        va_start(args, format);
        (void)vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        if (level <= log_level)
                write_message(level, scope, message);
        if (tapped)
                tap_message(level, scope, message);
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
