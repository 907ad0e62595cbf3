/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Documentation of settings drifts away from the code when it is written twice. Here the table is the only place: a key that is not
 * in it cannot be read, and a default is given as the YAML that the sample file shows, and read like any other value.
 */

#include "config/schema.h"

#include <inttypes.h>
#include <limits.h>

#include "config/access.h"
#include "config/sandbox.h"
#include "config/template.h"

#define HOOKS_MAX 1000

#define AT(member) offsetof(struct daemon_config, member), sizeof(((struct daemon_config *)NULL)->member)
#define NO_LIMITS 0, 0

const struct config_key config_keys[] = {
        {"plugins", KEY_PATH, AT(plugins), NO_LIMITS, "/etc/cpexd/plugins.yaml", true,
         "The CPEX configuration with the plugins to serve."},
        {"project_root", KEY_PATH, AT(project_root), NO_LIMITS, "null", true,
         "The folder that script_path and plugin_dirs of plugins.yaml are relative to; null: the folder of plugins.yaml."},
        {"template_python", KEY_PATH, AT(template_python), NO_LIMITS, "/usr/bin/python3", true,
         "The Python that has Jinja2, for a plugins.yaml that is more of a template than {{ env.NAME }}."},
        {"cache_dir", KEY_PATH, AT(cache_dir), NO_LIMITS, "/var/cache/cpexd", true,
         "Where the virtual environments are kept. Not as root: ~/.cache/cpexd."},

        {"socket.path", KEY_PATH, AT(socket.path), NO_LIMITS, "/run/cpexd/cpexd.sock", false,
         "The socket that hosts connect to. Not as root: below XDG_RUNTIME_DIR."},
        {"socket.mode", KEY_MODE, AT(socket.mode), 0, 0777, "0660", false, "Its permissions, in octal."},
        {"control.path", KEY_PATH, AT(control.path), NO_LIMITS, "/run/cpexd/control.sock", false,
         "The socket for cpexctl. Where only socket.path is given: control.sock beside it."},
        {"control.mode", KEY_MODE, AT(control.mode), 0, 0777, "0600", false, "Its permissions, in octal."},

        {"metrics.path", KEY_PATH, AT(metrics.path), NO_LIMITS, "null", false,
         "A Unix socket that answers GET /metrics and /healthz over HTTP; null: none."},
        {"metrics.mode", KEY_MODE, AT(metrics.mode), 0, 0777, "0660", false, "Its permissions, in octal."},
        {"metrics.port", KEY_COUNT, AT(metrics_port), 1, 65535, "null", false,
         "A port of 127.0.0.1 that answers the same, to anybody on this machine; null: none."},

        {"access.invoke", KEY_HOOK_CALLERS, AT(access.invoke), NO_LIMITS, "[any]", true,
         "Who may call hooks, beside root and cpexd's own user: users, {user: NAME}, {group: NAME}, these also with a list "
         "{allow: [tool_*]}; any: whoever socket.mode lets connect."},
        {"access.status", KEY_CALLERS, AT(access.status), NO_LIMITS, "[]", true,
         "Who may look at the state of cpexd, likewise; control.mode must let them connect."},
        {"access.admin", KEY_CALLERS, AT(access.admin), NO_LIMITS, "[]", true,
         "Who may also reload the configuration, build venvs and read what plugins print, likewise."},

        {"log.level", KEY_LEVEL, AT(log_level), NO_LIMITS, "info", true,
         "The least that is logged: error, warning, notice, info or debug."},
        {"log.keep", KEY_BYTES, AT(log_keep_bytes), 0, 64u << 20, "64K", true,
         "Memory for the last lines of each plugin, which cpexctl logs shows."},

        {"decisions.path", KEY_PATH, AT(decisions_path), NO_LIMITS, "null", true,
         "A file, or a FIFO, that gets a line of JSON for each call that was decided; null: none."},
        {"decisions.which", KEY_DECISIONS, AT(decisions_which), NO_LIMITS, "all", true,
         "all; changed: those that a plugin denied, changed, objected to or failed; denied: those that were denied or failed."},

        {"venv.sandbox", KEY_BOOL, AT(venv.sandbox), NO_LIMITS, "true", true,
         "Keep packages, while they are installed, from all but the new venv and the network; false: they may do all that cpexd "
         "may."},
        {"venv.only_binary", KEY_BOOL, AT(venv.only_binary), NO_LIMITS, "false", true,
         "Install no package that would have to be built, so that none runs code when it is installed."},
        {"venv.require_hashes", KEY_BOOL, AT(venv.require_hashes), NO_LIMITS, "false", true,
         "Install no package whose hash the requirements do not give."},
        {"venv.wheelhouse", KEY_PATH, AT(venv.wheelhouse), NO_LIMITS, "null", true,
         "A folder of wheels to install from, without a network; null: from what pip is configured for."},
        {"venv.read", KEY_PATHS, AT(venv.read), NO_LIMITS, "[]", true,
         "What installers may read beside the requirements and what these name in their own folder: wheels elsewhere, "
         "compilers."},
        {"venv.env", KEY_NAMES, AT(venv.env), NO_LIMITS, "[]", true,
         "Variables of cpexd's environment, NAME or NAME*, that installers get beyond PIP_*, UV_*, proxies, CFLAGS and the "
         "like."},
        {"venv.max_bytes", KEY_BYTES, AT(venv.max_bytes), 1u << 20, UINT64_C(1) << 50, "16G", true,
         "The most that a venv may take while it is built; null: any."},
        {"venv.memory", KEY_BYTES, AT(venv.memory_bytes), 16u << 20, UINT64_C(1) << 50, "null", true,
         "Memory of all that runs while a venv is built, where there are control groups; null: no limit."},
        {"venv.timeout", KEY_DURATION, AT(venv.timeout_usec), USEC_PER_SEC, 86400 * USEC_PER_SEC, "10m", true,
         "How long building a venv may take."},

        {"isolation.python", KEY_PROGRAM, AT(isolation.python), NO_LIMITS, "python3", true,
         "The Python, 3.11 or newer, that a plugin runs on: a path, or a name to look up in PATH."},
        {"isolation.requirements", KEY_PATH, AT(isolation.requirements), NO_LIMITS, "null", true,
         "The requirements file of plugins whose kind is a class; null: they need nothing from PyPI."},
        {"isolation.workers.min", KEY_COUNT, AT(isolation.workers_min), 1, 1000, "1", true,
         "Workers that each plugin always has."},
        {"isolation.workers.max", KEY_COUNT, AT(isolation.workers_max), 1, 1000, "4", true,
         "Workers that it gets when calls wait."},
        {"isolation.workers.idle", KEY_DURATION, AT(isolation.idle_usec), USEC_PER_MSEC, 86400 * USEC_PER_SEC, "10s", true,
         "A worker beyond min that had nothing to do for so long is stopped."},
        {"isolation.max_concurrent", KEY_COUNT, AT(isolation.max_concurrent), 1, 10000, "8", true,
         "Calls in flight in one worker."},
        {"isolation.queue", KEY_COUNT, AT(isolation.queue), 0, 1000000, "1024", true,
         "Calls of a plugin that may wait for a worker; one more is refused."},
        {"isolation.queue_timeout", KEY_DURATION, AT(isolation.queue_timeout_usec), USEC_PER_MSEC, 86400 * USEC_PER_SEC, "null",
         true, "How long a call may wait for a worker; null: as long as it may run."},
        {"isolation.timeout", KEY_DURATION, AT(isolation.timeout_usec), USEC_PER_MSEC, 86400 * USEC_PER_SEC, "30s", true,
         "How long one call of one plugin may take. Goes before plugin_timeout."},
        {"isolation.startup_timeout", KEY_DURATION, AT(isolation.startup_timeout_usec), USEC_PER_MSEC, 86400 * USEC_PER_SEC,
         "30s", true, "How long a worker may take to start and to initialize its plugin."},
        {"isolation.recycle.calls", KEY_COUNT, AT(isolation.recycle_calls), 1, UINT32_MAX, "null", true,
         "A worker is replaced after so many calls, by one that is ready before it goes; null: never."},
        {"isolation.recycle.age", KEY_DURATION, AT(isolation.recycle_age_usec), USEC_PER_MSEC, 365 * 86400 * USEC_PER_SEC, "null",
         true, "Likewise when it is so old."},
        {"isolation.recycle.memory", KEY_BYTES, AT(isolation.recycle_memory_bytes), 1u << 20, UINT64_C(1) << 50, "null", true,
         "Likewise when so much of its memory is resident."},
        {"isolation.memory", KEY_BYTES, AT(isolation.memory_bytes), 16u << 20, UINT64_C(1) << 50, "null", true,
         "Memory of a worker, such as 512M or 2G: of all that it starts, where there are control groups, else its address space; "
         "null: no limit."},
        {"isolation.cpu", KEY_COUNT, AT(isolation.cpu_percent), 1, 100000, "null", true,
         "Processor time of a worker and all that it starts, in percent of one processor, where there are control groups; null: "
         "no limit."},
        {"isolation.files", KEY_COUNT, AT(isolation.files), 16, 1048576, "1024", true, "Files that a worker may have open."},
        {"isolation.env", KEY_NAMES, AT(isolation.env), NO_LIMITS, "[]", true,
         "Variables of cpexd's environment, NAME or NAME*, that workers inherit beyond PATH, locale, proxies and the like."},
        {"isolation.sandbox.profile", KEY_PROFILE, AT(isolation.sandbox.profile), NO_LIMITS, "default", true,
         "What a worker is kept from: default; strict: from starting processes as well; off: from nothing, not even from the "
         "files of cpexd."},
        {"isolation.sandbox.network", KEY_NETWORK, AT(isolation.sandbox.network), NO_LIMITS, "none", true,
         "none, all (TCP and UDP), unix, or a list with HOST:PORT; of these the kernel can check the port only, and not UDP."},
        {"isolation.sandbox.read", KEY_PATHS, AT(isolation.sandbox.read), NO_LIMITS, "[]", true,
         "Files and folders that a worker may read and run, beside its own code, its venv and the system's libraries."},
        {"isolation.sandbox.write", KEY_PATHS, AT(isolation.sandbox.write), NO_LIMITS, "[]", true,
         "Files and folders that a worker may read and change, beside a temporary folder of its own."},
        {"isolation.sandbox.tasks", KEY_COUNT, AT(isolation.sandbox.tasks), 1, 4194304, "null", true,
         "How many processes and threads a worker may have: where there are no control groups, its user, if not root, in all; "
         "null: no limit."},
        {"isolation.sandbox.require", KEY_BOOL, AT(isolation.sandbox.require), NO_LIMITS, "false", true,
         "Do not start workers where the kernel lacks a piece of the sandbox; false: do without it, and log that."},
        {"isolation.zygote", KEY_BOOL, AT(isolation.zygote), NO_LIMITS, "false", true,
         "Workers are forked, in milliseconds and sharing memory, off a process of the plugin's that has imported it; for "
         "plugins that do not read /proc/self."},
        {"isolation.socket", KEY_ENTRY_PATH, AT(isolation.socket), NO_LIMITS, "null", true,
         "Where the server of an external plugin listens that speaks cpexd's own protocol."},
        {"isolation.group", KEY_ENTRY_NAME, AT(isolation.group), NO_LIMITS, "null", true,
         "Plugins of kind isolated_venv with the same group have their workers in common, and what makes these must be the same "
         "for all of them. For plugins that trust each other; calls that go through several of them in a row are faster."},

        {"limits.frame_bytes", KEY_BYTES, AT(frame_bytes), 4096, 1u << 30, "16M", true, "The longest message accepted."},
        {"limits.values", KEY_COUNT, AT(values), 1000, 1000000000, "500000", true,
         "Values in one message, each key, element and element of an element; what takes longest to look through is many small "
         "ones."},
        {"limits.output_bytes", KEY_BYTES, AT(output_bytes), 4096, 1u << 30, "32M", true,
         "Bytes kept for a host that does not read its answers; one that does not fit becomes an error, and in the end it is "
         "disconnected."},
        {"limits.connections", KEY_COUNT, AT(connections), 1, 100000, "1024", true, "Hosts connected at once."},
        {"limits.calls_per_connection", KEY_COUNT, AT(calls), 1, 4096, "1024", true, "Calls of one host in flight."},
        {"limits.calls", KEY_COUNT, AT(calls_total), 1, 1000000, "16384", true, "Calls of all hosts in flight."},
        {"limits.bytes", KEY_BYTES, AT(bytes_total), 1u << 20, UINT64_C(1) << 40, "1G", true,
         "Memory for what hosts send and have not read. Of this, of connections and of calls n users get 1/(n+1) each."},
        {"limits.connection_rate", KEY_COUNT, AT(connect_rate), 1, 1000000, "1000", true, "Connections of one user in a second."},
        {"startup_failures", KEY_STARTUP, AT(startup_skip), NO_LIMITS, "closed", true,
         "closed: calls of a plugin that cannot start fail by its on_error; skip: it is left out, as CPEX does."},
        {"extension_tiers", KEY_TIERS, AT(enforce_tiers), NO_LIMITS, "off", true,
         "enforce: of the extensions that a plugin returns only what CPEX 0.2 lets it change counts; off: all, as in CPEX 0.1."},
        {"strip_sensitive_headers", KEY_BOOL, AT(strip_headers), NO_LIMITS, "false", true,
         "Keep Authorization, Cookie, Set-Cookie and X-API-Key out of the http extensions that plugins get and return."},
        {"one_core", KEY_BOOL, AT(one_core), NO_LIMITS, "true", true,
         "While calls come one after the other, stay on one processor and have workers wait there, too; false: leave that to the "
         "scheduler."},
        {"drain_timeout", KEY_DURATION, AT(drain_usec), 0, 86400 * USEC_PER_SEC, "10s", true,
         "How long calls in flight may still take when cpexd stops or reads its configuration anew."},

        {"plugin_settings.plugin_timeout", KEY_DURATION, AT(settings.timeout_usec), USEC_PER_MSEC, 86400 * USEC_PER_SEC, "null",
         true, "Goes before plugin_timeout in plugins.yaml and PLUGINS_PLUGIN_TIMEOUT; null: those count."},
        {"plugin_settings.execution_pool", KEY_COUNT, AT(settings.execution_pool), 1, 100000, "null", true,
         "How many plugins of the concurrent phase run at once in one call; null: as plugins.yaml says."},
        {"plugin_settings.fail_on_plugin_error", KEY_BOOL, AT(settings.fail_on_plugin_error), NO_LIMITS, "null", true,
         "Whether a plugin that does not start stops the whole configuration; null: as plugins.yaml says."},
        {"plugin_settings.default_hook_policy", KEY_HOOK_POLICY, AT(settings.default_deny), NO_LIMITS, "null", true,
         "allow or deny: whether plugins may change payloads of hooks without a policy; null: as plugins.yaml says."},
        {"plugin_settings.hook_policies", KEY_HOOK_POLICIES, AT(settings.policies), NO_LIMITS, "null", true,
         "For a hook, the payload fields that plugins may change: {tool_pre_invoke: [args]}."},
};
const size_t n_config_keys = ELEMENTS(config_keys);

