/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Standard output and standard error of a worker are one pipe, so that its lines keep their order, and nothing it prints can reach
 * the connection. When the process ends its last words are read before anybody hears of the end.
 */

#include "pool/process.h"

#include <stdio.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/lines.h"
#include "base/log.h"

#define OUTPUT_LINES 200 /* a second */

struct process {
        const struct process_spec *spec;
        process_callback on_exit;
        void *data;
        struct child *child;
        struct lines *output;
        usec_t output_since_usec; /* the second in which output_lines are counted */
        unsigned output_lines;
};

static void on_output(void *data, const char *line) {
        struct process *process = data;
        struct log_scope scope = {process->spec->plugin, process_pid(process)};
        usec_t now = clock_now_usec();

        if (now - process->output_since_usec >= USEC_PER_SEC) {
                if (process->output_lines > OUTPUT_LINES)
                        log_write(LOG_LEVEL_WARNING, &scope, "%u more lines of output were not logged (at most %d a second are)",
                                  process->output_lines - OUTPUT_LINES, OUTPUT_LINES);
                process->output_since_usec = now;
                process->output_lines = 0;
        }
        if (process->output_lines++ < OUTPUT_LINES)
                log_write(LOG_LEVEL_INFO, &scope, "%s", line);
}

static void on_child_exit(void *data, int status) {
        struct process *process = data;
        char how[128];

        if (WIFSIGNALED(status))
                (void)snprintf(how, sizeof(how), "it was killed by signal %d (%s)", WTERMSIG(status),
                               strsignal(WTERMSIG(status)));
        else
                (void)snprintf(how, sizeof(how), "it exited with status %d", WEXITSTATUS(status));
        lines_drain(process->output);
        process->on_exit(process->data, how);
}

/* argv of the launcher (worker-shim/README.md). */
static int spawn(struct process *process, struct event_base *base, int socket, int output) {
        const struct process_spec *spec = process->spec;
        char parent[16], memory[32], files[32];
        const char *argv[20] = {spec->launcher, "--python",    spec->python, "--shim",     spec->shim_dir, "--ext", spec->ext_dir,
                                "--sdk",        spec->sdk_dir, "--name",     spec->plugin, "--parent",     parent};
        const struct child_spec child = {.argv = argv, .output = output, .error = output, .extra = socket};
        size_t n = 13;

        (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
        if (spec->memory_bytes) {
                (void)snprintf(memory, sizeof(memory), "%llu", (unsigned long long)spec->memory_bytes);
                argv[n++] = "--rlimit-as";
                argv[n++] = memory;
        }
        if (spec->files) {
                (void)snprintf(files, sizeof(files), "%llu", (unsigned long long)spec->files);
                argv[n++] = "--rlimit-nofile";
                argv[n++] = files;
        }
        return child_spawn(&process->child, base, &child, on_child_exit, process);
}

int process_start(struct process **ret, struct event_base *base, const struct process_spec *spec, int socket,
                  process_callback on_exit, void *data) {
        CLEANUP_FD int output_read = -1, output_write = -1;
        struct process *process = calloc(1, sizeof(*process));
        int r;

        if (!process)
                return -ENOMEM;
        process->spec = spec;
        process->on_exit = on_exit;
        process->data = data;
        r = child_pipe(&output_read, &output_write);
        r = r ? r : lines_new(&process->output, base, TAKE_FD(output_read), on_output, process);
        r = r ? r : spawn(process, base, socket, output_write);
        if (r < 0) {
                (void)process_free(process);
                return r;
        }
        *ret = process;
        return 0;
}

pid_t process_pid(const struct process *process) {
        return process && process->child ? child_pid(process->child) : 0;
}

void process_kill(struct process *process) {
        child_kill_group(process->child);
}

struct process *process_free(struct process *process) {
        if (!process)
                return NULL;
        process->child = child_free(process->child);
        process->output = lines_free(process->output);
        free(process);
        return NULL;
}
