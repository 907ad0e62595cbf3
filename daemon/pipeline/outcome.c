/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the outcome of a turn does to its invocation: CPEX's merge table (docs/semantics.md).
 *
 *     mode          payload  blocks  state  metadata  retry          extensions
 *     sequential    yes      yes     yes    yes       yes            yes
 *     transform     yes      no      yes    yes       not "blocking" not "blocking"
 *     audit         no       no      no     yes       not "blocking" no
 *     concurrent    no       yes     yes    yes       yes            no
 *
 * A plugin that fails, for whatever cause, is one case: `causes` says what is particular to each, the plugin's on_error decides.
 * No failure becomes a pass unless on_error says so.
 */

#include <ctype.h>

#include "pipeline/extensions.h"
#include "pipeline/turn.h"
#include "wire/rpc.h"

#define METRICS_MAX 16
#define LABEL_BYTES_MAX 64

/* ---- Failures: cause × on_error ---- */

static const struct {
        enum record_status status; /* of the record when the failure is ignored */
        bool disables;             /* the plugin's own doing: `on_error: disable` applies */
        const char *error_code;    /* of the record */
} causes[STEP_CAUSE_MAX_] = {
        /* CPEX records an ignored exception as a plugin that had nothing to say. */
        [STEP_RAISED] = {RECORD_COMPLETED, true, NULL},
        [STEP_TIMEOUT] = {RECORD_TIMEOUT, true, "plugin_timeout"},
        [STEP_CRASHED] = {RECORD_ERROR, true, "plugin_crash"},
        [STEP_MALFORMED] = {RECORD_ERROR, true, "plugin_malformed"},
        [STEP_OVERSIZE] = {RECORD_ERROR, true, "plugin_oversize"},
        [STEP_START_FAILED] = {RECORD_ERROR, true, "plugin_start_failed"},
        /* Overload, want of memory and stopping are ours, not the plugin's. */
        [STEP_QUEUE_FULL] = {RECORD_ERROR, false, "plugin_queue_full"},
        [STEP_QUEUE_TIMEOUT] = {RECORD_ERROR, false, "plugin_queue_timeout"},
        [STEP_NO_MEMORY] = {RECORD_ERROR, false, "plugin_no_memory"},
        [STEP_STOPPED] = {RECORD_ERROR, false, "plugin_stopped"},
};

bool cause_disables(enum step_cause cause) {
        return causes[cause].disables;
}

static struct mp c_str(const char *text) {
        return (struct mp){(const uint8_t *)text, text ? strlen(text) : 0};
}

bool is_junk_result(struct mp error) {
        return mp_eq_str(mp_map_value(error, "stage"), "result");
}

static void add_record(struct turn *turn, struct record record) {
        struct invocation *invocation = turn->invocation;

        if (invocation->in.direct)
                return; /* the records are those of the pipeline */
        record.plugin = turn->plugin;
        record.hook = invocation->in.hook;
        record.duration_nsec = clock_now_nsec() - turn->started_nsec;
        record_put(&record, &invocation->records);
        invocation->n_records++;
}

/* dict.update() */
static void merge(struct buf *into, struct mp over, const char *skip) {
        CLEANUP_BUF struct buf merged = {0};
        struct buf old = *into;

        if (over.len == 0)
                return;
        mp_put_merged(&merged, buf_mp(into), over, skip);
        *into = merged;
        merged = old;
}

/* The shared state as the plugin left it, from the modes that may change it. A worker leaves out what the plugin did not change; a
 * concurrent plugin writes that back all the same, over what others made of it meanwhile (as in CPEX). */
static void merge_shared(struct turn *turn, struct mp state, struct mp metadata) {
        struct invocation *invocation = turn->invocation;
        enum plugin_mode mode = turn->plugin->entry->mode;

        if (invocation->in.direct) { /* the caller's own, in every mode: what the plugin took out is gone */
                buf_set(&invocation->state, state.len > 0 ? state : invocation->in.state);
                buf_set(&invocation->global_metadata, metadata.len > 0 ? metadata : invocation->in.metadata);
        } else if (mode == PLUGIN_CONCURRENT) {
                merge(&invocation->state, state.len > 0 ? state : buf_mp(&invocation->start_state), NULL);
                merge(&invocation->global_metadata, metadata.len > 0 ? metadata : buf_mp(&invocation->start_metadata), NULL);
        } else if (mode == PLUGIN_SEQUENTIAL || mode == PLUGIN_TRANSFORM) {
                merge(&invocation->state, state, NULL);
                merge(&invocation->global_metadata, metadata, NULL);
        }
}

