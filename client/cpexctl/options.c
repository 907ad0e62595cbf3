/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two tables hold the commands and the options, and the help is printed from them, so that neither is ahead of the other. Each
 * option has a letter, with which a command says that it takes it; those of SHORT_OPTIONS are short options, too.
 */

#include "options.h"

#include <getopt.h>
#include <stdio.h>

#include "config.h"
#include "lib/cpexd-client.h"
#include "report.h"

#define TIMEOUT_USEC ((uint64_t)60 * 1000000)

static const struct command commands[] = {
        {"status", NULL, false, false, "", "the daemon, its plugins and their workers", command_status},
        {"plugins", NULL, false, false, "", "the configured plugins", command_plugins},
        {"hooks", NULL, false, false, "", "the hooks and who runs on each, in order", command_hooks},
        {"ping", NULL, false, false, "", "whether the daemon answers, and how fast", command_ping},
        {"check", "[FILE]", false, true, "P", "look for mistakes in a cpexd.yaml and its plugins.yaml", command_check},
        {"invoke", "HOOK", true, false, "ptxegioTvW", "call a hook and show what the plugins did", command_invoke},
        {"top", NULL, false, false, "nI", "what the plugins do at the moment, again and again", command_top},
        {"logs", "[PLUGIN]", false, false, "fn", "the last lines that plugins and the daemon have logged", command_logs},
        {"reload", NULL, false, true, "", "read the configuration again and say what changed", command_reload},
        {"upgrade", NULL, false, true, "", "have the daemon execute its new program, without a restart", command_upgrade},
        {"explain", "PLUGIN", true, true, "", "what a plugin's sandbox lets it do, its settings and where they come from",
         command_explain},
        {"venv", "list|build|verify", true, true, "g",
         "list the venvs, build the missing ones, or compare them with what was built", command_venv},
};

/* `text`: where in struct options the value goes, if it is taken as it is. */
static const struct {
        const char *name, *argument;
        int letter;
        size_t text;
        const char *help;
} options_table[] = {
#define TEXT(field) offsetof(struct options, field)
        {"socket", "PATH", 'S', TEXT(socket), "the host socket (else $CPEXD_SOCKET, else the daemon's default)"},
        {"control", "PATH", 'C', TEXT(control), "the control socket (else control.sock beside --socket, else $CPEXD_CONTROL)"},
        {"json", NULL, 'j', 0, "print one JSON object and nothing else"},
        {"timeout", "SECONDS", 's', 0, "how long to wait for the answer (60; reload, upgrade and venv: as long as it takes)"},
        {"help", NULL, 'h', 0, "print this"},
        {"version", NULL, 'V', 0, "print the version"},
        {"payload", "JSON", 'p', TEXT(payload), "the payload; @FILE reads a file, - reads standard input"},
        {"payload-type", "CLASS", 't', TEXT(payload_type), "the payload's class where it is not the hook's own"},
        {"context", "JSON", 'x', TEXT(context), "the global context; a request_id is made up where it has none"},
        {"extensions", "JSON", 'e', TEXT(extensions), "the extensions by slot"},
        {"plugin", "NAME", 'g', TEXT(plugin), "only this plugin"},
        {"contexts-in", "FILE", 'i', TEXT(contexts_in), "the plugins' contexts, from the request's last call"},
        {"contexts-out", "FILE", 'o', TEXT(contexts_out), "where to write the plugins' contexts, for the request's next call"},
        {"timeout-ms", "N", 'T', 0, "the daemon's budget for the whole call, in milliseconds"},
        {"violations-as-exceptions", NULL, 'v', 0, "a denial is an error"},
        {"timing", NULL, 'W', 0, "say where the time went"},
        {"plugins", "FILE", 'P', TEXT(plugins), "check this plugins.yaml instead of the configured one"},
        {"follow", NULL, 'f', 0, "go on with what is logged from now on"},
        {"count", "N", 'n', 0, "how many lines (50), or how often to look (until q or Ctrl-C)"},
        {"interval", "SECONDS", 'I', 0, "how long to wait before the next look (2)"},
#undef TEXT
};

