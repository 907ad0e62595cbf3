/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The sandbox of Jinja2 keeps a template from reaching the system, and from nothing else: it may compute for ever or ask for a terabyte.
 * So rendering is bounded twice. The script bounds itself, and then knows the line; we kill it when it is late all the same, or says more than a
 * file may hold. Its complaints never tell a value (render.py); what Python itself prints goes nowhere, for that might.
 *
 * The template is handed over in memory, and not by its path, so that what is rendered is what was looked at here.
 */

#include "config/render.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "config/tree.h"

#define RENDER_MEMORY_BYTES (256u << 20)
#define CHUNK_BYTES (64u << 10)
#define INSTALL "install python3-jinja2, or let template_python of cpexd.yaml name a Python that has it"

enum { STATUS_DONE = 0, STATUS_NO_JINJA = 3, STATUS_REFUSED = 4 }; /* of the script */
enum { STATUS_NOT_RUN = 127 };                                     /* where posix_spawn() cannot say so by itself */

struct render {
        struct child *child; /* NULL: it could not be started */
        int fd;              /* its output */
        struct event *readable, *timer;
        bool late;
        struct buf output;
        char *python, *script;
        render_callback callback;
        void *data;
};

/* ---- What came of it ---- */

static void finish(struct render *render, const struct render_result *result) {
        (void)event_del(render->readable);
        (void)event_del(render->timer);
        render->callback(render->data, result);
}

static void fail(struct render *render, unsigned line, const char *format, ...) PRINTF_LIKE(3, 4);
static void fail(struct render *render, unsigned line, const char *format, ...) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;
        va_list args;

        va_start(args, format);
        buf_vprintf(&buf, format, args);
        va_end(args);
        text = buf_take_str(&buf);
        finish(render, &(struct render_result){.error = text ? text : "out of memory", .line = line});
}

/* "12\nwhat is wrong\n" */
static void fail_as_told(struct render *render) {
        CLEANUP_FREE char *text = buf_take_str(&render->output);
        char *sentence = text ? strchr(text, '\n') : NULL;

        if (!sentence) {
                fail(render, 0, "rendering failed without a reason");
                return;
        }
        sentence[strcspn(sentence + 1, "\n") + 1] = '\0';
        fail(render, (unsigned)strtoul(text, NULL, 10), "%s", sentence + 1);
}

static void fail_to_run(struct render *render) {
        fail(render, 0, "this needs Jinja2, and %s cannot be run; " INSTALL, render->python);
}

