/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A call through plugins of every mode that answer anything, or fail in any way. There are no workers: pool/pool.h is replaced
 * below, and a step that is submitted waits for the input to say how it ends. The call ends once, with one whole message.
 *
 * Input: the host's parameters as a value, then for each outcome a byte (bits 0-3: the cause, bit 7: the latest step and not the
 * first) and a value. When it ends early, the call is withdrawn. Where its last byte is odd, plugins that follow each other are a chain.
 */

#include "config/load.h"
#include "fuzz.h"
#include "pipeline/invocation.h"
#include "wire/rpc.h"

struct pool {
        const struct plugin_entry *entry;
        struct plugin_entry *completed;
        bool disabled;
};

static struct step *waiting[16];
static size_t n_waiting;
static bool chains;

int pool_new(struct pool **ret, struct event_base *base, struct plugins_config *config, const struct plugin_entry *entry,
             const struct pool_layout *layout, uint64_t generation, struct pool *fellow, const struct pool_handler *handler,
             void *data) {
        (void)base, (void)config, (void)layout, (void)generation, (void)fellow, (void)handler, (void)data;
        *ret = calloc(1, sizeof(**ret));
        (*ret)->entry = entry;
        return 0;
}

void pool_take_entry(struct pool *pool, struct plugin_entry *entry) {
        pool->entry = pool->completed = entry;
}

bool pool_start(struct pool *pool) {
        (void)pool;
        return true;
}

void pool_initialize(struct pool *pool) {
        (void)pool;
}

struct pool *pool_free(struct pool *pool) {
        if (pool)
                (void)plugin_entry_free(pool->completed);
        free(pool);
        return NULL;
}

void pool_submit(struct pool *pool, struct step *step) {
        CHECK(!pool->disabled && n_waiting < ELEMENTS(waiting) && mp_is_value((struct mp){step->params.data, step->params.len}));
        waiting[n_waiting++] = step;
}

static void forget(size_t i) {
        memmove(&waiting[i], &waiting[i + 1], (--n_waiting - i) * sizeof(waiting[0]));
}

bool pool_shares_workers(const struct pool *pool, const struct pool *other) {
        (void)pool, (void)other;
        return chains;
}

bool pool_submit_chain(struct step *first) {
        pool_submit(first->pool, first);
        for (struct step *step = first->then; step; step = step->then)
                step->place = STEP_BEHIND;
        return true;
}

/* As pool/calls.c does it: the next one begins, or they are all handed back. */
static void go_on_behind(struct step *step, const struct step_outcome *outcome) {
        static const uint8_t nil[] = {0xc0};
        struct step *next = step->then;

        if (!next || outcome->cause != STEP_ANSWERED || !answer_leaves_input((struct mp){nil, 1}, outcome->answer)) {
                step_return_chain(step);
                return;
        }
        step->then = NULL;
        next->place = STEP_NOWHERE;
        next->submitted_usec = 1;
        CHECK(n_waiting < ELEMENTS(waiting));
        waiting[n_waiting++] = next;
}

void pool_withdraw(struct step *step) {
        step->then = NULL;
        if (step->place == STEP_BEHIND)
                return;
        for (size_t i = 0; i < n_waiting; i++)
                if (waiting[i] == step) {
                        forget(i);
                        return;
                }
        CHECK(!"withdrawn twice, or after its outcome");
}

/* An upgrade is none of its business. */
void pool_save(const struct pool *pool, struct carry *carry) {
        (void)pool, (void)carry;
}

int pool_adopt(struct pool *pool, struct mp saved) {
        (void)pool, (void)saved;
        return 0;
}

void pool_save_step(const struct step *step, struct carry *carry) {
        (void)step, (void)carry;
}

int pool_adopt_step(struct pool *pool, struct step *step, struct mp saved) {
        (void)pool, (void)step, (void)saved;
        return 0;
}

struct pool *pool_ref(struct pool *pool) {
        return pool;
}

bool pool_serves_same(const struct pool *pool, const struct pool *other, struct mp report) {
        (void)pool, (void)other, (void)report;
        return false;
}

bool pool_close(struct pool *pool, void (*closed)(void *data, struct pool *pool), void *data) {
        (void)closed, (void)data;
        free(pool);
        return false;
}

enum pool_state pool_state(const struct pool *pool) {
        (void)pool;
        return POOL_READY;
}

unsigned pool_member(const struct pool *pool) {
        (void)pool;
        return 0;
}

size_t pool_registered_hooks(const struct pool *pool) {
        return pool->entry->hooks.n;
}

void pool_note_failure(struct pool *pool) {
        (void)pool;
}

void pool_disable(struct pool *pool) {
        pool->disabled = true;
}

bool pool_is_disabled(const struct pool *pool) {
        return pool->disabled;
}