const struct config_key *schema_key(const char *name) {
        size_t i = 0;

        while (!str_eq(config_keys[i].name, name))
                i++;
        return &config_keys[i];
}

static bool is_of_entry(const struct config_key *key) {
        return key->type == KEY_ENTRY_PATH || key->type == KEY_ENTRY_NAME;
}

struct origin *schema_origin(struct origin *origins, const struct config_key *key) {
        size_t first = 0, i = (size_t)(key - config_keys);

        while (strncmp(config_keys[first].name, "isolation.", 10) != 0)
                first++;
        return i >= first && i - first < ISOLATION_KEYS && strncmp(key->name, "isolation.", 10) == 0 ? &origins[i - first] : NULL;
}

struct origin origin_of(const struct reader *reader, const struct node *node) {
        return (struct origin){
                .from = reader->report.source    ? ORIGIN_RENDERED
                        : reader->in_daemon_file ? ORIGIN_DAEMON
                                                 : ORIGIN_PLUGINS,
                .line = node->place.line,
                .secret = !node_may_tell(node, &reader->report),
        };
}

static void complain_range(struct reader *reader, const struct at *at, const struct node *node, const struct config_key *key) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL;
        uint64_t ends[] = {key->min, key->max};

        for (size_t i = 0; i < 2; i++) {
                buf_append_str(&buf, i > 0 ? " to " : "");
                if (key->type == KEY_BYTES)
                        put_bytes(&buf, ends[i]);
                else if (key->type == KEY_DURATION)
                        put_duration(&buf, ends[i]);
                else
                        buf_printf(&buf, "%" PRIu64, ends[i]);
        }
        text = buf_take_str(&buf);
        if (report_check(&reader->report, text != NULL))
                value_refuse(reader, at, node, "%s", text);
}

