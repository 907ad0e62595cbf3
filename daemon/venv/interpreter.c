/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The interpreter is asked, never guessed at: it may be a shim that runs another, a link, or a venv of its own. The question runs
 * without the site module, which makes it twice as fast and independent of what is installed there; pip, which is found only with
 * it, is a second question. Both are worded so that Python 2 could answer.
 */

#include "venv/interpreter.h"

#include <stdio.h>
#include <sys/wait.h>

#include "venv/run.h"
#include "venv/say.h"

#define MINOR_MIN 11
#define QUERY_USEC (30 * USEC_PER_SEC)

static const char identity_script[] =
        "import os, sys\n"
        "i = getattr(sys, 'implementation', None)\n"
        "print('version=%d.%d.%d' % sys.version_info[:3])\n"
        "print('path=' + os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable))\n"
        "print('build=%s %s%s %x %s' % (getattr(i, 'name', ''), getattr(i, 'cache_tag', ''), getattr(sys, 'abiflags', ''),\n"
        "    sys.hexversion, getattr(i, '_multiarch', '')))\n";

static const char pip_script[] = "from importlib.util import find_spec\n"
                                 "print('ensurepip=%d' % bool(find_spec('ensurepip')))\n"
                                 "if find_spec('pip'):\n"
                                 "    import os, pip\n"
                                 "    print('pip=' + pip.__version__)\n"
                                 "    print('runner=' + os.path.join(os.path.dirname(pip.__file__), '__pip-runner__.py'))\n";

struct answer {
        struct interpreter *interpreter;
        char first[256], last[256]; /* what else it said, which in case of failure is the reason */
};

void interpreter_done(struct interpreter *interpreter) {
        free(interpreter->path);
        free(interpreter->version);
        free(interpreter->build);
        free(interpreter->pip);
        free(interpreter->runner);
        *interpreter = (struct interpreter){0};
}

static void on_line(void *data, const char *line) {
        struct answer *answer = data;
        struct {
                const char *key;
                char **value;
        } keys[] = {
                {"version=", &answer->interpreter->version}, {"path=", &answer->interpreter->path},
                {"build=", &answer->interpreter->build},     {"pip=", &answer->interpreter->pip},
                {"runner=", &answer->interpreter->runner},
        };

        for (size_t i = 0; i < ELEMENTS(keys); i++)
                if (strncmp(line, keys[i].key, strlen(keys[i].key)) == 0) {
                        free(*keys[i].value);
                        *keys[i].value = strdup(line + strlen(keys[i].key));
                        return;
                }
        if (strncmp(line, "ensurepip=", 10) == 0)
                answer->interpreter->ensurepip = line[10] == '1';
        else
                (void)snprintf(answer->first[0] ? answer->last : answer->first, sizeof(answer->last), "%s", line);
}

static int ask(struct interpreter *interpreter, const char *const *argv, char **ret_error) {
        struct answer answer = {.interpreter = interpreter};
        const struct run run = {.argv = argv, .timeout_usec = QUERY_USEC, .on_line = on_line, .data = &answer};
        CLEANUP_FREE char *reason = NULL;
        int status, r;

        r = run_command(&run, &status, &reason);
        if (r < 0)
                return fail(ret_error, "isolation.python: %s does not answer: %s", argv[0], reason ? reason : "out of memory");
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return fail(ret_error, "isolation.python: %s does not work as a Python interpreter: %s%s%s", argv[0],
                            answer.first[0] ? answer.first : "it said nothing and failed", answer.last[0] ? "; " : "",
                            answer.last);
        return 0;
}

static bool is_new_enough(const char *version) {
        int major, minor;

        return sscanf(version, "%d.%d", &major, &minor) == 2 && (major > 3 || (major == 3 && minor >= MINOR_MIN));
}

int interpreter_query(struct interpreter *ret, const char *python, char **ret_error) {
        CLEANUP_INTERPRETER struct interpreter interpreter = {0};
        CLEANUP_FREE char *path = run_find(python);
        int r;

        if (!path && strchr(python, '/'))
                return fail(ret_error, "isolation.python: %s is not there or no program; correct the path or install it", python);
        if (!path)
                return fail(ret_error, "isolation.python: there is no \"%s\" in PATH; install it or give the path of another",
                            python);
        r = ask(&interpreter, (const char *[]){path, "-I", "-S", "-c", identity_script, NULL}, ret_error);
        if (r < 0)
                return r;
        if (!interpreter.version || !interpreter.path || interpreter.path[0] != '/' || !interpreter.build)
                return fail(ret_error, "isolation.python: %s does not answer as a Python interpreter would", path);
        if (!is_new_enough(interpreter.version))
                return fail(ret_error, "isolation.python: %s is Python %s; plugins need 3.%d or newer", path, interpreter.version,
                            MINOR_MIN);
        *ret = interpreter;
        interpreter = (struct interpreter){0};
        return 0;
}

int interpreter_query_pip(struct interpreter *interpreter, char **ret_error) {
        return ask(interpreter, (const char *[]){interpreter->path, "-I", "-c", pip_script, NULL}, ret_error);
}