/* One key of the error's map. */
static struct buf *error_key(struct invocation *invocation, const char *key) {
        mp_put_str(&invocation->error, key);
        invocation->n_error++;
        return &invocation->error;
}

/* CPEX's for an error that is not the plugin's own. */
static void put_defaults(struct invocation *invocation) {
        mp_put_str(error_key(invocation, "code"), "");
        mp_put_int(error_key(invocation, "mcp_error_code"), -32603);
}

/* The details of an exception: what would allow what the sandbox has denied. */
static void put_hint(struct buf *buf, struct mp hint) {
        mp_put_map(buf, hint.len > 0);
        if (hint.len == 0)
                return;
        mp_put_str(buf, "sandbox");
        mp_put_text(buf, hint.data, hint.len);
}

static void put_raised(struct turn *turn, struct mp error) {
        struct invocation *invocation = turn->invocation;
        bool verbatim = mp_eq_str(mp_map_value(error, "type"), "PluginError");
        struct mp name = mp_map_value(error, "plugin_name");

        mp_put_raw(error_key(invocation, "message"), mp_map_value(error, "message"));
        if (verbatim) {
                mp_put_raw(error_key(invocation, "code"), mp_map_value(error, "code"));
                mp_put_raw(error_key(invocation, "details"), mp_map_value(error, "details"));
                mp_put_raw(error_key(invocation, "mcp_error_code"), mp_map_value(error, "mcp_error_code"));
        } else {
                put_defaults(invocation);
                put_hint(error_key(invocation, "details"), mp_map_text(mp_map_value(error, "details"), "sandbox"));
        }
        if (verbatim && name.len > 0)
                mp_put_raw(error_key(invocation, "plugin_name"), name);
        else
                mp_put_str(error_key(invocation, "plugin_name"), turn->plugin->entry->name);
}

/* The details, and when the caller's time is over where it went. */
static void put_details(struct invocation *invocation, struct mp details, bool budget) {
        CLEANUP_BUF struct buf timing = {0};

        if (budget) {
                mp_put_map(&timing, 1);
                mp_put_str(&timing, "timing");
                invocation_put_timing(invocation, &timing);
        }
        if (buf_error(&timing)) {
                invocation->error.error = buf_error(&timing);
                return;
        }
        mp_put_merged(error_key(invocation, "details"), details, buf_mp(&timing), NULL);
}

static void put_failed(struct turn *turn, const struct step_outcome *outcome, bool budget, struct mp message) {
        struct invocation *invocation = turn->invocation;

        mp_put_strn(error_key(invocation, "message"), message.data, message.len);
        mp_put_str(error_key(invocation, "plugin_name"), turn->plugin->entry->name);
        put_defaults(invocation);
        if (outcome->setting)
                rpc_put_limit(error_key(invocation, "details"), step_cause_name(outcome->cause), outcome->value, outcome->maximum,
                              outcome->setting);
        else
                put_details(invocation, outcome->details, budget);
}

static void failure_message(const struct turn *turn, const struct step_outcome *outcome, bool budget, struct buf *buf) {
        const char *name = turn->plugin->entry->name;

        if (budget)
                buf_printf(buf, "Plugin %s was running when the call's timeout of %llu ms was over", name,
                           (unsigned long long)turn->invocation->in.timeout_ms);
        else if (outcome->cause == STEP_TIMEOUT)
                buf_printf(buf, "Plugin %s exceeded %gs timeout", name,
                           (double)turn->plugin->entry->isolation.timeout_usec / (double)USEC_PER_SEC);
        else
                buf_printf(buf, "Plugin %s: %s", name, outcome->message);
        if (outcome->setting)
                buf_printf(buf, " (%llu, at most %llu: %s)", (unsigned long long)outcome->value,
                           (unsigned long long)outcome->maximum, outcome->setting);
}

/* Return: whether it was the caller's time that was over. A timer may be early, by as much as a turn of the loop takes; then it counts whose
 * time it was set for. A TimeoutError of the plugin's own, which has no message here, was set for nobody's. */