static void store(void *target, size_t size, uint64_t value) {
        if (size == sizeof(uint64_t))
                *(uint64_t *)target = value;
        else
                *(unsigned *)target = (unsigned)value;
}

static void read_amount(struct reader *reader, const struct at *at, const struct node *node, const struct config_key *key,
                        void *target) {
        uint64_t value = 0;
        bool ok = key->type == KEY_COUNT      ? value_count(reader, at, node, &value)
                  : key->type == KEY_BYTES    ? value_bytes(reader, at, node, &value)
                  : key->type == KEY_DURATION ? value_duration(reader, at, node, &value)
                                              : value_mode(reader, at, node, &value);

        if (!ok)
                return;
        if (value < key->min || value > key->max)
                complain_range(reader, at, node, key);
        else
                store(target, key->size, value);
}

static void read_level(struct reader *reader, const struct at *at, const struct node *node, enum log_level *target) {
        const char *names[LOG_LEVEL_MAX_];
        int level;

        for (int i = 0; i < LOG_LEVEL_MAX_; i++)
                names[i] = log_level_name((enum log_level)i);
        if (value_choice(reader, at, node, names, ELEMENTS(names), &level))
                *target = (enum log_level)level;
}

static const char *const decisions_names[] = {
        [DECISIONS_ALL] = "all",
        [DECISIONS_CHANGED] = "changed",
        [DECISIONS_DENIED] = "denied",
};
static const char *const startup_names[] = {"closed", "skip"};