static void on_ended(struct render *render, int status) {
        bool killed = WIFSIGNALED(status);

        if (buf_error(&render->output) == -EMSGSIZE)
                fail(render, 0, "the rendered file is longer than 1 MiB");
        else if (buf_error(&render->output))
                fail(render, 0, "out of memory");
        else if (render->late || (killed && WTERMSIG(status) == SIGXCPU))
                fail(render, 0, "rendering takes too long");
        else if (killed)
                fail(render, 0, "rendering was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else if (WEXITSTATUS(status) == STATUS_NOT_RUN)
                fail_to_run(render);
        else if (WEXITSTATUS(status) == STATUS_NO_JINJA)
                fail(render, 0, "this needs Jinja2, which %s does not have; " INSTALL, render->python);
        else if (WEXITSTATUS(status) == STATUS_REFUSED)
                fail_as_told(render);
        else if (WEXITSTATUS(status) != STATUS_DONE)
                fail(render, 0, "rendering failed with status %d; see what \"%s -I %s FILE\" says", WEXITSTATUS(status),
                     render->python, render->script);
        else
                finish(render, &(struct render_result){
                                       .text = render->output.data ? (const char *)render->output.data : "",
                                       .len = render->output.len,
                               });
}

/* ---- While it runs ---- */

/* Return: whether there may be more at once. */
static bool read_chunk(struct render *render) {
        uint8_t *end = buf_reserve(&render->output, CHUNK_BYTES);
        ssize_t n = end ? read(render->fd, end, CHUNK_BYTES) : 0;

        if (n > 0)
                render->output.len += (size_t)n;
        else if (n == 0)
                (void)event_del(render->readable);
        if (!end)
                child_kill_group(render->child);
        return n > 0 || (n < 0 && errno == EINTR);
}

static void on_readable(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        (void)read_chunk(data);
}

static void on_exit_status(void *data, int status) {
        struct render *render = data;

        while (read_chunk(render))
                ;
        on_ended(render, status);
}

static void on_timer(evutil_socket_t fd, short what, void *data) {
        struct render *render = data;

        (void)fd;
        (void)what;
        if (!render->child) {
                fail_to_run(render);
                return;
        }
        render->late = true;
        child_kill_group(render->child);
}

/* ---- Its start ---- */

/* Return: a descriptor of a file in memory with the text, or a negative errno. */
static int make_file(const char *text, size_t len) {
        CLEANUP_FD int fd = memfd_create("template", MFD_CLOEXEC);

        if (fd < 0)
                return -errno;
        while (len > 0) {
                ssize_t n = write(fd, text, len);

                if (n < 0)
                        return -errno;
                text += n;
                len -= (size_t)n;
        }
        return TAKE_FD(fd);
}

static int spawn(struct render *render, struct event_base *base, unsigned limit, int template_fd, int output_fd) {
        CLEANUP_FD int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        char seconds[16], bytes[16], memory[16];
        const char *const argv[] = {render->python,    "-I",    "-B",  "-X",   "utf8", render->script,
                                    "/proc/self/fd/3", seconds, bytes, memory, NULL};
        const struct child_spec spec = {
                .argv = argv, .output = output_fd, .error = null, .extra = {template_fd}, .n_extra = 1, .group = true};

        if (null < 0)
                return -errno;
        (void)snprintf(seconds, sizeof(seconds), "%u", limit);
        (void)snprintf(bytes, sizeof(bytes), "%u", TREE_BYTES_MAX);
        (void)snprintf(memory, sizeof(memory), "%u", RENDER_MEMORY_BYTES);
        return child_spawn(&render->child, base, &spec, on_exit_status, render);
}

static int start(struct render *render, struct event_base *base, const struct render_job *job) {
        const struct timeval limit = {.tv_sec = (time_t)job->seconds + 1};
        CLEANUP_FD int template_fd = make_file(job->text, job->len), output_fd = -1;
        int r;

        if (template_fd < 0)
                return template_fd;
        render->python = strdup(job->python);
        render->script = strdup(job->script);
        if (!render->python || !render->script)
                return -ENOMEM;
        r = child_pipe(&render->fd, &output_fd);
        if (r < 0)
                return r;
        render->readable = event_new(base, render->fd, EV_READ | EV_PERSIST, on_readable, render);
        render->timer = evtimer_new(base, on_timer, render);
        if (!render->readable || !render->timer || event_add(render->timer, &limit) < 0)
                return -ENOMEM;
        r = spawn(render, base, job->seconds, template_fd, output_fd);
        if (r == 0)
                return event_add(render->readable, NULL) < 0 ? -ENOMEM : 0;
        if (r != -ENOENT && r != -ENOTDIR && r != -EACCES && r != -ENOEXEC)
                return r;
        event_active(render->timer, EV_TIMEOUT, 0);
        return 0;
}

int render_start(struct render **ret, struct event_base *base, const struct render_job *job, render_callback callback,
                 void *data) {
        struct render *render = calloc(1, sizeof(*render));
        int r;

        if (!render)
                return -ENOMEM;
        render->fd = -1;
        render->output.limit = TREE_BYTES_MAX + CHUNK_BYTES;
        render->callback = callback;
        render->data = data;
        r = start(render, base, job);
        if (r < 0) {
                (void)render_free(render);
                return r;
        }
        *ret = render;
        return 0;
}

struct render *render_free(struct render *render) {
        if (!render)
                return NULL;
        render->child = child_free(render->child);
        if (render->readable)
                event_free(render->readable);
        if (render->timer)
                event_free(render->timer);
        (void)fd_close(render->fd);
        buf_done(&render->output);
        free(render->python);
        free(render->script);
        free(render);
        return NULL;
}