static bool is_used_up(const struct turn *turn, const struct step_outcome *outcome) {
        const struct step *step = &turn->step;
        usec_t deadline = turn->invocation->deadline_usec, limit = step->timeout_usec;
        usec_t queue_usec = turn->plugin->entry->isolation.queue_timeout_usec;

        if (outcome->cause == STEP_QUEUE_TIMEOUT && queue_usec)
                limit = MIN(limit, queue_usec);
        else if (outcome->cause != STEP_TIMEOUT && outcome->cause != STEP_QUEUE_TIMEOUT)
                return false;
        if (clock_now_usec() >= deadline)
                return true;
        return outcome->message && deadline < (step->given_usec ? step->given_usec : step->submitted_usec) + limit;
}

static void conclude_failure(struct turn *turn, const struct step_outcome *outcome) {
        struct invocation *invocation = turn->invocation;
        const struct plugin_entry *entry = turn->plugin->entry;
        enum on_error on_error = invocation->in.direct ? ON_ERROR_FAIL : entry->on_error;
        bool budget = is_used_up(turn, outcome);
        struct mp message, id = mp_map_text(invocation->in.context, "request_id");
        struct log_scope scope = {
                .plugin = entry->name,
                .generation = invocation->generation->number,
                .request_id = (const char *)id.data,
                .request_id_len = id.len,
        };
        CLEANUP_BUF struct buf text = {0};

        turn->decision = TURN_FAILED;
        turn->cause = outcome->cause;
        failure_message(turn, outcome, budget, &text);
        message = outcome->cause == STEP_RAISED ? mp_map_text(outcome->error, "message") : buf_mp(&text);
        log_write(LOG_LEVEL_WARNING, &scope, "%.*s: %s: %.*s (on_error: %s)", (int)invocation->in.hook.len,
                  (const char *)invocation->in.hook.data, step_cause_name(outcome->cause), (int)MIN(message.len, (size_t)1024),
                  (const char *)message.data, on_error_name(on_error));

        if (outcome->cause == STEP_RAISED) {
                struct mp traceback = mp_map_text(mp_map_value(outcome->error, "details"), "traceback");

                log_text(LOG_LEVEL_INFO, &scope, traceback.data, traceback.len);
        }
        pool_note_failure(turn->plugin->pool);
        if (on_error == ON_ERROR_DISABLE && cause_disables(outcome->cause))
                pool_disable(turn->plugin->pool);
        /* The caller's own budget is nobody's to ignore: there is no time left for the others. */
        if (on_error != ON_ERROR_FAIL && !budget) {
                bool completed = causes[outcome->cause].status == RECORD_COMPLETED;

                add_record(turn, (struct record){
                                         .status = causes[outcome->cause].status,
                                         .requested_allow = completed ? STATE_YES : STATE_NONE,
                                         .matched = completed ? STATE_NO : STATE_NONE,
                                         .effective_allow = true,
                                         .applied = !completed && entry->mode == PLUGIN_SEQUENTIAL,
                                         .reason = completed ? (struct mp){0} : message,
                                         .error_code = c_str(causes[outcome->cause].error_code),
                                 });
                return;
        }
        add_record(turn, (struct record){
                                 .status = RECORD_ERROR,
                                 .requested_allow = STATE_NONE,
                                 .matched = STATE_NONE,
                                 .applied = true,
                                 .reason = message,
                                 .error_code = c_str("plugin_error"),
                         });
        mp_put_str(error_key(invocation, "type"), "PluginError");
        mp_put_str(error_key(invocation, "cause"), step_cause_name(outcome->cause));
        if (outcome->cause == STEP_RAISED)
                put_raised(turn, outcome->error);
        else
                put_failed(turn, outcome, budget, message);
        invocation->ending = ENDING_ERROR;
}

/* What the caller sent is at fault, not the plugin: on_error has no say. Its payload does not validate (CPEX refuses it before any
 * plugin), or its bytes cannot be read at all. */
static void conclude_bad_request(struct turn *turn, struct mp error) {
        struct invocation *invocation = turn->invocation;

        mp_put_raw(error_key(invocation, "type"), mp_map_value(error, "type"));
        mp_put_str(error_key(invocation, "code"), "bad_request");
        mp_put_raw(error_key(invocation, "message"), mp_map_value(error, "message"));
        mp_put_raw(error_key(invocation, "errors"), mp_map_value(error, "errors"));
        mp_put_nil(error_key(invocation, "plugin_name"));
        invocation->ending = ENDING_ERROR;
}

/* Return: whether the worker says so. A payload that an earlier plugin made is that plugin's doing; a server that is none of ours has
 * no say in it. */
