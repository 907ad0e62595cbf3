/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `cpexctl top`: the difference between two answers of `status`, again and again. Percentiles come from the difference of the
 * histograms, and so are of the time between the two looks, not of all since the start.
 *
 * On a terminal each look takes the place of the one before, on the other screen, so that what was there is there again afterwards; the
 * terminal itself is only told to hand over keys one by one. Signals come in while we wait, and nowhere else, so that no way out leaves
 * the terminal changed.
 */

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/clock.h"
#include "report.h"
#include "text.h"

#define BUCKETS_MAX 64
#define ANSWER_USEC (5 * USEC_PER_SEC)

/* ---- The terminal ---- */

struct screen {
        bool live; /* a terminal, on which the looks replace each other */
        struct termios before;
        sigset_t waiting; /* the signals that are let in while we wait */
};

static volatile sig_atomic_t stopped;

static void on_signal(int signal) {
        (void)signal;
        stopped = 1;
}

static void screen_enter(struct screen *screen) {
        static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
        struct sigaction stop = {.sa_handler = on_signal};
        struct termios keys;
        sigset_t blocked;

        screen->live = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && tcgetattr(STDIN_FILENO, &screen->before) == 0;
        if (!screen->live)
                return;
        (void)sigemptyset(&blocked);
        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                (void)sigaddset(&blocked, ends[i]);
                (void)sigaction(ends[i], &stop, NULL);
        }
        (void)signal(SIGTSTP, SIG_IGN);
        (void)sigprocmask(SIG_BLOCK, &blocked, &screen->waiting);
        keys = screen->before;
        keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &keys);
        (void)fputs("\033[?1049h\033[?25l\033[?7l", stdout); /* the other screen; no cursor; long lines are cut */
}

static void screen_leave(struct screen *screen) {
        if (!screen->live)
                return;
        (void)fputs("\033[?7h\033[?25h\033[?1049l", stdout);
        (void)fflush(stdout);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
        screen->live = false;
}