/* Without quotes, off is a boolean of YAML. */
static void read_tiers(struct reader *reader, const struct at *at, const struct node *node, int *ret_enforce) {
        static const char *const names[] = {"off", "enforce"};

        if (node->type == NODE_BOOL && strcasecmp(node->text, "off") == 0)
                *ret_enforce = false;
        else
                (void)value_choice(reader, at, node, names, ELEMENTS(names), ret_enforce);
}

static void read_key(struct reader *reader, const struct at *at, const struct node *node, const struct config_key *key,
                     void *target) {
        bool flag;

        if (node->type == NODE_NULL && str_eq(key->initial, "null")) {
                if (key->type == KEY_BOOL || key->type == KEY_HOOK_POLICY)
                        *(int *)target = -1;
                else if (key->type == KEY_PATH || is_of_entry(key))
                        free(TAKE(*(char **)target));
                else if (key->type != KEY_HOOK_POLICIES)
                        store(target, key->size, 0);
                return;
        }
        switch (key->type) {
        case KEY_PATH:
        case KEY_ENTRY_PATH:
                value_path(reader, at, node, target);
                break;
        case KEY_ENTRY_NAME:
                if (value_text(reader, at, node, target) && !**(char **)target)
                        value_refuse(reader, at, node, "a name");
                break;
        case KEY_PROGRAM:
                value_program(reader, at, node, target);
                break;
        case KEY_LEVEL:
                read_level(reader, at, node, target);
                break;
        case KEY_BOOL:
                if (value_bool(reader, at, node, &flag))
                        *(int *)target = flag;
                break;
        case KEY_DECISIONS:
                (void)value_choice(reader, at, node, decisions_names, ELEMENTS(decisions_names), target);
                break;
        case KEY_STARTUP:
                (void)value_choice(reader, at, node, startup_names, ELEMENTS(startup_names), target);
                break;
        case KEY_TIERS:
                read_tiers(reader, at, node, target);
                break;
        case KEY_NAMES:
                (void)value_texts(reader, at, node, false, target);
                break;
        case KEY_PROFILE:
                sandbox_read_profile(reader, at, node, target);
                break;
        case KEY_NETWORK:
                sandbox_read_network(reader, at, node, target);
                break;
        case KEY_PATHS:
                sandbox_read_paths(reader, at, node, target);
                break;
        case KEY_CALLERS:
        case KEY_HOOK_CALLERS:
                access_read(reader, at, node, key->type == KEY_HOOK_CALLERS, target);
                break;
        case KEY_HOOK_POLICY:
                schema_read_hook_policy(reader, at, node, target);
                break;
        case KEY_HOOK_POLICIES:
                schema_read_policies(reader, at, node, target);
                break;
        default:
                read_amount(reader, at, node, key, target);
        }
}

