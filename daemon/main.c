/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexd: options, signals, and the parts put together.
 *
 * The order of a stop: no new connections, no new calls, the calls in flight get their answers (for at most drain_timeout), the plugins
 * shut down, the loop ends. A second SIGTERM or SIGINT skips the waiting.
 *
 * The signals are callbacks of the loop, not real signal handlers: they may do anything.
 */

#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/activation.h"
#include "base/child.h"
#include "base/loop.h"
#include "base/memory.h"
#include "base/notify.h"
#include "base/timer.h"
#include "config.h"
#include "config/paths.h"
#include "cpexd.h"
#include "parts.h"
#include "pool/cgroup.h"
#include "pool/scratch.h"

/* Documented in cpexd(8) and in --help. */
enum { STATUS_OK = 0, STATUS_CONFIG = 1, STATUS_USAGE = 2, STATUS_IN_USE = 3, STATUS_SYSTEM = 4, STATUS_PLUGIN = 5 };

#define STOP_EXTRA_USEC (5 * USEC_PER_SEC)  /* beyond drain_timeout: for the plugins' shutdown() */
#define STOP_MARGIN_USEC (5 * USEC_PER_SEC) /* and beyond that, for what is killed: only then the service manager does it */

struct options {
        struct service_args service;
        char *default_config; /* ours, where config_path points to it */
        bool check;
        int state;      /* to be taken over from this process's last program: a descriptor; -1: none */
        bool rehearsal; /* that is only tried */
};

static const char help[] =
        "Usage: cpexd [OPTION]...\n"
        "Run the plugins of a CPEX plugins.yaml in workers of their own and serve their hooks on a Unix socket.\n"
        "\n"
        "  -c, --config FILE    the daemon's settings (default: " CPEXD_SYSCONFDIR "/cpexd.yaml if it exists)\n"
        "      --plugins FILE   the plugins.yaml, over the setting `plugins`\n"
        "      --socket PATH    the host socket, over the setting `socket.path`\n"
        "      --control PATH   the control socket, over the setting `control.path`\n"
        "      --check          report the mistakes in both files and exit: 0 if there is none, else 1\n"
        "      --version        print the version and exit\n"
        "  -h, --help           print this and exit\n"
        "\n"
        "Signals: SIGHUP reloads both files, SIGUSR2 executes the program anew and goes on where it was (cpexctl upgrade),\n"
        "SIGTERM and SIGINT answer the calls in flight and stop (twice: at once).\n"
        "\n"
        "Exit status:\n"
        "  0  stopped as asked, or --check found no mistake\n"
        "  1  the configuration is refused, or --check found a mistake; they are on standard error\n"
        "  2  the command line is wrong\n"
        "  3  another cpexd serves the socket\n"
        "  4  the system refused something that is needed\n"
        "  5  a plugin cannot start, and fail_on_plugin_error is set\n";

/* ---- Command line ---- */