/* Shows as many lines as there is room for. */
static void screen_show(const struct buf *text) {
        struct winsize size = {0};
        const uint8_t *at = text->data, *end = at + text->len;

        (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        (void)fputs("\033[H", stdout);
        for (unsigned row = 1; at < end && row < MAX(size.ws_row, (unsigned short)3); row++) {
                const uint8_t *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;

                (void)fwrite(at, 1, (size_t)(stop - at), stdout);
                (void)fputs("\033[K\n", stdout);
                at = stop + 1;
        }
        (void)fputs("\033[J", stdout);
        (void)fflush(stdout);
}

/* Return: whether to go on: nobody wants to leave. */
static bool screen_wait(const struct screen *screen, usec_t usec) {
        usec_t end = clock_now_usec() + usec, now;
        struct pollfd key = {.fd = screen->live ? STDIN_FILENO : -1, .events = POLLIN};

        while (!stopped && (now = clock_now_usec()) < end) {
                struct timespec left = {(time_t)((end - now) / USEC_PER_SEC), (long)((end - now) % USEC_PER_SEC * 1000)};
                char c;

                if (ppoll(&key, 1, &left, screen->live ? &screen->waiting : NULL) > 0 &&
                    (read(STDIN_FILENO, &c, 1) != 1 || c == 'q' || c == 'Q'))
                        return false;
        }
        return !stopped;
}

/* ---- Figures ---- */

struct look {
        struct mp status, before;       /* before: empty: this is the first */
        double seconds;                 /* between them */
        uint64_t end_usec[BUCKETS_MAX]; /* of the histograms' buckets; the last one has none */
        uint32_t n_buckets;
};

static void read_counts(struct mp array, uint64_t counts[BUCKETS_MAX], uint32_t *ret_n) {
        struct mp value;
        uint32_t n, i = 0;

        for (struct mp_cur cur = array_begin(array, &n); i < n && i < BUCKETS_MAX && mp_read_any(&cur, &value); i++) {
                struct mp_cur number = mp_cur(value);

                counts[i] = 0;
                (void)mp_read_uint(&number, &counts[i]);
        }
        *ret_n = i;
}

/* The plugin of that name as it was before, an empty slice where it was not. */
static struct mp plugin_before(const struct look *look, struct mp name) {
        struct mp plugin;
        uint32_t n;

        for (struct mp_cur cur = array_begin(map_get(look->before, "plugins"), &n); n > 0 && mp_read_any(&cur, &plugin); n--)
                if (mp_same_str(map_get(plugin, "name"), name))
                        return plugin;
        return (struct mp){0};
}

/* What a counter has grown by; one that has become less began anew. */
static uint64_t growth(uint64_t now, uint64_t before) {
        return now >= before ? now - before : now;
}

static uint64_t grown(struct mp now, struct mp before, const char *key) {
        return growth(map_uint(now, key), map_uint(before, key));
}

static void add_rate(struct text_table *table, const struct look *look, uint64_t n) {
        if (look->before.len > 0)
                text_table_add(table, TEXT_PLAIN, "%.1f", (double)n / look->seconds);
        else
                text_table_add(table, TEXT_PLAIN, "-");
}

static void add_usec(struct text_table *table, const char *before, double usec) {
        if (usec < 1e3)
                text_table_add(table, TEXT_PLAIN, "%s%.0f us", before, usec);
        else if (usec < 1e6)
                text_table_add(table, TEXT_PLAIN, "%s%.*f ms", before, usec < 1e4, usec / 1e3);
        else
                text_table_add(table, TEXT_PLAIN, "%s%.1f s", before, usec / 1e6);
}

/* Below which `share` of the calls have stayed, as if they were spread evenly over their bucket. */
static void add_percentile(struct text_table *table, const struct look *look, const uint64_t counts[], uint64_t total,
                           double share) {
        double wanted = share * (double)total, below = 0;
        uint64_t from = 0;

        for (uint32_t i = 0; i < look->n_buckets && total > 0; i++) {
                double here = (double)counts[i];

                if (i + 1 == look->n_buckets) {
                        add_usec(table, "> ", (double)from);
                        return;
                }
                if (below + here >= wanted && here > 0) {
                        add_usec(table, "", (double)from + (double)(look->end_usec[i] - from) * (wanted - below) / here);
                        return;
                }
                below += here;
                from = look->end_usec[i];
        }
        text_table_add(table, TEXT_PLAIN, "-");
}

static void add_times(struct text_table *table, const struct look *look, struct mp plugin, struct mp before) {
        uint64_t counts[BUCKETS_MAX] = {0}, old[BUCKETS_MAX] = {0}, total = 0;
        bool anew = map_uint(plugin, "calls_total") < map_uint(before, "calls_total");
        uint32_t n, n_old;

        read_counts(map_get(plugin, "histogram"), counts, &n);
        read_counts(map_get(before, "histogram"), old, &n_old);
        for (uint32_t i = 0; i < n; i++) {
                counts[i] = anew ? counts[i] : growth(counts[i], old[i]);
                total += counts[i];
        }
        if (look->before.len == 0)
                total = 0;
        add_rate(table, look, total);
        add_rate(table, look, grown(plugin, before, "errors_total"));
        add_percentile(table, look, counts, total, 0.5);
        add_percentile(table, look, counts, total, 0.95);
        add_percentile(table, look, counts, total, 0.99);
}

static void add_workers(struct text_table *table, struct mp plugin, struct mp fellow) {
        uint64_t active = 0, memory = 0, ready = 0;
        struct mp worker;
        uint32_t n, n_workers;
        struct mp_cur cur = array_begin(map_get(plugin, "workers"), &n_workers);

        for (n = n_workers; n > 0 && mp_read_any(&cur, &worker); n--) {
                active += map_uint(worker, "calls_active");
                memory += map_uint(worker, "memory_bytes");
                ready += mp_eq_str(map_get(worker, "state"), "ready");
        }
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, active);
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "queue"));
        text_table_add(table, ready < n_workers ? TEXT_YELLOW : TEXT_PLAIN, "%" PRIu64 "/%" PRIu32, ready, n_workers);
        if (fellow.len > 0) { /* the same memory */
                struct mp name = mp_map_text(fellow, "name");

                text_table_add(table, TEXT_PLAIN, "with %.*s", (int)name.len, (const char *)name.data);
        } else {
                text_table_add(table, TEXT_PLAIN, "%.0f MiB", (double)memory / (1 << 20));
        }
        text_table_add(table, TEXT_PLAIN, "%" PRIu64, map_uint(plugin, "restarts"));
}