bool schema_read_hook_policy(struct reader *reader, const struct at *at, const struct node *node, int *ret_deny) {
        static const char *const names[] = {"allow", "deny"};

        return value_choice(reader, at, node, names, ELEMENTS(names), ret_deny);
}

void schema_read_policies(struct reader *reader, const struct at *at, const struct node *map, struct hook_policies *policies) {
        if (map->type != NODE_MAP) {
                value_refuse(reader, at, map, "a map from hooks to lists of fields");
                return;
        }
        if (map->n_pairs > HOOKS_MAX) { /* each is compared with those before it */
                value_refuse(reader, at, map, "a map of at most 1000 hooks");
                return;
        }
        for (size_t i = 0; i < map->n_pairs; i++) {
                struct at here = {.up = at, .key = node_shown(map->pairs[i].key, &reader->report)};
                const struct node *fields = map->pairs[i].value, *inner = node_get(fields, "writable_fields");
                CLEANUP_FREE char *hook = NULL;
                struct strlist list = {0}, *target;

                if (!value_text(reader, &here, map->pairs[i].key, &hook) ||
                    !value_texts(reader, &here, inner ? inner : fields, true, &list))
                        continue;
                target = hook_policies_add(policies, hook);
                if (!report_check(&reader->report, target != NULL)) {
                        strlist_done(&list);
                        continue;
                }
                strlist_done(target);
                *target = list;
        }
}