static bool is_bad_request(const struct turn *turn, struct mp error) {
        struct mp type = mp_map_value(error, "type");

        if (turn->plugin->entry->isolation.socket)
                return false;
        if (mp_eq_str(type, "ProtocolError"))
                return mp_eq_str(mp_map_value(error, "code"), "bad_request");
        return mp_eq_str(type, "ValidationError") && mp_eq_str(mp_map_value(error, "stage"), "request") &&
               !turn->invocation->payload_changed;
}

/* ---- Denials ---- */

static void add_denial_record(struct turn *turn, struct mp violation, struct mp fallback_code, struct mp fallback_reason) {
        add_record(turn, (struct record){
                                 .status = RECORD_COMPLETED,
                                 .requested_allow = STATE_NO,
                                 .matched = STATE_YES,
                                 .applied = true,
                                 .reason = violation.len > 0 ? mp_map_text(violation, "reason") : fallback_reason,
                                 .error_code = violation.len > 0 ? mp_map_text(violation, "code") : fallback_code,
                         });
}

/* The violation, with the name of the plugin as we know it. */
static void put_violation(struct turn *turn, struct mp violation, const char *plugin_name) {
        CLEANUP_BUF struct buf name = {0};

        mp_put_map(&name, 1);
        mp_put_str(&name, "plugin_name");
        mp_put_str(&name, plugin_name);
        buf_reset(&turn->invocation->violation);
        mp_put_merged(&turn->invocation->violation, violation, buf_mp(&name), NULL);
}

/* A plugin raised PluginViolationError: it goes out from every mode, whatever on_error says. */
static void conclude_raised_violation(struct turn *turn, struct mp error) {
        struct invocation *invocation = turn->invocation;
        struct mp violation = mp_map_value(error, "violation");

        turn->decision = TURN_DENIED;
        if (mp_is_nil(violation))
                violation = (struct mp){0};
        add_denial_record(turn, violation, c_str("plugin_violation"), mp_map_text(error, "message"));
        mp_put_raw(error_key(invocation, "message"), mp_map_value(error, "message"));
        if (violation.len > 0)
                put_violation(turn, violation, ""); /* CPEX names nobody here */
        invocation->ending = ENDING_VIOLATION;
}

static void denial_message(struct turn *turn, struct mp violation, struct buf *text) {
        struct invocation *invocation = turn->invocation;
        struct mp hook = invocation->in.hook, code = mp_map_text(violation, "code"), reason = mp_map_text(violation, "reason"),
                  description = mp_map_text(violation, "description");

        buf_append(text, hook.data, hook.len);
        buf_append_str(text, " blocked by plugin");
        if (violation.len > 0) {
                buf_printf(text, " %s: ", turn->plugin->entry->name);
                buf_append(text, code.data, code.len);
                buf_append_str(text, " - ");
                buf_append(text, reason.data, reason.len);
                buf_append_str(text, " (");
                buf_append(text, description.data, description.len);
                buf_append_str(text, ")");
        }
}

/* Only values that cannot carry text: CPEX's rule for what a denial may tell the caller beyond its violation. */
static bool is_plain_metric(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        double number;
        int64_t i;
        bool flag;

        if (mp_read_bool(&cur, &flag) || mp_read_int(&cur, &i))
                return true;
        return mp_peek(&cur) == MP_FLOAT && mp_read_float(&cur, &number) && number - number == 0;
}

/* [A-Za-z0-9._-]{1,64} */
static bool is_label(struct mp value) {
        struct mp_cur cur = mp_cur(value);
        struct mp text;

        if (!mp_read_str(&cur, &text) || text.len == 0 || text.len > LABEL_BYTES_MAX)
                return false;
        for (size_t i = 0; i < text.len; i++)
                if (text.data[i] >= 0x80 || (!isalnum(text.data[i]) && !strchr("._-", text.data[i])))
                        return false;
        return true;
}

static void put_metrics(struct buf *buf, struct mp metadata) {
        struct mp_cur cur = mp_cur(metadata);
        size_t map = mp_map_begin(buf), count = 0;
        struct mp key, value;
        uint32_t n;

        if (!mp_read_map(&cur, &n) || n > METRICS_MAX)
                n = 0;
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &value); n--)
                if (is_label(key) && is_plain_metric(value)) {
                        mp_put_raw(buf, key);
                        mp_put_raw(buf, value);
                        count++;
                }
        mp_map_end(buf, map, count);
}