/* Return: whether to go on; if not, *ret_status is the exit status. */
static bool parse_options(int argc, char **argv, struct options *options, int *ret_status) {
        enum {
                OPTION_PLUGINS = 256,
                OPTION_SOCKET,
                OPTION_CONTROL,
                OPTION_CHECK,
                OPTION_VERSION,
                OPTION_TAKE_OVER,
                OPTION_REHEARSE
        };
        static const struct option longs[] = {
                {"config", required_argument, NULL, 'c'},
                {"plugins", required_argument, NULL, OPTION_PLUGINS},
                {"socket", required_argument, NULL, OPTION_SOCKET},
                {"control", required_argument, NULL, OPTION_CONTROL},
                {"check", no_argument, NULL, OPTION_CHECK},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, 'h'},
                {UPGRADE_TAKE_OVER, required_argument, NULL, OPTION_TAKE_OVER}, /* admin/upgrade.h; nobody else's */
                {UPGRADE_REHEARSE, required_argument, NULL, OPTION_REHEARSE},
                {0},
        };
        struct service_args *args = &options->service;
        int c;

        *ret_status = STATUS_OK;
        while ((c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1)
                switch (c) {
                case 'c':
                        args->config_path = optarg;
                        break;
                case OPTION_PLUGINS:
                        args->overrides.plugins = optarg;
                        break;
                case OPTION_SOCKET:
                        args->overrides.socket = optarg;
                        break;
                case OPTION_CONTROL:
                        args->overrides.control = optarg;
                        break;
                case OPTION_CHECK:
                        options->check = true;
                        break;
                case OPTION_VERSION:
                        puts("cpexd " CPEXD_VERSION);
                        return false;
                case OPTION_TAKE_OVER:
                case OPTION_REHEARSE:
                        options->state = atoi(optarg);
                        options->rehearsal = c == OPTION_REHEARSE;
                        break;
                case 'h':
                        (void)fputs(help, stdout);
                        return false;
                default:
                        (void)fputs("Try 'cpexd --help'.\n", stderr);
                        *ret_status = STATUS_USAGE;
                        return false;
                }
        if (optind < argc) {
                (void)fprintf(stderr, "cpexd: unexpected argument '%s'\nTry 'cpexd --help'.\n", argv[optind]);
                *ret_status = STATUS_USAGE;
                return false;
        }
        return true;
}

static int find_config(struct options *options) {
        CLEANUP_FREE char *folder = NULL;

        if (options->service.config_path)
                return 0;
        if (path_config_folder(&folder) < 0)
                return -ENOMEM;
        options->default_config = path_join(folder, "cpexd.yaml");
        if (!options->default_config)
                return -ENOMEM;
        if (access(options->default_config, F_OK) == 0)
                options->service.config_path = options->default_config;
        return 0;
}

/* Who reads nothing but the last line must not take warnings for none. */
static void print_counts(size_t mistakes, size_t warnings) {
        if (mistakes > 0)
                (void)printf("%zu mistake%s", mistakes, plural(mistakes));
        if (warnings > 0)
                (void)printf("%s%zu warning%s", mistakes > 0 ? ", " : "", warnings, plural(warnings));
        (void)puts(mistakes + warnings > 0 ? "" : "no mistakes");
}

/* --check: mistakes and warnings, one a line, as they are, and how many there were. */
static int check(const struct service_args *args) {
        CLEANUP(diags_done) struct diags diags = {0};
        struct daemon_config *daemon = NULL;
        struct plugins_config *plugins = NULL;
        size_t warnings = 0, faults = 0;
        const struct config_source source = {args->config_path, &args->overrides, args->renderer};
        int r = config_load(&daemon, &plugins, &source, &diags);

        for (size_t i = 0; i < diags.n; i++) {
                warnings += diags.items[i].severity == DIAG_WARNING;
                faults += diags.items[i].severity == DIAG_FAULT;
                (void)fprintf(stderr, "%s%s\n", diags.items[i].severity == DIAG_WARNING ? "warning: " : "", diags.items[i].text);
        }
        if (r == 0)
                (void)printf("%s: %zu plugin%s, ", daemon->plugins_name, plugins->n_plugins, plural(plugins->n_plugins));
        else if (r == -EINVAL)
                (void)printf("refused: ");
        else
                (void)fprintf(stderr, "cpexd: the configuration cannot be read: %s\n", strerror(-r));
        if (r == 0 || r == -EINVAL)
                print_counts(diags.errors + faults, warnings);
        daemon_config_free(daemon);
        plugins_config_free(plugins);
        return r < 0 && r != -EINVAL ? STATUS_SYSTEM : diags.errors + faults > 0 ? STATUS_CONFIG : STATUS_OK;
}

/* ---- Stopping ---- */

static void end_loop(struct cpexd *cpexd) {
        (void)event_base_loopbreak(cpexd->base);
}

static void on_stop_timer(evutil_socket_t fd, short what, void *data) {
        (void)fd;
        (void)what;
        log_warning("stopping took too long; what still runs is killed");
        end_loop(data);
}