/* Return: whether `name` lies below `prefix`, and then its next part. */
static bool below(const char *name, const char *prefix, size_t prefix_len, const char **ret_part, size_t *ret_len) {
        if (prefix_len > 0 && (strncmp(name, prefix, prefix_len) != 0 || name[prefix_len] != '.'))
                return false;
        *ret_part = name + prefix_len + (prefix_len > 0);
        *ret_len = strcspn(*ret_part, ".");
        return true;
}

static void complain_unknown(struct reader *reader, const struct at *at, const struct node *node, const char *prefix) {
        char parts[ELEMENTS(config_keys)][32];
        const char *names[ELEMENTS(config_keys)];
        size_t n = 0;

        for (size_t i = 0; i < n_config_keys; i++) {
                const char *part;
                size_t len;

                if (!below(config_keys[i].name, prefix, strlen(prefix), &part, &len))
                        continue;
                (void)snprintf(parts[n], sizeof(parts[n]), "%.*s", (int)len, part);
                names[n] = parts[n];
                n++;
        }
        value_unknown_key(reader, at, node, names, n);
}

/* "expected a map of min, max, idle, found 4" */
static void refuse_no_map(struct reader *reader, const struct at *at, const struct node *node, const char *prefix) {
        CLEANUP_BUF struct buf names = {0};
        const char *part, *last = NULL;
        size_t len, last_len = 0;

        for (size_t i = 0; *prefix && i < n_config_keys; i++) {
                if (!below(config_keys[i].name, prefix, strlen(prefix), &part, &len) ||
                    (last && len == last_len && memcmp(part, last, len) == 0))
                        continue;
                buf_printf(&names, "%s%.*s", last ? ", " : " of ", (int)len, part);
                last = part;
                last_len = len;
        }
        if (report_check(&reader->report, buf_error(&names) == 0))
                value_refuse(reader, at, node, "a map%.*s", (int)names.len, names.len > 0 ? (const char *)names.data : "");
}

