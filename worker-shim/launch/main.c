/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexd-launch: makes of a forked child what a worker shall be, which then becomes the Python of the plugin's venv, and guards it (guard.c).
 *
 * It stands between the daemon and Python so that the daemon can start workers with posix_spawn, from a large address space,
 * and so that none of this runs in a forked copy of the daemon. It gets the socket as descriptor 3 and the plugin's output as 1
 * and 2. Every step that fails says so on descriptor 2 and ends with a status of its own (see launch.h); nothing is tolerated
 * silently but the OOM score, which is advice.
 *
 * With a program behind its options it does so for that one: an installer of venvs (daemon/venv/box.c), which gets the box and a guard, and nothing
 * else of what makes a worker.
 *
 * The environment is what the daemon chose for this worker, without what would make Python look elsewhere for code, and without what
 * the service manager addressed to the daemon (clean.c).
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/oom.h"
#include "launch.h"

void launch_fail(int status, const char *format, ...) {
        va_list args;

        (void)fputs("cpexd-launch: ", stderr);
        va_start(args, format);
        (void)vfprintf(stderr, format, args);
        va_end(args);
        (void)fputc('\n', stderr);
        exit(status);
}

void launch_lacks(const struct launch *launch, const char *what) {
        if (launch->require)
                launch_fail(LAUNCH_EXIT_SETUP, "this system cannot %s, and sandbox.require is set", what);
        (void)fprintf(stderr, "cpexd-launch: this system cannot %s: the sandbox does without\n", what);
}

static unsigned long long parse_number(const char *option, const char *text) {
        unsigned long long n;
        char *end;

        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || *text == '-')
                launch_fail(LAUNCH_EXIT_USAGE, "%s takes a number, not \"%s\"", option, text);
        return n;
}

static void append(struct texts *texts, const char *text) {
        const char **items = reallocarray(texts->items, texts->n + 1, sizeof(*items));

        if (!items)
                launch_fail(LAUNCH_EXIT_SETUP, "out of memory");
        texts->items = items;
        texts->items[texts->n++] = text;
}

static enum profile parse_profile(const char *text) {
        if (strcmp(text, "off") != 0 && strcmp(text, "default") != 0 && strcmp(text, "strict") != 0)
                launch_fail(LAUNCH_EXIT_USAGE, "--profile takes off, default or strict, not \"%s\"", text);
        return *text == 'o' ? PROFILE_OFF : *text == 'd' ? PROFILE_DEFAULT : PROFILE_STRICT;
}

static void parse_network(struct launch *launch, const char *text) {
        if (strcmp(text, "all") == 0)
                launch->network_all = true;
        else if (strcmp(text, "unix") == 0)
                launch->unix_all = true;
        else if (parse_number("--network", text) <= UINT16_MAX)
                append(&launch->ports, text);
        else
                launch_fail(LAUNCH_EXIT_USAGE, "%s is no port", text);
}

static void parse_options(int argc, char *argv[], struct launch *launch) {
        static const struct option options[] = {
                {"python", required_argument, NULL, 'p'},
                {"shim", required_argument, NULL, 's'},
                {"ext", required_argument, NULL, 'e'},
                {"sdk", required_argument, NULL, 'k'},
                {"name", required_argument, NULL, 'n'},
                {"cgroup", required_argument, NULL, 'c'},
                {"parent", required_argument, NULL, 'P'},
                {"rlimit-as", required_argument, NULL, 'a'},
                {"rlimit-nofile", required_argument, NULL, 'f'},
                {"rlimit-nproc", required_argument, NULL, 't'},
                {"rlimit-fsize", required_argument, NULL, 'F'},
                {"profile", required_argument, NULL, 'x'},
                {"require", no_argument, NULL, 'R'},
                {"tmp", required_argument, NULL, 'T'},
                {"read", required_argument, NULL, 'r'},
                {"write", required_argument, NULL, 'w'},
                {"network", required_argument, NULL, 'N'},
                {"lack", required_argument, NULL, 'L'},
                {"remove-content", required_argument, NULL, 'D'},
                {"enter-cgroup", required_argument, NULL, 'E'},
                {NULL, 0, NULL, 0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "+", options, NULL)) >= 0)
                switch (option) {
                case 'p':
                        launch->python = optarg;
                        break;
                case 's':
                        launch->shim = optarg;
                        break;
                case 'e':
                        launch->ext = optarg;
                        break;
                case 'k':
                        launch->sdk = optarg;
                        break;
                case 'n':
                        launch->name = optarg;
                        break;
                case 'c':
                        launch->cgroup = optarg;
                        break;
                case 'P':
                        launch->parent = (pid_t)parse_number("--parent", optarg);
                        break;
                case 'a':
                        launch->as_bytes = parse_number("--rlimit-as", optarg);
                        break;
                case 'f':
                        launch->nofile = parse_number("--rlimit-nofile", optarg);
                        break;
                case 't':
                        launch->tasks = parse_number("--rlimit-nproc", optarg);
                        break;
                case 'F':
                        launch->file_bytes = parse_number("--rlimit-fsize", optarg);
                        break;
                case 'x':
                        launch->profile = parse_profile(optarg);
                        break;
                case 'R':
                        launch->require = true;
                        break;
                case 'T':
                        launch->tmp = optarg;
                        break;
                case 'r':
                        append(&launch->read, optarg);
                        break;
                case 'w':
                        append(&launch->write, optarg);
                        break;
                case 'N':
                        parse_network(launch, optarg);
                        break;
                case 'L':
                        append(&launch->lacks, optarg);
                        break;
                case 'D':
                        _exit(remove_content(optarg)); /* no handlers: they would find no files */
                case 'E':
                        if (argc - optind != 2)
                                launch_fail(LAUNCH_EXIT_USAGE,
                                            "--enter-cgroup takes a process, its group, and the group to enter");
                        exit(enter_cgroup(optarg, argv[optind], argv[optind + 1]));
                default:
                        exit(LAUNCH_EXIT_USAGE); /* getopt has said what is wrong */
                }
        launch->program = optind < argc ? argv + optind : NULL;
        if (launch->program && (launch->shim || launch->ext || launch->sdk))
                launch_fail(LAUNCH_EXIT_USAGE, "\"%s\" is one argument too many", argv[optind]);
        if (!launch->python || (!launch->program && (!launch->shim || !launch->ext || !launch->sdk)))
                launch_fail(LAUNCH_EXIT_USAGE, "--python, --shim, --ext and --sdk are required");
}