static void on_gone(void *data) {
        end_loop(data);
}

static void on_hosts_idle(void *data) {
        service_stop(((struct cpexd *)data)->service);
}

static void stop(struct cpexd *cpexd) {
        struct generation *newest = service_newest(cpexd->service);
        usec_t limit = newest->daemon->drain_usec + STOP_EXTRA_USEC;

        cpexd->stopping = true;
        cpexd->upgrade = upgrade_free(cpexd->upgrade);
        service_drain(cpexd->service);
        notify_stopping(limit + STOP_MARGIN_USEC);
        notify_status("stopping");
        log_notice("stopping");
        listener_stop(cpexd->host_listener);
        listener_stop(cpexd->control_listener);
        timer_start(cpexd->stop_timer, limit);
        control_stop(cpexd->control);
        hosts_stop(cpexd->hosts, newest->daemon->drain_usec, on_hosts_idle, cpexd);
}

static void on_sigterm(evutil_socket_t signal, short what, void *data) {
        struct cpexd *cpexd = data;

        (void)signal;
        (void)what;
        if (cpexd->stopping)
                end_loop(cpexd);
        else
                stop(cpexd);
}

static void on_sighup(evutil_socket_t signal, short what, void *data) {
        struct cpexd *cpexd = data;

        (void)signal;
        (void)what;
        if (!cpexd->stopping)
                service_reload(cpexd->service, NULL);
}

static void on_sigusr2(evutil_socket_t signal, short what, void *data) {
        struct cpexd *cpexd = data;

        (void)signal;
        (void)what;
        if (!cpexd->stopping)
                upgrade_start(cpexd->upgrade);
}

/* ---- Starting ---- */

static void on_ready(void *data) {
        listener_start(((struct cpexd *)data)->host_listener);
}

static void on_changed(void *data) {
        hosts_tell_generation(((struct cpexd *)data)->hosts);
}

static void on_refused(void *data) {
        ((struct cpexd *)data)->status = STATUS_PLUGIN;
        end_loop(data);
}

const struct service_handler cpexd_service_handler = {
        .on_ready = on_ready,
        .on_refused = on_refused,
        .on_changed = on_changed,
        .on_gone = on_gone,
};

void cpexd_on_host(void *data, int fd) {
        hosts_accept(((struct cpexd *)data)->hosts, fd);
}

void cpexd_on_admin(void *data, int fd) {
        control_accept(((struct cpexd *)data)->control, fd);
}

/* `name`: how a socket of the service manager is called, and the option for one of our own. */
static int listen_on(struct cpexd *cpexd, struct listener **ret, const struct socket_config *config, listener_callback callback,
                     const char *name, const char *option) {
        int fd = activation_take(name, config->path);
        int r = listener_new(ret, cpexd->base, config, fd, callback, cpexd);

        if (r == -EADDRINUSE)
                log_error("%s: another cpexd serves this socket; stop it, or choose another with %s", config->path, option);
        else if (r == -ENOTSOCK)
                log_error("%s: is there and is no socket; remove it, or choose another path with %s", config->path, option);
        else if (r < 0)
                log_error("%s: cannot listen: %s; see to its folder, or choose another path with %s", config->path, strerror(-r),
                          option);
        else if (!str_eq(listener_path(*ret), config->path))
                log_warning("%s is configured, but the service manager listens on %s, and that counts", config->path,
                            listener_path(*ret));
        return r;
}

/* A reload or an upgrade that is asked for while the first configuration is loaded, which may take seconds, comes after it. */
static void hold_signals(void) {
        sigset_t held;

        (void)sigemptyset(&held);
        (void)sigaddset(&held, SIGHUP);
        (void)sigaddset(&held, SIGUSR2);
        (void)sigprocmask(SIG_BLOCK, &held, NULL);
}

static void block_signals(bool block) {
        sigset_t set;

        (void)(block ? sigfillset(&set) : sigemptyset(&set));
        (void)sigprocmask(SIG_SETMASK, &set, NULL);
}

