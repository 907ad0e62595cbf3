/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who decided what stands in the turns, not in the execution records, which are CPEX's: those do not tell an ignored exception from a plugin
 * that had nothing to say, and a direct call has none.
 */

#include "pipeline/decision.h"

#include <inttypes.h>

#include "base/utf8.h"
#include "pipeline/turn.h"

#define NAME_BYTES ((size_t)256) /* of what a host or a plugin has named */

/* Return: whether a character might steer a terminal or, for some, end a line. */
static bool is_control(uint32_t c) {
        return utf8_is_control(c) || c == 0x2028 || c == 0x2029;
}

static void put_text(struct buf *buf, const void *text, size_t len) {
        const uint8_t *at = text, *end = at + MIN(len, NAME_BYTES);

        buf_append_str(buf, "\"");
        while (at < end) {
                uint32_t c = 0;
                size_t n = utf8_decode(at, (size_t)(end - at), &c);

                if (n == 0)
                        buf_append_str(buf, "\xef\xbf\xbd");
                else if (is_control(c))
                        buf_printf(buf, "\\u%04x", (unsigned)c);
                else if (c == '"' || c == '\\')
                        buf_printf(buf, "\\%c", (int)c);
                else
                        buf_append(buf, at, n);
                at += MAX(n, (size_t)1);
        }
        buf_append_str(buf, "\"");
}

static void put_name(struct buf *buf, const char *key, struct mp text) {
        buf_printf(buf, ", \"%s\": ", key);
        put_text(buf, text.data, text.len);
}

static void put_time(struct buf *buf) {
        struct timespec now;
        struct tm tm;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)gmtime_r(&now.tv_sec, &tm);
        buf_printf(buf, "{\"time\": \"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\"", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                   tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000);
}

/* ---- The end of it ---- */

enum outcome { OUTCOME_ALLOWED, OUTCOME_DENIED, OUTCOME_ERROR };

/* A direct call's answer is the plugin's: it has ended as allowed, whatever that says. */
static enum outcome outcome_of(const struct invocation *invocation) {
        bool denied = invocation->in.direct && invocation->turns[0].decision == TURN_DENIED;

        if (denied || invocation->ending == ENDING_BLOCKED || invocation->ending == ENDING_VIOLATION)
                return OUTCOME_DENIED;
        return invocation->ending == ENDING_ALLOWED && !invocation_failed(invocation) ? OUTCOME_ALLOWED : OUTCOME_ERROR;
}

/* The str under a key of the error's pairs. */
static struct mp error_text(const struct invocation *invocation, const char *name) {
        struct mp_cur cur = mp_cur(buf_mp(&invocation->error));
        struct mp key, value, text = {0};

        for (size_t n = invocation->n_error; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--) {
                struct mp_cur in = mp_cur(value);

                if (mp_eq_str(key, name))
                        (void)mp_read_str(&in, &text);
        }
        return text;
}

/* Who denied it, or failed in a way that counts; NULL: no plugin. Failures before that were ignored. */
static const struct turn *decider(const struct invocation *invocation, enum outcome outcome) {
        enum turn_decision decision = outcome == OUTCOME_DENIED ? TURN_DENIED : TURN_FAILED;

        if (outcome == OUTCOME_ALLOWED || (outcome == OUTCOME_ERROR && error_text(invocation, "cause").len == 0))
                return NULL;
        for (size_t i = invocation->n_turns; i > 0; i--)
                if (invocation->turns[i - 1].decision == decision)
                        return &invocation->turns[i - 1];
        return NULL;
}

/* A direct call that was not raised from has it in the plugin's answer. */
static struct mp violation_of(const struct invocation *invocation) {
        if (invocation->ending == ENDING_ALLOWED)
                return mp_map_value(buf_mp(&invocation->direct), "violation");
        return buf_mp(&invocation->violation);
}

static void put_outcome(const struct invocation *invocation, struct buf *buf) {
        static const char *const names[] = {"allowed", "denied", "error"};
        enum outcome outcome = outcome_of(invocation);
        const struct turn *by = decider(invocation, outcome);

        buf_printf(buf, ", \"outcome\": \"%s\"", names[outcome]);
        if (by)
                put_name(buf, "by", (struct mp){(const uint8_t *)by->plugin->entry->name, strlen(by->plugin->entry->name)});
        if (outcome == OUTCOME_DENIED)
                put_name(buf, "code", mp_map_text(violation_of(invocation), "code"));
        if (outcome == OUTCOME_ERROR)
                put_name(buf, "error", error_text(invocation, "type"));
}

/* ---- The way to it ---- */

static void put_turn(const struct turn *turn, usec_t now, struct buf *buf) {
        static const char *const decisions[] = {
                [TURN_UNDECIDED] = "none",    [TURN_CONTINUED] = "continued", [TURN_MODIFIED] = "modified",
                [TURN_OBJECTED] = "objected", [TURN_DENIED] = "denied",       [TURN_FAILED] = "failed",
                [TURN_STARTED] = "started",
        };
        struct turn_times times;

        buf_append_str(buf, "{\"name\": ");
        put_text(buf, turn->plugin->entry->name, strlen(turn->plugin->entry->name));
        buf_printf(buf, ", \"mode\": \"%s\", \"decision\": \"%s\"", plugin_mode_name(turn->plugin->entry->mode),
                   decisions[turn->decision]);
        if (turn->decision == TURN_FAILED)
                buf_printf(buf, ", \"cause\": \"%s\"", step_cause_name(turn->cause));
        if (turn_times(turn, now, &times))
                buf_printf(buf, ", \"wait_usec\": %" PRIu64 ", \"run_usec\": %" PRIu64, times.wait_usec, times.run_usec);
        buf_append_str(buf, "}");
}

bool decision_is_wanted(const struct invocation *invocation, enum decisions_which which) {
        if (which == DECISIONS_ALL || outcome_of(invocation) != OUTCOME_ALLOWED)
                return true;
        for (size_t i = 0; i < invocation->n_turns && which == DECISIONS_CHANGED; i++) {
                enum turn_decision decision = invocation->turns[i].decision;

                if (decision != TURN_UNDECIDED && decision != TURN_CONTINUED && decision != TURN_STARTED)
                        return true;
        }
        return false;
}

void decision_put(const struct invocation *invocation, const struct decision_host *host, struct buf *buf) {
        struct mp id = mp_map_text(invocation->in.context, "request_id");
        usec_t now = clock_now_usec();
        bool any = false;

        put_time(buf);
        buf_printf(buf, ", \"generation\": %" PRIu64, invocation->generation->number);
        put_name(buf, "request_id", id);
        put_name(buf, "hook", invocation->in.hook);
        buf_printf(buf, ", \"uid\": %u, \"pid\": %d", (unsigned)host->uid, (int)host->pid);
        put_outcome(invocation, buf);
        buf_printf(buf, ", \"total_usec\": %" PRIu64 ", \"plugins\": [", now - invocation->started_usec);
        for (size_t i = 0; i < invocation->n_turns; i++) {
                if (invocation->turns[i].state == TURN_PENDING)
                        continue;
                buf_append_str(buf, any ? ", " : "");
                put_turn(&invocation->turns[i], now, buf);
                any = true;
        }
        buf_append_str(buf, "]}\n");
}
