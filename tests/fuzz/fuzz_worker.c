/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker in the hands of its plugin, which writes anything on the socket. There is no process: base/child.h is
 * replaced below, and the worker's end of the socket is ours.
 *
 * Input: the calls given (bits 0-3; bits 4-7: with no time at all), after which piece one is withdrawn (bits 0-4) and the worker
 * is told to stop (bits 5-7; with 7 it has two plugins, and calls that follow each other are a chain), the size of the pieces, and the worker's bytes. Each call gets exactly one outcome, unless it is
 * withdrawn, and before the one on_exit.
 */

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/child.h"
#include "fuzz.h"
#include "pool/calls.h"
#include "pool/worker.h"

struct child {
        child_callback on_exit;
        void *data;
        bool killed;
};

static struct child process;
static int peer;

int child_spawn(struct child **ret, struct event_base *base, const struct child_spec *spec, child_callback on_exit, void *data) {
        (void)base;
        peer = fcntl(spec->extra[0], F_DUPFD_CLOEXEC, 0);
        process = (struct child){.on_exit = on_exit, .data = data};
        *ret = &process;
        return 0;
}

int child_watch(struct child **ret, struct event_base *base, pid_t pid, child_callback on_exit, void *data) {
        (void)ret, (void)base, (void)pid, (void)on_exit, (void)data;
        return -ECHILD; /* of an upgrade, which is none of its business */
}

int child_pipe(int *ret_read, int *ret_write) {
        int fds[2];

        CHECK(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
        *ret_read = fds[0];
        *ret_write = fds[1];
        return 0;
}

pid_t child_pid(const struct child *child) {
        return child ? INT32_MAX : 0;
}

void child_signal(struct child *child, int signal) {
        (void)child, (void)signal;
}

void child_set_guard(struct child *child) {
        (void)child;
}

void child_kill_group(struct child *child) {
        child->killed = true;
}

struct child *child_free(struct child *child) {
        (void)child;
        return NULL;
}

static struct {
        struct step steps[4];
        unsigned waiting; /* a bit for each step without an outcome */
        unsigned calls;   /* as the input has it */
        bool chains;      /* those that follow each other are a chain */
        bool exited;
} owner;

static void on_done(struct step *step, const struct step_outcome *outcome) {
        unsigned bit = 1u << (step - owner.steps);

        CHECK((owner.waiting & bit) && step->place == STEP_NOWHERE && !owner.exited);
        owner.waiting &= ~bit;
        if (outcome->cause == STEP_ANSWERED)
                CHECK(mp_is_value(outcome->answer) &&
                      mp_peek(&(struct mp_cur){outcome->answer.data, outcome->answer.data + outcome->answer.len}) == MP_MAP);
        else if (outcome->cause == STEP_RAISED)
                CHECK(mp_is_value(outcome->error));
        else
                CHECK(outcome->message);
}

/* Before the outcome of the one before it. */
static void on_returned(struct step *step) {
        unsigned bit = 1u << (step - owner.steps);

        CHECK((owner.waiting & bit) && step->place == STEP_NOWHERE && !owner.exited);
        owner.waiting &= ~bit;
}

static void make_step(unsigned i) {
        static struct step_stats stats;

        owner.calls &= ~(1u << i);
        owner.waiting |= 1u << i;
        owner.steps[i] = (struct step){
                .timeout_usec = owner.calls & (16u << i) ? 0 : 60 * USEC_PER_SEC,
                .deadline_usec = USEC_INFINITY,
                .on_done = on_done,
                .on_returned = on_returned,
                .stats = &stats,
        };
}

static void give(void *data, struct worker *worker) {
        (void)data;
        for (unsigned i = 0; i < ELEMENTS(owner.steps); i++) {
                if (!(owner.calls & (1u << i)) || !worker_accepts(worker, 0))
                        continue;
                make_step(i);
                for (unsigned j = i; owner.chains && j + 1 < ELEMENTS(owner.steps) && (owner.calls & (2u << j)); j++) {
                        make_step(j + 1);
                        owner.steps[j].then = &owner.steps[j + 1];
                }
                mp_put_map(&owner.steps[i].params, 0);
                CHECK(worker_give(worker, &owner.steps[i]) == 0);
        }
}

static void on_member(void *data, struct worker *worker, unsigned member, struct mp answer) {
        (void)data;
        CHECK(mp_is_value(answer) && member < 2 && worker_serves(worker, member));
}

static void on_failed(void *data, struct worker *worker, unsigned member, const char *reason) {
        (void)data, (void)worker;
        CHECK(member < 2 && reason);
}

static void on_exit_(void *data, struct worker *worker, const char *reason) {
        (void)data, (void)worker;
        CHECK(!owner.exited && owner.waiting == 0 && reason);
        owner.exited = true;
}

static void withdraw(void) {
        for (unsigned i = 0; i < ELEMENTS(owner.steps); i++)
                if (owner.waiting & (1u << i)) {
                        calls_withdraw(&owner.steps[i]);
                        owner.waiting &= ~(1u << i);
                        return;
                }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static const struct worker_handler handler = {
                .on_member = on_member, .on_failed = on_failed, .on_ready = give, .on_idle = give, .on_exit = on_exit_};
        static const uint8_t empty_map[] = {0x80};
        static const struct strlist no_options;
        static struct worker_member members[2];
        static struct worker_spec spec = {
                .process = {.plugin = "fuzz", .launcher = "", .box = &no_options},
                .members = members,
                .startup_timeout_usec = USEC_PER_SEC,
                .frame_bytes = 512,
        };
        static struct event_base *base;
        struct worker *worker;
        size_t piece;

        if (len < 3)
                return 0;
        log_init(LOG_LEVEL_ERROR);
        base = base ? base : event_base_new();
        memset(&owner, 0, sizeof(owner));
        for (unsigned i = 0; i < ELEMENTS(members); i++)
                members[i] = (struct worker_member){
                        .load = {empty_map, sizeof(empty_map)}, .init = {empty_map, sizeof(empty_map)}, .may_initialize = true};
        spec.n_members = data[1] >> 5 == 7 ? 2 : 1;
        owner.calls = data[0];
        owner.chains = spec.n_members > 1;
        piece = MAX((size_t)data[2], len / 32 + 1);
        CHECK(worker_start(&worker, base, &spec, NULL, &handler, NULL) == 0);
        worker_initialize(worker);
        for (size_t at = 3, n = 0; at < len && !process.killed; at += piece, n++) {
                (void)send(peer, data + at, MIN(piece, len - at), MSG_NOSIGNAL | MSG_DONTWAIT);
                (void)event_base_loop(base, EVLOOP_NONBLOCK);
                if (n == (data[1] & 31))
                        withdraw();
                if (n == data[1] >> 5)
                        worker_stop(worker);
        }
        (void)close(peer);
        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        process.on_exit(process.data, process.killed ? SIGKILL : 0);
        CHECK(owner.exited);
        (void)worker_free(worker);
        return 0;
}