static void put_head(struct buf *out, const struct look *look) {
        struct mp now = map_get(look->status, "calls"), before = map_get(look->before, "calls"),
                  version = mp_map_text(look->status, "version"), state = mp_map_text(look->status, "state");
        double seconds = MAX(look->seconds, 1e-6);
        uint64_t hosts = map_uint(look->status, "hosts"), active = map_uint(now, "active");

        buf_append_str(out, "cpexd ");
        text_put(out, version.data, version.len);
        buf_append_str(out, ": ");
        text_put(out, state.data, state.len);
        buf_printf(out, ", generation %" PRIu64 ", %" PRIu64 " host%s, %" PRIu64 " call%s in flight",
                   map_uint(look->status, "generation"), hosts, plural(hosts), active, plural(active));
        if (before.len > 0)
                buf_printf(out, ", %.1f calls/s, %.1f failed/s", (double)grown(now, before, "total") / seconds,
                           (double)grown(now, before, "failed") / seconds);
        buf_append_str(out, "\n\n");
}

static int put_look(struct buf *out, struct look *look) {
        static const char *const header[] = {"PLUGIN", "STATUS", "CALLS/S", "ERRORS/S", "P50",    "P95",
                                             "P99",    "ACTIVE", "QUEUE",   "WORKERS",  "MEMORY", "RESTARTS"};
        CLEANUP_TABLE struct text_table table = {.columns = ELEMENTS(header)};
        struct mp plugin;
        uint32_t n;

        read_counts(map_get(look->status, "histogram_usec"), look->end_usec, &look->n_buckets);
        put_head(out, look);
        text_table_add_header(&table, header);
        for (struct mp_cur cur = array_begin(map_get(look->status, "plugins"), &n); n > 0 && mp_read_any(&cur, &plugin); n--) {
                struct mp status = map_get(plugin, "status");

                text_table_add_mp(&table, TEXT_PLAIN, map_get(plugin, "name"));
                text_table_add_mp(&table, mp_eq_str(status, "ready") ? TEXT_GREEN : TEXT_YELLOW, status);
                add_times(&table, look, plugin, plugin_before(look, map_get(plugin, "name")));
                add_workers(&table, plugin, report_fellow(map_get(look->status, "plugins"), plugin));
        }
        if (text_table_put(&table, out, 0) < 0)
                return -ENOMEM;
        report_put_groups(out, map_get(look->status, "plugins"));
        return 0;
}

/* ---- The command ---- */

static int show(const struct options *options, const struct screen *screen, struct look *look) {
        CLEANUP_BUF struct buf out = {0};

        if (options->json)
                return report_json(options, look->status, EXIT_OK);
        if (put_look(&out, look) < 0 || buf_error(&out))
                return report_error(options, "memory", "out of memory");
        if (screen->live) {
                screen_show(&out);
                return EXIT_OK;
        }
        buf_append_str(&out, "\n");
        return report_output(options, &out, EXIT_OK);
}

/* Looks once. Return: EXIT_OK, or EXIT_ERROR after telling what is wrong. */
static int look_once(const struct options *options, struct screen *screen, struct cpexd_client *client, struct buf *status) {
        struct cpexd_reply reply;
        int r = cpexd_call(client, "status", NULL, 0, MIN(options->timeout_usec, ANSWER_USEC), &reply);

        if (r < 0 || reply.failed) {
                screen_leave(screen);
                return r < 0 ? report_failure(options, client, r)
                             : report_daemon_error(options, (struct mp){reply.data, reply.len});
        }
        buf_reset(status);
        buf_append(status, reply.data, reply.len);
        return buf_error(status) ? report_error(options, "memory", "out of memory") : EXIT_OK;
}

int command_top(const struct options *options) {
        CLEANUP_DAEMON struct cpexd_client *client = daemon_connect(options, true);
        CLEANUP_BUF struct buf now = {0}, before = {0};
        struct screen screen = {0};
        usec_t since = 0;
        int r = EXIT_OK;

        if (!client)
                return EXIT_ERROR;
        screen_enter(&screen);
        for (uint64_t n = 0; r == EXIT_OK; n++) {
                usec_t at = clock_now_usec();
                struct look look = {.seconds = (double)(at - since) / (double)USEC_PER_SEC};
                struct buf old = before;

                before = now;
                now = old;
                r = look_once(options, &screen, client, &now);
                look.status = (struct mp){now.data, now.len};
                look.before = (struct mp){before.data, before.len};
                since = at;
                if (r == EXIT_OK && (n > 0 || screen.live))
                        r = show(options, &screen, &look);
                if (r != EXIT_OK || (options->count_given && n >= options->count) ||
                    !screen_wait(&screen, options->interval_usec))
                        break;
        }
        screen_leave(&screen);
        return r;
}