static void read_found(struct reader *reader, const struct at *at, const struct pair *pair, const struct config_key *key,
                       void *target) {
        struct origin *origin = reader->origins ? schema_origin(reader->origins, key) : NULL;

        read_key(reader, at, pair->value, key, target);
        if (origin)
                *origin = origin_of(reader, pair->value);
}

static void read_pair(struct reader *reader, const struct at *at, const struct pair *pair, const char *prefix, void *object,
                      size_t offset) {
        struct at here = {.up = at, .key = node_shown(pair->key, &reader->report)};
        const struct config_key *found = NULL;
        bool group = false;
        char name[64];

        if (pair->key->type != NODE_STR ||
            snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", pair->key->text) >= (int)sizeof(name)) {
                complain_unknown(reader, at, pair->key, prefix);
                return;
        }
        for (size_t i = 0; i < n_config_keys; i++) {
                const char *part;
                size_t len;

                if (str_eq(config_keys[i].name, name))
                        found = &config_keys[i];
                else if (below(config_keys[i].name, name, strlen(name), &part, &len))
                        group = true;
        }
        if (found && is_of_entry(found) && offset == 0)
                report_add(&reader->report, DIAG_ERROR, &here, pair->key->place,
                           "this belongs into the entry of one plugin, in plugins.yaml");
        else if (found)
                read_found(reader, &here, pair, found, (char *)object + (found->offset - offset));
        else if (group)
                schema_read(reader, &here, pair->value, name, object, offset);
        else
                complain_unknown(reader, at, pair->key, prefix);
}

void schema_read(struct reader *reader, const struct at *at, const struct node *map, const char *prefix, void *object,
                 size_t offset) {
        if (map->type == NODE_NULL)
                return;
        if (map->type != NODE_MAP) {
                refuse_no_map(reader, at, map, prefix);
                return;
        }
        for (size_t i = 0; i < map->n_pairs; i++)
                read_pair(reader, at, &map->pairs[i], prefix, object, offset);
}

/* One number of workers gives way to the other. */
static void copy_setting(struct isolation *values, const char *to, const char *from) {
        const struct config_key *to_key = schema_key(to), *from_key = schema_key(from);
        const size_t base = offsetof(struct daemon_config, isolation);

        memcpy((char *)values + (to_key->offset - base), (char *)values + (from_key->offset - base), to_key->size);
        *schema_origin(values->origins, to_key) = *schema_origin(values->origins, from_key);
}