static void check_socket(void) {
        struct stat st;

        if (fstat(LAUNCH_FD_SOCKET, &st) < 0 || !S_ISSOCK(st.st_mode))
                launch_fail(LAUNCH_EXIT_SETUP, "descriptor %d is not a socket; this program is started by cpexd",
                            LAUNCH_FD_SOCKET);
}

void follow_parent(pid_t parent, int with) {
        if (prctl(PR_SET_PDEATHSIG, with) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot ask to be told of the daemon's end: %m");
        if (parent > 0 && getppid() != parent)
                launch_fail(LAUNCH_EXIT_SETUP, "the daemon, process %d, is gone", (int)parent);
}

static void leave_session(void) {
        if (setsid() < 0 && getsid(0) != getpid())
                launch_fail(LAUNCH_EXIT_SETUP, "cannot start a new session: %m");
}

static void reset_signals(void) {
        sigset_t none;

        for (int i = 1; i < NSIG; i++) /* refused for SIGKILL, SIGSTOP and libc's own: fine */
                (void)signal(i, SIG_DFL);
        (void)signal(SIGINT, SIG_IGN); /* Ctrl-C is the daemon's affair; Python leaves an ignored SIGINT alone */
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

void close_from(int first) {
        struct dirent *entry;
        DIR *dir;
        int fd;

        if (syscall(SYS_close_range, first, ~0u, 0) == 0)
                return;
        dir = opendir("/proc/self/fd"); /* a kernel before 5.9, or a filter that knows no close_range */
        if (!dir)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot list the open descriptors to close them: %m");
        while ((entry = readdir(dir))) {
                fd = atoi(entry->d_name);
                if (fd >= first && fd != dirfd(dir))
                        (void)close(fd);
        }
        (void)closedir(dir);
}

static void set_limit(int resource, const char *name, unsigned long long value) {
        struct rlimit limit = {.rlim_cur = value, .rlim_max = value};

        if (setrlimit(resource, &limit) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot limit %s to %llu: %m", name, value);
}

static void set_limits(const struct launch *launch) {
        set_limit(RLIMIT_CORE, "core files", 0);
        if (launch->nofile > 0)
                set_limit(RLIMIT_NOFILE, "open files", launch->nofile);
        if (launch->tasks > 0)
                set_limit(RLIMIT_NPROC, "processes and threads", launch->tasks);
        if (launch->as_bytes > 0)
                set_limit(RLIMIT_AS, "address space", launch->as_bytes);
        if (launch->file_bytes > 0)
                set_limit(RLIMIT_FSIZE, "the size of a file", launch->file_bytes);
}

/* -s: no packages of the user, -P: no folder of the script first on sys.path. argv[0] is how Python finds its venv. */
static void run_python(const struct launch *launch) {
        char *runner = NULL;

        if (asprintf(&runner, "%s/cpexd_worker/__main__.py", launch->shim) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "out of memory");
        if (access(runner, R_OK) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot read %s: %m; is cpexd installed completely?", runner);
        (void)execl(launch->python, launch->python, "-s", "-P", runner, launch->name, launch->ext, launch->sdk, (char *)NULL);
        launch_fail(errno == ENOENT ? LAUNCH_EXIT_NO_PYTHON : LAUNCH_EXIT_EXEC, "cannot run %s: %m", launch->python);
}

static void run_program(const struct launch *launch) {
        follow_parent(launch->parent, SIGKILL);
        close_from(STDERR_FILENO + 1);
        guard_enter(launch);
        close_from(notify_keep_in_worker(STDERR_FILENO + 1));
        oom_expose(OOM_SCORE_WORKER);
        sandbox_enter(launch);
        set_limits(launch);
        (void)execv(launch->program[0], launch->program);
        launch_fail(errno == ENOENT ? LAUNCH_EXIT_NO_PYTHON : LAUNCH_EXIT_EXEC, "cannot run %s: %m", launch->program[0]);
}

int main(int argc, char *argv[]) {
        struct launch launch = {.name = "plugin"};

        parse_options(argc, argv, &launch);
        if (launch.program)
                run_program(&launch);
        follow_parent(launch.parent, SIGTERM);
        check_socket();
        leave_session();
        guard_enter(&launch);
        for (size_t i = 0; i < launch.lacks.n; i++)
                launch_lacks(&launch, launch.lacks.items[i]);
        leave_session();
        reset_signals();
        (void)umask(077);
        close_from(notify_keep_in_worker(LAUNCH_FD_STACKS + 1));
        oom_expose(OOM_SCORE_WORKER);
        clean_environment();
        sandbox_enter(&launch);
        set_limits(&launch); /* last: what comes before shall not fail for want of what a plugin is denied */
        run_python(&launch);
}