static int handle_signals(struct cpexd *cpexd) {
        const struct {
                int signal;
                event_callback_fn callback;
        } handled[] = {{SIGTERM, on_sigterm}, {SIGINT, on_sigterm}, {SIGHUP, on_sighup}, {SIGUSR2, on_sigusr2}};

        (void)signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0; i < ELEMENTS(handled); i++) {
                cpexd->signals[i] = evsignal_new(cpexd->base, handled[i].signal, handled[i].callback, cpexd);
                if (!cpexd->signals[i] || event_add(cpexd->signals[i], NULL) < 0)
                        return -ENOMEM;
        }
        block_signals(false);
        cpexd->stop_timer = evtimer_new(cpexd->base, on_stop_timer, cpexd);
        return cpexd->stop_timer ? 0 : -ENOMEM;
}

/* The loop, and what there is before everything else. */
static int make_base(struct cpexd *cpexd, char **argv) {
        cpexd->base = event_base_new();
        if (cpexd->base && log_attach(cpexd->base) == 0 &&
            upgrade_new(&cpexd->upgrade, cpexd->base, argv, &cpexd_upgrade_handler, cpexd) == 0)
                return STATUS_OK;
        log_error("cannot start: %s", strerror(errno));
        return STATUS_SYSTEM;
}

static int start(struct cpexd *cpexd, const struct service_args *args) {
        struct generation *first;
        int r;

        hold_signals();
        r = service_new(&cpexd->service, cpexd->base, args, &cpexd_service_handler, cpexd);
        if (r == -EINVAL)
                return STATUS_CONFIG;
        if (r < 0) {
                log_error("cannot start: %s", strerror(-r));
                return STATUS_SYSTEM;
        }
        first = service_newest(cpexd->service);
        r = listen_on(cpexd, &cpexd->host_listener, &first->daemon->socket, cpexd_on_host, "host", "--socket");
        if (r == 0)
                r = listen_on(cpexd, &cpexd->control_listener, &first->daemon->control, cpexd_on_admin, "control", "--control");
        activation_done();
        if (r < 0)
                return r == -EADDRINUSE ? STATUS_IN_USE : STATUS_SYSTEM;
        if (handle_signals(cpexd) < 0 || hosts_new(&cpexd->hosts, cpexd->base, service_current(cpexd->service)) < 0 ||
            control_new(&cpexd->control, cpexd->base, cpexd->service, cpexd->hosts, cpexd->upgrade) < 0 ||
            notify_watchdog_new(&cpexd->watchdog, cpexd->base) < 0) {
                log_error("cannot start: out of memory");
                return STATUS_SYSTEM;
        }
        r = metrics_new(&cpexd->metrics, cpexd->base, cpexd->service, cpexd->hosts, first->daemon);
        if (r < 0)
                return r == -EADDRINUSE ? STATUS_IN_USE : STATUS_SYSTEM;
        listener_start(cpexd->control_listener);
        log_info("cpexd " CPEXD_VERSION " listens on %s", listener_path(cpexd->host_listener));
        return STATUS_OK;
}

/* Goes on where the last program of this process was. Once workers and sockets are ours there is no way back: what fails ends the process,
 * and nothing of it is taken apart. */
static int take_over(struct cpexd *cpexd, const struct options *options) {
        struct mp state = upgrade_state(options->state);
        int r = cpexd_take_over(cpexd, &options->service, state);

        r = r < 0 ? r : handle_signals(cpexd);
        if (options->rehearsal) {
                if (r == 0)
                        puts(UPGRADE_AGREES "cpexd " CPEXD_VERSION);
                (void)fflush(stdout);
                _exit(r == 0 ? STATUS_OK : STATUS_SYSTEM);
        }
        if (r < 0 || notify_watchdog_new(&cpexd->watchdog, cpexd->base) < 0)
                _exit(STATUS_SYSTEM);
        cpexd_taken_over(cpexd, state);
        upgrade_forget(state);
        return STATUS_OK;
}