/* Read as a plugins.yaml: a plugin of every mode, and a policy. */
static struct generation *start_generation(struct event_base *base) {
        static const struct pool_layout layout = {0};
        static const struct generation_handler handler = {0};
        const struct config_overrides overrides = {
                .plugins = SOURCE_ROOT "/conf/plugins.yaml", .socket = "/run/a", .control = "/run/b"};
        struct daemon_config *daemon = NULL;
        struct plugins_config *config = NULL;
        struct generation *generation;
        struct diags diags = {0};
        char text[4096] = "plugin_settings: {hook_policies: {tool_pre_invoke: [name, args]}}\nplugins:\n";
        static const char *const modes[] = {"sequential", "sequential", "transform",      "audit",
                                            "concurrent", "concurrent", "fire_and_forget"};
        static const char *const on_error[] = {"ignore", "fail", "disable", "ignore", "disable", "fail", "disable"};

        struct place beyond;

        (void)setenv("CACHE_DIRECTORY", "/var/cache/fuzz", 1);
        for (size_t i = 0; i < ELEMENTS(modes); i++) {
                size_t len = strlen(text);

                (void)snprintf(text + len, sizeof(text) - len,
                               "  - {name: p%zu, kind: isolated_venv, mode: %s, on_error: %s, hooks: [tool_pre_invoke, "
                               "prompt_pre_fetch], "
                               "config: {class_name: pii_scanner.plugin.P, script_path: plugins/pii_scanner}}\n",
                               i, modes[i], on_error[i]);
        }
        CHECK(daemon_config_parse(&daemon, NULL, "", 0, &overrides, &diags) == 0);
        CHECK(plugins_config_parse(&config, daemon, (struct config_text){text, strlen(text)}, &beyond, &diags) == 0);
        CHECK(generation_new(&generation, base, NULL, daemon, config, &layout, &handler, NULL) == 0);
        diags_done(&diags);
        return generation;
}

static void on_done(void *data, struct invocation *invocation) {
        CLEANUP_BUF struct buf answer = {0}, tail = {0};
        struct rpc_msg msg;

        invocation_put_response(invocation, &answer, 7, &tail);
        buf_append(&answer, tail.data, tail.len);
        CHECK(buf_error(&answer) == 0 && mp_is_value((struct mp){answer.data, answer.len}));
        CHECK(!rpc_parse((struct mp){answer.data, answer.len}, &msg) && msg.kind == RPC_RESPONSE && msg.id == 7);
        *(struct invocation **)data = invocation_free(invocation);
}

/* Takes one value off the input. Return: false where there is none. */
static bool take(struct mp *input, struct mp *ret) {
        struct mp_scan scan = {0};

        if (mp_scan(&scan, input->data, input->len, input->len) != MP_SCAN_DONE)
                return false;
        *ret = (struct mp){input->data, scan.pos};
        *input = (struct mp){input->data + scan.pos, input->len - scan.pos};
        return true;
}

/* Return: false when the input has no outcome left. */
static bool end_a_step(struct mp *input) {
        struct step_outcome outcome = {.message = "it failed"};
        struct step *step;
        size_t i;

        if (n_waiting == 0 || input->len < 2)
                return false;
        i = input->data[0] & 0x80 ? n_waiting - 1 : 0;
        outcome.cause = (input->data[0] & 15) % STEP_CAUSE_MAX_;
        outcome.setting = outcome.cause == STEP_QUEUE_FULL ? "isolation.queue" : NULL;
        *input = (struct mp){input->data + 1, input->len - 1};
        if (!take(input, outcome.cause == STEP_RAISED ? &outcome.error : &outcome.answer))
                return false;
        /* As a worker hands them over. */
        if (outcome.cause <= STEP_RAISED &&
            mp_peek(&(struct mp_cur){outcome.cause ? outcome.error.data : outcome.answer.data, input->data}) != MP_MAP)
                outcome.cause = STEP_MALFORMED;
        step = waiting[i];
        forget(i);
        go_on_behind(step, &outcome);
        step->on_done(step, &outcome);
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static struct generation *generation;
        static struct event_base *base;
        struct mp input = {data, len}, params;
        struct invocation *invocation = NULL;
        struct refusal refusal;

        if (!base) {
                log_init(LOG_LEVEL_ERROR);
                base = event_base_new();
                generation = start_generation(base);
        }
        for (size_t i = 0; i < generation->n_plugins; i++)
                generation->plugins[i].pool->disabled = false;
        n_waiting = 0;
        chains = len > 0 && (data[len - 1] & 1);
        if (!take(&input, &params) || mp_peek(&(struct mp_cur){params.data, params.data + params.len}) != MP_MAP)
                return 0;
        if (!invocation_start(&invocation, generation, params, NULL, on_done, &invocation, &refusal)) {
                CHECK(refusal.code && refusal.message);
                return 0;
        }
        do
                (void)event_base_loop(base, EVLOOP_NONBLOCK);
        while (end_a_step(&input));
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        (void)invocation_free(invocation);
        while (n_waiting > 0) { /* in the background */
                struct step *step = waiting[0];

                forget(0);
                step->on_done(step, &(struct step_outcome){.cause = STEP_STOPPED, .message = "the pool was closed"});
        }
        CHECK(generation->refs == 1);
        return 0;
}
