/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The process of a worker: the launcher and then Python, the group it leads, and what it prints.
 *
 * What a plugin prints is its log, line by line, a bounded number of lines a second; what is beyond is counted. Where its Python
 * threads are, the interpreter tells on request, and unasked when it crashes.
 */

#include <event2/event.h>
#include <sys/types.h>

#include "base/buf.h"
#include "config/model.h"
#include "pool/cgroup.h"
#include "wire/carry.h"

struct process;

struct process_spec {
        const char *plugin; /* or the group, of which these are the plugins */
        bool group;
        const char *const *members;
        unsigned n_members;
        const char *launcher, *shim_dir, *ext_dir, *sdk_dir; /* where the parts of the worker lie */
        const char *python;                                  /* the venv's interpreter */
        char *const *env;                                    /* its environment, NULL-terminated */
        const struct strlist *box;                           /* options of the launcher for its sandbox */
        bool scratch;                                        /* it gets a temporary folder of its own */
        uint64_t files;                                      /* that it may have open; 0: no limit */
        struct cgroup_limits limits;                         /* by its control group; without one, by rlimits */
};

struct process_handler {
        /* One that is forked is where it shall be, and waits for its first message. */
        void (*on_started)(void *data);
        /* Called once, from the loop, when the process has ended; `how` says how, in words. May free the process. */
        void (*on_exit)(void *data, const char *how);
};

/* Starts it with `socket`, which stays the caller's, as its connection to the daemon. Return: 0 or a negative errno. */
int process_start(struct process **ret, struct event_base *base, const struct process_spec *spec, int socket,
                  const struct process_handler *handler, void *data);

struct zygote {
        int connection;
        const struct process *process;
};

/* The same, but has it forked by a zygote. Return: 0, -EAGAIN when that does not listen, or another negative errno. */
int process_fork(struct process **ret, struct event_base *base, const struct process_spec *spec, const struct zygote *zygote,
                 int socket, const struct process_handler *handler, void *data);

/* The worker is process `pid`, as it says itself first of all. What it says later does not count. */
void process_started(struct process *process, pid_t pid);

/* Return: the worker's id; until that is known, its guard's, 0 for one that is forked. */
pid_t process_pid(const struct process *process);

/* Has the interpreter write down where each of its threads is. It does so within a few milliseconds, whatever the plugin is busy with. */
void process_ask_stacks(struct process *process);

/* Appends a map for an error's `details`: `stacks` (str), as asked for or left by a crash, and `output` (array of str), the last lines
 * printed; each only if there is any. */
void process_put_details(struct process *process, struct buf *buf);

/* Logs the stacks of these details. NULL has none. */
void process_log_stacks(const struct process *process, struct mp details);

/* Return: its resident memory; 0: not known. */
uint64_t process_memory_bytes(const struct process *process);

/* Return: its temporary folder; NULL: none of its own. */
const char *process_scratch(const struct process *process);

bool process_is_forked(const struct process *process);

/* Of one that was forked and has ended. Return: whether it never was, and somebody said why. */
bool process_was_refused(const struct process *process);

/* Likewise. Return: whether it was refused for a reason that passes, as want of memory does. */
bool process_was_put_off(const struct process *process);

/* Likewise. Return: whether something may be left of it, for its guard cannot have ended that. */
bool process_has_strayed(const struct process *process);

/* Ends it and all that it has started. The second time its guard is killed at once, and the rest is looked for (base/child.h). Return: false for
 * one that was forked and should have ended long ago: its zygote is to be killed. */
bool process_kill(struct process *process);

/* wire/carry.h. The process runs on, and nothing that it writes is lost. */
void process_save(const struct process *process, struct carry *carry);
int process_adopt(struct process **ret, struct event_base *base, const struct process_spec *spec, struct mp saved,
                  const struct process_handler *handler, void *data);

/* Kills and reaps it; on_exit is not called any more. NULL does nothing. Return: NULL. */
struct process *process_free(struct process *process);