/* Between two turns of the loop nothing is half done. Signals that have come by now are dealt with first; later ones find the new program, or
 * us again. Return: whether the loop goes on. */
static bool execute_upgrade(struct cpexd *cpexd) {
        bool ends;

        cpexd->upgrading = false;
        block_signals(true);
        ends = event_base_loop(cpexd->base, EVLOOP_ONCE | EVLOOP_NONBLOCK) < 0 || event_base_got_break(cpexd->base);
        if (!ends && !cpexd->stopping)
                upgrade_execute(cpexd->upgrade);
        block_signals(false);
        return !ends;
}

static void cleanup(struct cpexd *cpexd) {
        block_signals(true); /* one that comes late would otherwise find its default action again, which is to kill us */
        cpexd->upgrade = upgrade_free(cpexd->upgrade);
        cpexd->host_listener = listener_free(cpexd->host_listener);
        cpexd->control_listener = listener_free(cpexd->control_listener);
        cpexd->metrics = metrics_free(cpexd->metrics);
        cpexd->control = control_free(cpexd->control);
        cpexd->hosts = hosts_free(cpexd->hosts);
        cpexd->service = service_free(cpexd->service);
        scratch_end();
        for (size_t i = 0; i < ELEMENTS(cpexd->signals); i++)
                if (cpexd->signals[i])
                        event_free(cpexd->signals[i]);
        if (cpexd->stop_timer)
                event_free(cpexd->stop_timer);
        if (cpexd->watchdog)
                event_free(cpexd->watchdog);
        log_detach();
        if (cpexd->base)
                event_base_free(cpexd->base);
}

/* What libevent has to say is a line of our log like any other. */
static void on_event_log(int severity, const char *message) {
        log_write(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, NULL, "libevent: %s", message);
}

/* Descriptors 0 to 2 exist, so that nothing else can get their numbers. */
static void open_standard_descriptors(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        (void)fd_close(fd);
}

/* The soft limit is meant for programs that use select(). Workers have limits of their own (isolation.files). */
static void raise_files(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Tokens of hosts and what plugins are configured with lie in this memory. Nobody gets it as a core file, be it by way of a pipe, which
 * no limit stops, and no other process of the same user looks into it (ptrace(2), /proc/PID/mem, environ). exec undoes that: what
 * is left for the children is the limit. */
static void hide_memory(void) {
        const struct rlimit none = {0};

        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        (void)setrlimit(RLIMIT_CORE, &none);
}

static int run(const struct options *options, char **argv) {
        struct cpexd cpexd = {0};
        int status;

        log_init(LOG_LEVEL_INFO);
        event_set_log_callback(on_event_log);
        cgroups_enter();
        raise_files();
        status = make_base(&cpexd, argv);
        if (status == STATUS_OK && options->state >= 0) {
                status = take_over(&cpexd, options);
        } else if (status == STATUS_OK) {
                child_adopt_orphans();
                status = start(&cpexd, &options->service);
        }
        while (status == STATUS_OK) {
                if (loop_run(cpexd.base) < 0)
                        status = STATUS_SYSTEM;
                else if (!cpexd.upgrading || event_base_got_break(cpexd.base) || !execute_upgrade(&cpexd))
                        break;
        }
        if (status == STATUS_OK)
                status = cpexd.status;
        cleanup(&cpexd);
        child_end_orphans();
        if (status == STATUS_OK)
                log_notice("stopped");
        return status;
}

int main(int argc, char **argv) {
        struct options options = {.state = -1};
        int status;

        hide_memory();
        memory_keep();
        open_standard_descriptors();
        if (!parse_options(argc, argv, &options, &status))
                return status;
        if (find_config(&options) < 0 || parts_find(&options.service) < 0) {
                log_error("cannot start: out of memory");
                status = STATUS_SYSTEM;
        } else {
                status = options.check ? check(&options.service) : run(&options, argv);
        }
        parts_done(&options.service);
        free(options.default_config);
        return status;
}
