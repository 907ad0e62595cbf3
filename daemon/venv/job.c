/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The program prints its result in lines of "key=value" and ends; the result counts only together with its exit status, so
 * everything is decided when it has ended. Its log is a second pipe.
 *
 * It leads a process group that child_free() kills, and it stops by itself, with all that it runs, when the daemon dies (--parent).
 */

#include "venv/job.h"

#include <stdio.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/lines.h"
#include "base/log.h"

struct venv_job {
        struct child *child;
        struct lines *output, *log;
        char *plugin;
        char *cgroup; /* of what it runs; NULL: none */
        struct cgroup_limits limits;
        char *python, *fingerprint, *code, *error; /* as printed */
        bool built, verifies;
        struct strlist differences;
        venv_callback callback;
        void *data;
};

static void on_log(void *data, const char *line) {
        const struct venv_job *job = data;

        log_write(LOG_LEVEL_INFO, &(struct log_scope){.plugin = job->plugin}, "venv: %s", line);
}

static void on_output(void *data, const char *line) {
        struct venv_job *job = data;
        const char *equals = strchr(line, '=');
        size_t len = equals ? (size_t)(equals - line) : 0;
        char **value = NULL;

        if (len == 6 && memcmp(line, "python", len) == 0)
                value = &job->python;
        else if (len == 11 && memcmp(line, "fingerprint", len) == 0)
                value = &job->fingerprint;
        else if (len == 4 && memcmp(line, "code", len) == 0)
                value = &job->code;
        else if (len == 5 && memcmp(line, "error", len) == 0)
                value = &job->error;
        else if (len == 10 && memcmp(line, "difference", len) == 0 && job->differences.n < VENV_DIFFERENCES_MAX)
                (void)strlist_append(&job->differences, equals + 1);
        else if (len == 5 && memcmp(line, "built", len) == 0)
                job->built = str_eq(equals + 1, "1");
        if (value) {
                free(*value);
                *value = strdup(equals + 1);
        }
}

static bool is_success(const struct venv_job *job, int status) {
        if (job->verifies)
                return WIFEXITED(status) && !job->error && WEXITSTATUS(status) == (job->differences.n > 0);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 && !job->error && job->python && job->python[0] == '/' &&
               job->fingerprint && strlen(job->fingerprint) == 64 && strspn(job->fingerprint, "0123456789abcdef") == 64;
}

static void on_exit_status(void *data, int status) {
        struct venv_job *job = data;
        struct venv_result result = {0};
        char reason[128];

        lines_drain(job->log);
        lines_drain(job->output);
        if (cgroup_ran_out_of_memory(job->cgroup)) {
                (void)snprintf(reason, sizeof(reason), "what was run to build the venv used more than venv.memory, %llu MiB",
                               (unsigned long long)(job->limits.memory_bytes >> 20));
                result.error = reason;
        } else if (is_success(job, status)) {
                result.python = job->python;
                result.fingerprint = job->fingerprint;
                result.code = job->code;
                result.built = job->built;
                result.differences = &job->differences;
        } else if (job->error) {
                result.error = job->error;
        } else {
                if (WIFSIGNALED(status))
                        (void)snprintf(reason, sizeof(reason), "cpexd-venv was killed by signal %d (%s)", WTERMSIG(status),
                                       strsignal(WTERMSIG(status)));
                else
                        (void)snprintf(reason, sizeof(reason), "cpexd-venv ended with status %d and no result",
                                       WEXITSTATUS(status));
                result.error = reason;
        }
        job->callback(job->data, &result); /* may free the job */
}

static int spawn(struct venv_job *job, struct event_base *base, const struct venv_spec *spec, int output_fd, int log_fd) {
        char parent[16];
        const char *verify[] = {spec->builder,   "verify",     "--cache",  spec->cache_dir,
                                "--fingerprint", spec->verify, "--parent", parent};
        const char *fixed[] = {spec->builder, "build", "--parent", parent, "--cache", spec->cache_dir, "--python", spec->python};
        const size_t n_options = spec->options ? spec->options->n : 0;
        CLEANUP_FREE const char **argv = calloc(ELEMENTS(fixed) + n_options + 7, sizeof(*argv));
        const struct child_spec child = {.argv = argv, .output = output_fd, .error = log_fd, .group = true};
        size_t n = ELEMENTS(fixed);

        if (!argv)
                return -ENOMEM;
        _Static_assert(sizeof(verify) == sizeof(fixed), "they share the place");
        memcpy(argv, spec->verify ? verify : fixed, sizeof(fixed));
        for (size_t i = 0; i < n_options; i++)
                argv[n++] = spec->options->items[i];

        if (spec->requirements) {
                argv[n++] = "--requirements";
                argv[n++] = spec->requirements;
        }
        if (spec->code) {
                argv[n++] = "--code";
                argv[n++] = spec->code;
        }
        if (job->cgroup) {
                argv[n++] = "--cgroup";
                argv[n++] = job->cgroup;
        }
        (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
        return child_spawn(&job->child, base, &child, on_exit_status, job);
}

int venv_job_start(struct venv_job **ret, struct event_base *base, const struct venv_spec *spec, venv_callback callback,
                   void *data) {
        CLEANUP_FD int output_read = -1, output_write = -1, log_read = -1, log_write_fd = -1;
        struct venv_job *job = calloc(1, sizeof(*job));
        int r;

        if (!job)
                return -ENOMEM;
        job->callback = callback;
        job->data = data;
        job->verifies = spec->verify != NULL;
        job->plugin = spec->plugin ? strdup(spec->plugin) : NULL;
        job->limits = spec->limits;
        r = spec->verify ? 0 : cgroup_new(&job->cgroup, spec->plugin, &spec->limits);
        r = r ? r : child_pipe(&output_read, &output_write);
        r = r ? r : child_pipe(&log_read, &log_write_fd);
        r = r ? r : lines_new(&job->output, base, TAKE_FD(output_read), on_output, job);
        r = r ? r : lines_new(&job->log, base, TAKE_FD(log_read), on_log, job);
        r = r ? r : spawn(job, base, spec, output_write, log_write_fd);
        if (r < 0) {
                (void)venv_job_free(job);
                return r;
        }
        *ret = job;
        return 0;
}

struct venv_job *venv_job_free(struct venv_job *job) {
        if (!job)
                return NULL;
        job->child = child_free(job->child);
        job->cgroup = cgroup_free(job->cgroup);
        job->output = lines_free(job->output);
        job->log = lines_free(job->log);
        free(job->plugin);
        free(job->python);
        free(job->fingerprint);
        free(job->code);
        free(job->error);
        strlist_done(&job->differences);
        free(job);
        return NULL;
}
