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

/* Called once, from the loop, when the process has ended; `how` says how, in words. May free the process. */
typedef void (*process_callback)(void *data, const char *how);

/* Starts it with `socket`, which stays the caller's, as its connection to the daemon. Return: 0 or a negative errno. */
int process_start(struct process **ret, struct event_base *base, const struct process_spec *spec, int socket,
                  process_callback on_exit, void *data);

/* The worker is process `pid`, as it says itself first of all. What it says later does not count. */
void process_started(struct process *process, pid_t pid);

/* Return: the worker's id; until that is known, its guard's. */
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

/* Ends it and all that it has started. The second time its guard is killed at once, and the rest is looked for (base/child.h). */
void process_kill(struct process *process);

/* wire/carry.h. The process runs on, and nothing that it writes is lost. */
void process_save(const struct process *process, struct carry *carry);
int process_adopt(struct process **ret, struct event_base *base, const struct process_spec *spec, struct mp saved,
                  process_callback on_exit, void *data);

/* Kills and reaps it; on_exit is not called any more. NULL does nothing. Return: NULL. */
struct process *process_free(struct process *process);