void schema_settle_workers(struct reader *reader, const struct at *at, const struct node *isolation, struct isolation *values) {
        const struct node *workers = node_get(isolation, "workers"), *min = node_get(workers, "min"),
                          *max = node_get(workers, "max");
        struct at here = {.up = at, .key = "workers"};

        if (values->workers_min <= values->workers_max)
                return;
        if (min && max && node_may_tell(min, &reader->report) && node_may_tell(max, &reader->report))
                report_add(&reader->report, DIAG_ERROR, &here, min->place, "min (%u) is more than max (%u)", values->workers_min,
                           values->workers_max);
        else if (min && max)
                report_add(&reader->report, DIAG_ERROR, &here, min->place, "min is more than max");
        else if (min)
                copy_setting(values, "isolation.workers.max", "isolation.workers.min");
        else
                copy_setting(values, "isolation.workers.min", "isolation.workers.max");
}

/* ---- Defaults and the sample ---- */

void schema_read_text(struct reader *reader, const struct at *at, const char *name, const char *text, void *object,
                      size_t offset) {
        CLEANUP_TEMPLATE struct template *template = NULL;
        CLEANUP_TREE struct tree *tree = NULL;
        struct node node = {.type = NODE_NULL};
        int r = template_of_text(&template, text, strlen(text), false);

        if (r == -EMSGSIZE)
                report_add(&reader->report, DIAG_ERROR, at, (struct place){0}, "is longer than 1 MiB");
        if (r == 0)
                r = tree_parse(&tree, template, &reader->report);
        if (r == -ENOMEM)
                reader->report.error = r;
        if (r < 0)
                return;
        if (tree_root(tree))
                node = *tree_root(tree);
        node.place = (struct place){0};
        for (size_t i = 0; i < n_config_keys; i++)
                if (str_eq(config_keys[i].name, name))
                        read_key(reader, at, &node, &config_keys[i], (char *)object + (config_keys[i].offset - offset));
}

int schema_defaults(struct daemon_config *config) {
        struct diags diags = {0};
        struct reader reader = {.report = {.diags = &diags, .file = "defaults"}, .base = "/"};

        for (size_t i = 0; i < n_config_keys; i++)
                schema_read_text(&reader, &(struct at){.key = config_keys[i].name}, config_keys[i].name, config_keys[i].initial,
                                 config, 0);
        diags_done(&diags);
        return reader.report.error;
}

/* The parts of the key that the key before did not have, each on its line. */
static void describe_key(FILE *file, const struct config_key *key, const char *before) {
        const char *part = key->name;
        int indent = 0;

        for (size_t len; part[len = strcspn(part, ".")] == '.'; part += len + 1, indent += 2) {
                size_t until = (size_t)(part - key->name) + len + 1;

                if (strncmp(key->name, before, until) != 0)
                        fprintf(file, "%s#%*s%.*s:\n", indent == 0 ? "\n" : "", indent, "", (int)len, part);
        }
        if (indent == 0)
                fprintf(file, "\n# %s\n", key->sentence);
        else
                fprintf(file, "#%*s# %s\n", indent, "", key->sentence);
        fprintf(file, "#%*s%s: %s\n", indent, "", part, key->initial);
}

void config_describe(FILE *file) {
        const char *before = "";

        fputs("# Settings of cpexd. Every key stands here with its default; remove the # before a key, and before those that it\n"
              "# lies in, to change it. Paths are relative to the folder of this file. Times: 30, 0.5, 500ms, 5s, 2m; sizes: "
              "512M, 1G.\n"
              "# Plugins are configured in plugins.yaml; each entry there may hold its own `isolation:`, and in that also\n"
              "# `group`, which has plugins share their workers, and `socket`, for a plugin server; cpexd.yaml(5) has both.\n",
              file);
        for (size_t i = 0; i < n_config_keys; i++) {
                if (is_of_entry(&config_keys[i]))
                        continue;
                describe_key(file, &config_keys[i], before);
                before = config_keys[i].name;
        }
}