#define GLOBAL_LETTERS "SCjshV"
#define SHORT_OPTIONS ":fn:" /* as getopt(3) wants it */
#define OR_EMPTY(text) ((text) ? (text) : "")

static bool takes_option(const struct command *command, int letter) {
        return strchr(GLOBAL_LETTERS, letter) || strchr(command->options, letter);
}

static void print_help(void) {
        puts("Usage: cpexctl [OPTION…] COMMAND [ARGUMENT] [OPTION…]\n\nTalks to a running cpexd.\n\nCommands:");
        for (size_t i = 0; i < ELEMENTS(commands); i++)
                printf("  %-7s %-18s %s\n", commands[i].name, OR_EMPTY(commands[i].argument), commands[i].summary);
        puts("\nOptions:");
        for (size_t i = 0; i < ELEMENTS(options_table); i++) {
                char left[48];

                if (strchr(SHORT_OPTIONS, options_table[i].letter))
                        (void)snprintf(left, sizeof(left), "-%c, --%s %s", options_table[i].letter, options_table[i].name,
                                       OR_EMPTY(options_table[i].argument));
                else
                        (void)snprintf(left, sizeof(left), "--%s %s", options_table[i].name, OR_EMPTY(options_table[i].argument));
                printf("  %-27s %s", left, options_table[i].help);
                for (size_t j = 0, n = 0; j < ELEMENTS(commands); j++)
                        if (strchr(commands[j].options, options_table[i].letter))
                                printf("%s%s", n++ ? ", " : " — ", commands[j].name);
                puts("");
        }
        puts("\nExit status: 0; 1 when a call was blocked, a reload or an upgrade refused, a venv not built or not as it was, or "
             "a file has "
             "mistakes;\n"
             "2 on any other error, a wrong command line included.\n\n"
             "In JSON bytes are base64, secrets \"**********\", nan and infinities strings.");
}

static bool parse_seconds(const char *text, uint64_t *ret_usec) {
        char *end;
        double seconds = strtod(text, &end);

        if (end == text || *end || !(seconds >= 0 && seconds <= 1e9))
                return false;
        *ret_usec = (uint64_t)(seconds * 1e6 + 0.5);
        return true;
}

static bool parse_number(const char *text, uint32_t *ret) {
        char *end;
        unsigned long long n;

        errno = 0;
        n = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno || n == 0 || n > UINT32_MAX)
                return false;
        *ret = (uint32_t)n;
        return true;
}

/* Stores one option. Return: NULL, or what would be right. */
static const char *store(struct options *options, size_t which, const char *value) {
        if (options_table[which].text > 0) {
                memcpy((char *)options + options_table[which].text, &value, sizeof(value));
                return NULL;
        }
        switch (options_table[which].letter) {
        case 'v':
                options->violations_as_exceptions = true;
                return NULL;
        case 'f':
                options->follow = true;
                return NULL;
        case 'n':
                options->count_given = true;
                return parse_number(value, &options->count) ? NULL : "a whole number from 1 to 4294967295";
        case 'I':
                return parse_seconds(value, &options->interval_usec) && options->interval_usec >= 100000
                               ? NULL
                               : "a number of seconds from 0.1, like 2.5";
        case 'W':
                options->timing = true;
                return NULL;
        case 'T':
                return parse_number(value, &options->timeout_ms) ? NULL : "a whole number from 1 to 4294967295";
        case 's':
                return parse_seconds(value, &options->timeout_usec) ? NULL : "a number of seconds, like 2.5";
        default: /* --json was seen before */
                return NULL;
        }
}

static size_t find_option(int letter) {
        size_t i = 0;

        while (options_table[i].letter != letter)
                i++;
        return i;
}

static const struct command *find_command(const char *name) {
        for (size_t i = 0; i < ELEMENTS(commands); i++)
                if (str_eq(commands[i].name, name))
                        return commands + i;
        return NULL;
}

static int usage_error(const struct options *options, const char *format, ...) PRINTF_LIKE(2, 3);
static int usage_error(const struct options *options, const char *format, ...) {
        char problem[512];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(problem, sizeof(problem), format, args);
        va_end(args);
        return report_error(options, "usage", "%s; see cpexctl --help", problem);
}