/* An integer of the violation, nil unless it is within the range. */
static void put_code(struct buf *buf, struct mp violation, const char *key, int64_t min, int64_t max) {
        struct mp_cur cur = mp_cur(mp_map_value(violation, key));
        int64_t code;

        mp_put_str(buf, key);
        if (mp_read_int(&cur, &code) && code >= min && code <= max)
                mp_put_int(buf, code);
        else
                mp_put_nil(buf);
}

/* CPEX's DenialOutcome, without its record, which is the last of `executions`. */
static void put_denial_outcome(struct invocation *invocation, struct mp violation, struct mp metadata) {
        struct buf *buf = error_key(invocation, "denial_outcome");
        struct mp code = mp_map_value(violation, "code");

        mp_put_map(buf, 4);
        mp_put_str(buf, "violation_code");
        mp_put_raw(buf, is_label(code) ? code : (struct mp){0});
        put_code(buf, violation, "mcp_error_code", INT32_MIN, INT32_MAX);
        put_code(buf, violation, "http_status_code", 100, 599);
        mp_put_str(buf, "metadata");
        put_metrics(buf, metadata);
}

static void conclude_denial(struct turn *turn, const struct answer *answer) {
        struct invocation *invocation = turn->invocation;
        bool raises = invocation->in.violations_as_exceptions;
        CLEANUP_BUF struct buf message = {0};

        turn->decision = TURN_DENIED;
        if (raises)
                denial_message(turn, answer->violation, &message);
        add_denial_record(turn, answer->violation, c_str(raises ? "plugin_violation" : NULL), buf_mp(&message));
        if (answer->violation.len > 0)
                put_violation(turn, answer->violation, turn->plugin->entry->name);
        if (raises) {
                mp_put_strn(error_key(invocation, "message"), message.data, message.len);
                put_denial_outcome(invocation, answer->violation, answer->denial_metadata);
        } else {
                buf_set(&invocation->denial_metadata, answer->denial_metadata);
        }
        invocation->ending = raises ? ENDING_VIOLATION : ENDING_BLOCKED;
        invocation->retry_delay_ms = 0;
        buf_reset(&invocation->extensions);
}

/* ---- Answers ---- */

/* Return: whether the extensions are others now. */
static bool take_extensions(struct turn *turn, struct mp returned) {
        struct invocation *invocation = turn->invocation;
        const struct daemon_config *daemon = invocation->generation->daemon;
        CLEANUP_BUF struct buf stripped = {0};

        if (daemon->strip_headers > 0) {
                extensions_put_stripped(&stripped, returned);
                returned = buf_mp(&stripped);
        }
        if (buf_error(&stripped)) {
                invocation->extensions.error = buf_error(&stripped);
                return false;
        }
        if (daemon->enforce_tiers)
                return turn_take_extensions(turn, returned);
        buf_set(&invocation->extensions, returned);
        return true;
}

static void conclude_answer(struct turn *turn, const struct answer *answer, struct buf *memory) {
        struct invocation *invocation = turn->invocation;
        enum plugin_mode mode = turn->plugin->entry->mode;
        bool chained = mode == PLUGIN_SEQUENTIAL || mode == PLUGIN_TRANSFORM;
        bool can_block = mode == PLUGIN_SEQUENTIAL || mode == PLUGIN_CONCURRENT;
        bool payload_modified = false, extensions_modified = false;
        struct mp reason = {0}, code = {0};

        merge_shared(turn, answer->state, answer->global_metadata);
        merge(&invocation->metadata, answer->metadata, "_decision_plugin");
        if (!answer->continue_processing && can_block) {
                conclude_denial(turn, answer);
                return;
        }
        if (chained)
                payload_modified = turn_take_payload(turn, answer, memory);
        if (answer->continue_processing) {
                invocation->retry_delay_ms = MAX(invocation->retry_delay_ms, answer->retry_delay_ms);
                extensions_modified = mode != PLUGIN_CONCURRENT && answer->modified_extensions.len > 0;
                if (chained && extensions_modified)
                        extensions_modified = take_extensions(turn, answer->modified_extensions);
        }
        if (chained && (payload_modified || extensions_modified))
                turn->decision = TURN_MODIFIED;
        else
                turn->decision = answer->continue_processing ? TURN_CONTINUED : TURN_OBJECTED;
        /* CPEX shows what a concurrent plugin objected to even if it did not deny. */
        if (mode == PLUGIN_CONCURRENT && answer->violation.len > 0) {
                reason = mp_map_text(answer->violation, "reason");
                code = mp_map_text(answer->violation, "code");
        }
        add_record(turn, (struct record){
                                 .status = RECORD_COMPLETED,
                                 .requested_allow = STATE_YES,
                                 .matched = payload_modified || extensions_modified ? STATE_YES : STATE_NO,
                                 .effective_allow = true,
                                 .applied = payload_modified || extensions_modified,
                                 .payload_modified = payload_modified,
                                 .extensions_modified = extensions_modified,
                                 .reason = reason,
                                 .error_code = code,
                         });
}

