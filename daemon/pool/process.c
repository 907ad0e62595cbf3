/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Standard output and standard error of a worker are one pipe, so that its lines keep their order, and nothing it prints can reach
 * the connection. When the process ends its last words are read before anybody hears of the end.
 *
 * What is started is the guard (worker-shim/launch/guard.c), and the worker is its child. The worker says itself which process it is, before
 * there is a plugin that could say something else. Signals go to the guard: of its own child it knows at any time whether its number is still its.
 *
 * The stacks are written by a signal handler in the worker (Python's faulthandler) into a piece of memory that both share and that
 * cannot grow. So nothing has to be read in time, and a worker that writes there what it likes has written a bounded text.
 */

#include "pool/forked.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "pool/scratch.h"
#include "wire/mp.h"

#define MARK '\x1e'
#define OUTPUT_LINES 200 /* a second */
#define STACKS_BYTES ((off_t)64 << 10)
#define STACKS_TOLD ((size_t)8 << 10)
#define OPTIONS_MAX 24               /* beside those of the sandbox */
#define FORKED_KILLS 20              /* so often is one that was forked asked to end before its zygote is killed */
#define STACKS_SIGNAL (SIGRTMAX - 1) /* as worker-shim/launch/launch.h has it */

/* In a group a line may begin with the number of the plugin that has written it (cpexd_worker/_output.py). Return: the rest of it. */
static const char *take_mark(const struct process_spec *spec, const char *line, struct log_scope *scope) {
        char *end;
        unsigned long member;

        if (spec->n_members < 2 || line[0] != MARK || line[1] < '0' || line[1] > '9')
                return line;
        member = strtoul(line + 1, &end, 10);
        if (member >= spec->n_members || *end != ' ')
                return line;
        scope->plugin = spec->members[member];
        scope->group = false;
        return end + 1;
}

static void on_output(void *data, const char *line) {
        struct process *process = data;
        struct log_scope scope = {.plugin = process->spec->plugin, .group = process->spec->group, .worker = process_pid(process)};
        usec_t now = clock_now_usec();

        line = take_mark(process->spec, line, &scope);
        (void)snprintf(process->last[process->n_last++ % LAST_LINES], LAST_LINE_BYTES, "%s", line);
        if (now - process->output_since_usec >= USEC_PER_SEC) {
                unsigned more = process->output_lines > OUTPUT_LINES ? process->output_lines - OUTPUT_LINES : 0;

                if (more > 0)
                        log_write(LOG_LEVEL_WARNING, &scope, "%u more line%s of output %s not logged (at most %d a second are)",
                                  more, plural(more), more == 1 ? "was" : "were", OUTPUT_LINES);
                process->output_since_usec = now;
                process->output_lines = 0;
        }
        if (process->output_lines++ < OUTPUT_LINES)
                log_write(LOG_LEVEL_INFO, &scope, "%s", line);
}

void process_tell_end(struct process *process, const char *how) {
        lines_drain(process->output);
        process->handler->on_exit(process->data, how);
}

void process_on_child_exit(void *data, int status) {
        struct process *process = data;
        char how[128];

        if (cgroup_ran_out_of_memory(process->cgroup))
                (void)snprintf(how, sizeof(how), "it was killed because it used more than isolation.memory, %llu MiB",
                               (unsigned long long)process->spec->limits.memory_bytes >> 20);
        else if (WIFSIGNALED(status))
                (void)snprintf(how, sizeof(how), "it was killed by signal %d (%s)", WTERMSIG(status),
                               strsignal(WTERMSIG(status)));
        else
                (void)snprintf(how, sizeof(how), "it exited with status %d", WEXITSTATUS(status));
        process_tell_end(process, how);
}

/* argv of the launcher (worker-shim/README.md). */
static size_t put_options(const struct process *process, const char **argv) {
        const struct process_spec *spec = process->spec;
        const char *const always[] = {spec->launcher, "--python", spec->python,  "--shim", spec->shim_dir, "--ext",
                                      spec->ext_dir,  "--sdk",    spec->sdk_dir, "--name", spec->plugin};
        size_t n = ELEMENTS(always);

        memcpy(argv, always, sizeof(always));
        if (process->scratch) {
                argv[n++] = "--tmp";
                argv[n++] = process->scratch;
        }
        if (spec->limits.cpu_percent && !cgroups_control(CGROUP_CPU)) {
                argv[n++] = "--lack";
                argv[n++] = "limit processor time (isolation.cpu) without a control group";
        }
        if (process->cgroup) {
                argv[n++] = "--cgroup";
                argv[n++] = process->cgroup;
        }
        for (size_t i = 0; i < spec->box->n; i++)
                argv[n++] = spec->box->items[i];
        return n;
}

struct number {
        char text[24];
};

/* 0 is no limit. */
static size_t put_number(const char **argv, size_t n, const char *option, uint64_t value, struct number *number) {
        if (value == 0)
                return n;
        (void)snprintf(number->text, sizeof(number->text), "%llu", (unsigned long long)value);
        argv[n++] = option;
        argv[n++] = number->text;
        return n;
}

static int spawn(struct process *process, struct event_base *base, int socket, int output) {
        const struct process_spec *spec = process->spec;
        CLEANUP_FREE const char **argv = calloc(OPTIONS_MAX + spec->box->n, sizeof(*argv));
        struct number parent, memory, files, tasks;
        const struct child_spec child = {.argv = argv,
                                         .env = spec->env,
                                         .output = output,
                                         .error = output,
                                         .extra = {socket, process->stacks},
                                         .n_extra = 2};
        size_t n;
        int r;

        if (!argv)
                return -ENOMEM;
        n = put_options(process, argv);
        n = put_number(argv, n, "--parent", (uint64_t)getpid(), &parent);
        n = put_number(argv, n, "--rlimit-nofile", spec->files, &files);
        if (!cgroups_control(CGROUP_MEMORY))
                n = put_number(argv, n, "--rlimit-as", spec->limits.memory_bytes, &memory);
        if (!cgroups_control(CGROUP_TASKS))
                (void)put_number(argv, n, "--rlimit-nproc", spec->limits.tasks, &tasks);
        r = child_spawn(&process->child, base, &child, process_on_child_exit, process);
        if (r == 0)
                child_set_guard(process->child);
        return r;
}

/* At least 5, see child_spec. */
static int make_stacks(int *ret) {
        CLEANUP_FD int memory = memfd_create("stacks", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int fd;

        if (memory < 0 || ftruncate(memory, STACKS_BYTES) < 0 ||
            fcntl(memory, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        fd = fcntl(memory, F_DUPFD_CLOEXEC, 5);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

struct process *process_new(struct event_base *base, const struct process_spec *spec, const struct process_handler *handler,
                            void *data) {
        struct process *process = calloc(1, sizeof(*process));

        if (!process)
                return NULL;
        process->base = base;
        process->spec = spec;
        process->handler = handler;
        process->data = data;
        process->stacks = process->memory = process->control = -1;
        process->status = -1;
        return process;
}

int process_make_parts(struct process *process, const char *zygote_scratch, int *ret_output) {
        const struct process_spec *spec = process->spec;
        CLEANUP_FD int output_read = -1, output_write = -1;
        int r = make_stacks(&process->stacks);

        r = r ? r : cgroup_new(&process->cgroup, spec->plugin, &spec->limits);
        if (r == 0 && spec->scratch)
                r = scratch_new(&process->scratch, process->base, spec->launcher, zygote_scratch);
        r = r ? r : child_pipe(&output_read, &output_write);
        r = r ? r : lines_new(&process->output, process->base, TAKE_FD(output_read), on_output, process);
        if (r == 0)
                *ret_output = TAKE_FD(output_write);
        return r;
}

int process_start(struct process **ret, struct event_base *base, const struct process_spec *spec, int socket,
                  const struct process_handler *handler, void *data) {
        struct process *process = process_new(base, spec, handler, data);
        CLEANUP_FD int output = -1;
        int r;

        if (!process)
                return -ENOMEM;
        r = process_make_parts(process, NULL, &output);
        r = r ? r : spawn(process, base, socket, output);
        if (r < 0) {
                (void)process_free(process);
                return r;
        }
        *ret = process;
        return 0;
}

/* Its memory is opened now, for a worker soon hides from all but root (PR_SET_DUMPABLE), and where /proc shows nobody what is
 * hidden (ProtectProc= of a unit) not even its daemon finds it then. One that was started says its number itself: has it ended
 * by then, and the number is somebody else's, so has its connection, and all that is wrong is a figure until its guard has ended
 * too. */
void process_started(struct process *process, pid_t pid) {
        char path[32];

        if (process->pid > 0 || pid <= 0)
                return;
        process->pid = pid;
        (void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
        process->memory = open(path, O_RDONLY | O_CLOEXEC);
}

/* ---- An upgrade ---- */

static const struct carried members[] = {
        CARRIED(UINT, struct process, output_since_usec),
        CARRIED(UINT, struct process, output_lines),
        CARRIED(BYTES, struct process, last),
        CARRIED(UINT, struct process, n_last),
        CARRIED(FD, struct process, stacks),
        CARRIED(INT, struct process, pid),
        CARRIED(STR, struct process, cgroup),
        CARRIED(STR, struct process, scratch),
        CARRIED(INT, struct process, stacks_from),
        CARRIED(FD, struct process, memory),
        CARRIED(FD, struct process, control),
        CARRIED(STR, struct process, zygote_cgroup),
        CARRIED(UINT, struct process, n_kills),
        CARRIED(BYTES, struct process, refusal),
        CARRIED(BOOL, struct process, for_now),
        CARRIED(INT, struct process, status),
};

/* What its own objects hold. */
struct held {
        pid_t child;
        int output;
        char *rest; /* of the output */
};
static const struct carried held_members[] = {
        CARRIED(INT, struct held, child),
        CARRIED(FD, struct held, output),
        CARRIED(STR, struct held, rest),
};

void process_save(const struct process *process, struct carry *carry) {
        const struct held held = {
                .child = process->child ? child_pid(process->child) : 0,
                .output = lines_fd(process->output),
                .rest = (char *)lines_rest(process->output),
        };

        mp_put_map(&carry->out, ELEMENTS(members) + ELEMENTS(held_members));
        carry_put(carry, members, ELEMENTS(members), process);
        carry_put(carry, held_members, ELEMENTS(held_members), &held);
}

int process_adopt(struct process **ret, struct event_base *base, const struct process_spec *spec, struct mp saved,
                  const struct process_handler *handler, void *data) {
        struct process *process = process_new(base, spec, handler, data);
        struct held held = {.output = -1};
        CLEANUP_FREE char *rest = NULL;
        int r;

        if (!process)
                return -ENOMEM;
        r = carry_get(saved, members, ELEMENTS(members), process);
        r = r < 0 ? r : carry_get(saved, held_members, ELEMENTS(held_members), &held);
        rest = held.rest;
        r = r < 0 ? r : lines_new(&process->output, base, held.output, on_output, process);
        if (r == 0 && process->control >= 0)
                r = process_watch_control(process);
        else
                r = r < 0 ? r : child_watch(&process->child, base, held.child, process_on_child_exit, process);
        if (r < 0)
                return r;
        if (process->child)
                child_set_guard(process->child);
        cgroup_adopted(process->cgroup);
        if (process->zygote_cgroup && process->pid > 0) /* who was at it has gone */
                event_active(process->on_control, EV_TIMEOUT, 1);
        if (rest)
                lines_begin(process->output, rest);
        *ret = process;
        return 0;
}

/* ---- What may be asked of it ---- */

pid_t process_pid(const struct process *process) {
        if (!process || process->pid > 0 || !process->child)
                return process ? process->pid : 0;
        return child_pid(process->child);
}

const char *process_scratch(const struct process *process) {
        return process->scratch;
}

bool process_is_forked(const struct process *process) {
        return process->control >= 0;
}

bool process_was_refused(const struct process *process) {
        return process->refusal[0];
}

bool process_was_put_off(const struct process *process) {
        return process_was_refused(process) && process->for_now;
}

bool process_has_strayed(const struct process *process) {
        return process_is_forked(process) && process->status < 0 && !process_was_refused(process);
}

void process_ask_stacks(struct process *process) {
        off_t at = lseek(process->stacks, 0, SEEK_CUR);

        if (at < 0 || at > STACKS_BYTES / 2)
                at = lseek(process->stacks, 0, SEEK_SET);
        process->stacks_from = at;
        if (process->child)
                child_signal(process->child, STACKS_SIGNAL);
        else
                (void)send(process->control, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static size_t read_stacks(struct process *process, char text[STACKS_TOLD]) {
        off_t end = lseek(process->stacks, 0, SEEK_CUR);
        ssize_t n = 0;

        if (end > process->stacks_from)
                n = pread(process->stacks, text, MIN(STACKS_TOLD, (size_t)(end - process->stacks_from)), process->stacks_from);
        process->stacks_from = MAX(end, (off_t)0);
        return n > 0 ? (size_t)n : 0;
}

void process_put_details(struct process *process, struct buf *buf) {
        unsigned n_last = MIN(process->n_last, (unsigned)LAST_LINES);
        char text[STACKS_TOLD];
        size_t len = read_stacks(process, text);

        mp_put_map(buf, (len > 0) + (n_last > 0));
        if (len > 0) {
                mp_put_str(buf, "stacks");
                mp_put_text(buf, text, len);
        }
        if (n_last == 0)
                return;
        mp_put_str(buf, "output");
        mp_put_array(buf, n_last);
        for (unsigned i = process->n_last - n_last; i != process->n_last; i++)
                mp_put_text(buf, process->last[i % LAST_LINES], strlen(process->last[i % LAST_LINES]));
}

void process_log_stacks(const struct process *process, struct mp details) {
        struct log_scope scope = {.plugin = process ? process->spec->plugin : NULL,
                                  .group = process && process->spec->group,
                                  .worker = process_pid(process)};
        struct mp stacks = mp_map_text(details, "stacks");

        log_text(LOG_LEVEL_INFO, &scope, stacks.data, stacks.len);
}

uint64_t process_memory_bytes(const struct process *process) {
        unsigned long long pages = 0;
        char text[128];
        ssize_t n = pread(process->memory, text, sizeof(text) - 1, 0);

        text[MAX(n, (ssize_t)0)] = 0;
        return sscanf(text, "%*u %llu", &pages) == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

bool process_kill(struct process *process) {
        if (process->child)
                child_kill_group(process->child);
        else if (process->n_kills++ == 0)
                (void)shutdown(process->control, SHUT_WR);
        return process->n_kills < FORKED_KILLS;
}

struct process *process_free(struct process *process) {
        if (!process)
                return NULL;
        process->child = child_free(process->child);
        process->entering = child_free(process->entering);
        if (process->on_control)
                event_free(process->on_control);
        (void)fd_close(process->control);
        process->cgroup = cgroup_free(process->cgroup);
        process->output = lines_free(process->output);
        process->scratch = scratch_free(process->scratch, process->base, process->spec->launcher);
        free(process->zygote_cgroup);
        (void)fd_close(process->stacks);
        (void)fd_close(process->memory);
        free(process);
        return NULL;
}