static int check_command(struct options *options, int n, char **words, const bool *given) {
        const struct command *command = find_command(n > 0 ? words[0] : NULL);

        if (n == 0)
                return usage_error(options, "no command was given");
        if (!command)
                return usage_error(options, "there is no command \"%s\"", words[0]);
        if (n > (command->argument ? 2 : 1))
                return usage_error(options, "\"%s\" is one word too many", words[command->argument ? 2 : 1]);
        if (n == 1 && command->argument_required)
                return usage_error(options, "%s needs %s", command->name, command->argument);
        for (size_t i = 0; i < ELEMENTS(options_table); i++)
                if (given[i] && !takes_option(command, options_table[i].letter))
                        return usage_error(options, "%s takes no --%s", command->name, options_table[i].name);
        options->command = command;
        options->argument = n > 1 ? words[1] : NULL;
        return -1;
}

int options_parse(struct options *ret, int argc, char **argv) {
        struct options options = {.timeout_usec = CPEXD_NO_TIMEOUT, .interval_usec = 2 * 1000000};
        struct option table[ELEMENTS(options_table) + 1] = {0};
        bool given[ELEMENTS(options_table)] = {0}, timeout = false;
        size_t which;
        int r;

        for (size_t i = 0; i < ELEMENTS(options_table); i++)
                table[i] = (struct option){options_table[i].name, options_table[i].argument ? required_argument : no_argument,
                                           NULL, options_table[i].letter};
        for (int i = 1; i < argc; i++) /* a mistake before --json is told in JSON too */
                options.json = options.json || str_eq(argv[i], "--json");

        opterr = 0;
        while ((r = getopt_long(argc, argv, SHORT_OPTIONS, table, NULL)) >= 0) {
                const char *right;

                if (r == ':')
                        return usage_error(&options, "%s needs a value", argv[optind - 1]);
                if (r == '?')
                        return usage_error(&options, "there is no option %s", argv[optind - 1]);
                if (r == 'h' || r == 'V') {
                        r == 'h' ? print_help() : (void)puts("cpexctl " CPEXD_VERSION);
                        return EXIT_OK;
                }
                which = find_option(r);
                right = store(&options, which, optarg);
                if (right)
                        return usage_error(&options, "--%s: \"%s\" was given; it takes %s", table[which].name, optarg, right);
                given[which] = true;
                timeout = timeout || r == 's';
        }
        r = check_command(&options, argc - optind, argv + optind, given);
        if (r >= 0)
                return r;
        if (!timeout && !options.command->waits)
                options.timeout_usec = TIMEOUT_USEC;
        *ret = options;
        return -1;
}

/* control.sock in the folder of another socket. */
static char *beside(const char *socket) {
        const char *slash = strrchr(socket, '/');
        char *path;

        return asprintf(&path, "%.*scontrol.sock", slash ? (int)(slash - socket) + 1 : 0, socket) < 0 ? NULL : path;
}

static const char *environment(const char *name) {
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

/* The socket of a daemon that the user has started, if there is one; else that of the system's. */
static char *default_path(const char *name) {
        const char *runtime = geteuid() == 0 ? NULL : environment("XDG_RUNTIME_DIR");
        CLEANUP_FREE char *own = NULL;
        char *path;

        if (runtime && asprintf(&own, "%s/cpexd/%s", runtime, name) < 0)
                return own = NULL;
        if (own && access(own, F_OK) == 0)
                return TAKE(own);
        return asprintf(&path, "/run/cpexd/%s", name) < 0 ? NULL : path;
}

char *options_socket(const struct options *options) {
        const char *path = options->socket ? options->socket : environment("CPEXD_SOCKET");

        return path ? strdup(path) : default_path("cpexd.sock");
}

char *options_control(const struct options *options) {
        const char *path = options->control;

        if (!path && options->socket)
                return beside(options->socket);
        if (!path)
                path = environment("CPEXD_CONTROL");
        if (!path && environment("CPEXD_SOCKET"))
                return beside(environment("CPEXD_SOCKET"));
        return path ? strdup(path) : default_path("control.sock");
}