/* The plugin's own context as its worker or server tells it: none is an empty one. */
static void keep_context(struct turn *turn, struct mp document) {
        struct mp_cur cur = mp_cur(document);

        buf_reset(&turn->context);
        if (document.len > 0 && mp_peek(&cur) == MP_MAP && mp_depth(document) <= REQUEST_DEPTH_MAX) {
                buf_set(&turn->context, document);
        } else if (document.len > 0 && turn->plugin->entry->isolation.socket) {
                mp_put_map(&turn->context, 2);
                mp_put_str(&turn->context, "state");
                mp_put_map(&turn->context, 0);
                mp_put_str(&turn->context, "metadata");
                mp_put_map(&turn->context, 1);
                mp_put_str(&turn->context, TURN_SERVER_CONTEXT);
                mp_put_bin(&turn->context, document.data, document.len);
        }
}

static struct mp get_map(struct mp map, const char *key) {
        struct mp value = mp_map_value(map, key);
        struct mp_cur cur = mp_cur(value);

        return mp_peek(&cur) == MP_MAP ? value : (struct mp){0};
}

static void conclude_raised(struct turn *turn, const struct step_outcome *outcome) {
        struct mp type = mp_map_value(outcome->error, "type"), cause = mp_map_value(outcome->error, "cause");
        struct mp_cur cur = mp_cur(mp_map_value(outcome->error, "contexts"));
        struct mp document = {0};

        keep_context(turn, mp_read_bin(&cur, &document) && mp_is_value(document) ? document : (struct mp){0});
        /* A hook that returned something which is no result has ended all the same; one that raised has not. */
        if (is_junk_result(outcome->error) || turn->invocation->in.direct)
                merge_shared(turn, get_map(outcome->error, "state"), get_map(outcome->error, "global_metadata"));
        if (mp_eq_str(type, "PluginViolationError"))
                conclude_raised_violation(turn, outcome->error);
        else if (is_bad_request(turn, outcome->error))
                conclude_bad_request(turn, outcome->error);
        else if (mp_eq_str(cause, step_cause_name(STEP_TIMEOUT))) /* any TimeoutError of the plugin's own, as CPEX has it */
                conclude_failure(turn, &(struct step_outcome){.cause = STEP_TIMEOUT});
        else if (mp_eq_str(cause, step_cause_name(STEP_OVERSIZE)))
                conclude_failure(turn, &(struct step_outcome){.cause = STEP_OVERSIZE,
                                                              .message = "its answer is longer than a message may be"});
        else
                conclude_failure(turn, outcome);
}

static void conclude_direct(struct turn *turn, const struct answer *answer, const struct step_outcome *outcome) {
        bool modified = answer->modified_payload.len > 0 || answer->modified_extensions.len > 0;

        turn->decision = !answer->continue_processing ? TURN_DENIED : modified ? TURN_MODIFIED : TURN_CONTINUED;
        buf_share(&turn->invocation->direct, outcome->memory, outcome->answer.data, outcome->answer.len);
}

void turn_conclude(struct turn *turn, const struct step_outcome *outcome) {
        struct answer answer;
        const char *wrong;

        if (outcome->cause == STEP_RAISED) {
                conclude_raised(turn, outcome);
                return;
        }
        if (outcome->cause != STEP_ANSWERED) {
                conclude_failure(turn, outcome);
                return;
        }
        wrong = answer_parse(outcome->answer, &answer);
        if (wrong) {
                conclude_failure(turn, &(struct step_outcome){.cause = STEP_MALFORMED, .message = wrong});
                return;
        }
        keep_context(turn, answer.contexts);
        if (turn->invocation->in.direct)
                conclude_direct(turn, &answer, outcome);
        else
                conclude_answer(turn, &answer, outcome->memory);
}
