/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a plugins.yaml and a cpexd.yaml mean, checked and with every default filled in. Immutable once loaded (config/load.h);
 * a generation holds one of each.
 */

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

struct strlist {
        char **items;
        size_t n;
};

enum plugin_mode {
        PLUGIN_SEQUENTIAL,
        PLUGIN_TRANSFORM,
        PLUGIN_AUDIT,
        PLUGIN_CONCURRENT,
        PLUGIN_FIRE_AND_FORGET,
        PLUGIN_DISABLED,
        PLUGIN_MODE_MAX_,
};
const char *plugin_mode_name(enum plugin_mode mode); /* as CPEX spells it */

enum on_error { ON_ERROR_FAIL, ON_ERROR_IGNORE, ON_ERROR_DISABLE, ON_ERROR_MAX_ };
const char *on_error_name(enum on_error on_error);

/* Fields of one condition are ANDed; an empty list restricts nothing. */
struct plugin_condition {
        struct strlist server_ids, tenant_ids, tools, prompts, resources, agents, user_patterns, content_types;
};

enum sandbox_profile {
        SANDBOX_OFF,
        SANDBOX_DEFAULT,
        SANDBOX_STRICT, /* no child processes */
        SANDBOX_PROFILE_MAX_,
};
const char *sandbox_profile_name(enum sandbox_profile profile);

/* What a worker may touch beside what each needs (worker-shim/launch). */
struct sandbox {
        int profile;                /* enum sandbox_profile */
        int require;                /* do not start where the kernel lacks a piece of it */
        unsigned tasks;             /* processes and threads; 0: not limited */
        struct strlist network;     /* "all", "unix", or what ends in a port (sandbox_port()); none: no sockets */
        struct strlist read, write; /* absolute */
        /* Which files these were when they were read here: a worker has those that were there when it started, whatever has replaced them. */
        uint64_t identity;
};

/* Return: the port of "HOST:PORT" or "PORT", 0 where it is none. */
unsigned sandbox_port(const char *item);

/* Where a setting comes from: a line of a file, unless it is the default. */
struct origin {
        enum {
                ORIGIN_DEFAULT,
                ORIGIN_DAEMON,         /* cpexd.yaml */
                ORIGIN_PLUGINS,        /* plugins.yaml */
                ORIGIN_RENDERED,       /* what Jinja2 made of that */
                ORIGIN_PLUGIN_TIMEOUT, /* plugin_settings of either, or the environment */
                ORIGIN_KIND,           /* what is the default of that kind of plugins */
        } from;
        unsigned line;
        bool secret; /* its value is not to be shown */
};
#define ISOLATION_KEYS 32 /* at most */

/* The key `isolation` of a plugin's entry, over the defaults of cpexd.yaml. */
struct isolation {
        struct origin origins[ISOLATION_KEYS]; /* of its keys in the order of the table (schema.h) */
        char *python;                          /* a path, or a name to look up in PATH */
        unsigned workers_min;                  /* ≥ 1 */
        unsigned workers_max;                  /* ≥ workers_min */
        unsigned max_concurrent;               /* calls in flight in one worker, ≥ 1 */
        unsigned queue;                        /* calls that may wait for a worker */
        usec_t idle_usec;                      /* a worker beyond workers_min that had nothing to do for so long is stopped */
        usec_t queue_timeout_usec;             /* how long a call may wait; 0: as long as it may run */
        unsigned recycle_calls;                /* a worker is replaced after so many; 0: never */
        usec_t recycle_age_usec;
        uint64_t recycle_memory_bytes; /* resident */
        usec_t timeout_usec;           /* one call of one plugin */
        usec_t startup_timeout_usec;
        uint64_t memory_bytes; /* 0: not limited */
        unsigned cpu_percent;  /* of one processor; 0: not limited */
        uint64_t files;        /* RLIMIT_NOFILE */
        struct strlist env;    /* names of variables, or NAME*, that workers inherit beyond the harmless ones */
        struct sandbox sandbox;
        bool zygote;        /* workers are forked off a process that has loaded the plugin's class */
        char *requirements; /* absolute: for native and external plugins; NULL: none */
        char *group;        /* plugins of the same one have their workers in common; NULL: it has its own */
        char *socket;       /* absolute: where a plugin server speaks docs/protocol.md; NULL: the plugin runs in workers */
};

struct plugin_entry {
        char *name;
        char *kind;                           /* as written: "isolated_venv", "external", or a class */
        char *version, *description, *author; /* NULL: not given */
        struct strlist hooks, tags, capabilities;
        enum plugin_mode mode;
        enum on_error on_error;
        int64_t priority;
        struct plugin_condition *conditions; /* ORed; none: always */
        size_t n_conditions;

        char *class_name;          /* "package.module.Class" */
        char *script_path;         /* absolute: goes first on sys.path; NULL: nothing does */
        struct strlist more_paths; /* absolute: go last on sys.path */
        char *code;                /* absolute: the folder or file with the plugin's own code; NULL: it has none */
        char *requirements_file;   /* absolute, or beside the shim until a generation has it; NULL: none, or named and absent */
        struct isolation isolation;
        unsigned n_fellows; /* of the first of a group: how many others there are in it */

        struct buf entry;           /* the whole entry as one msgpack map, for the plugin's PluginConfig */
        struct strlist config_keys; /* of `config`, as written: for execution records */
        unsigned line, column;      /* of the entry, for messages */
        struct origin mode_origin, on_error_origin, priority_origin;
};

/* Fields that plugins may change on one hook (CPEX's HookPayloadPolicy). */
struct hook_policy {
        char *hook;
        struct strlist writable_fields;
};

struct hook_policies {
        struct hook_policy *items;
        size_t n;
};

struct plugins_config {
        struct buf text;     /* what it was read from */
        struct buf rendered; /* what Jinja2 made of that; empty where it did not have to */
        char *path;          /* absolute */
        char *project_root;  /* absolute */
        struct plugin_entry *plugins;
        size_t n_plugins;
        unsigned execution_pool; /* plugins of the concurrent phase that run at once in one call */
        unsigned n_shared;       /* references beside the first */
        bool lists_plugins;      /* `plugins:` is there and a list, though it may be empty */
        bool fail_on_plugin_error;
        bool default_deny; /* default_hook_policy: deny */
        struct hook_policy *policies;
        size_t n_policies;
};

/* What `plugin_settings` says, in either file. cpexd.yaml goes before plugins.yaml, which goes before the environment (PLUGINS_…). */
struct plugin_settings {
        usec_t timeout_usec;      /* 0: not given */
        unsigned execution_pool;  /* 0: not given */
        int fail_on_plugin_error; /* -1: not given */
        int default_deny;         /* -1: not given */
        struct hook_policies policies;
};

/* Of which calls a decision is written. */
enum decisions_which {
        DECISIONS_ALL,
        DECISIONS_CHANGED, /* those that came out other than if there were no plugins: denied, failed, changed, objected to */
        DECISIONS_DENIED,  /* those that were denied or ended in an error */
};

struct socket_config {
        char *path; /* absolute */
        unsigned mode;
};

/* How packages are installed (daemon/venv). */
struct venv_settings {
        int sandbox, require_hashes, only_binary; /* booleans */
        char *wheelhouse;                         /* absolute; NULL: indexes */
        struct strlist read;                      /* absolute */
        struct strlist env;
        uint64_t max_bytes;    /* 0: any */
        uint64_t memory_bytes; /* 0: not limited */
        usec_t timeout_usec;
};

enum caller_kind { CALLER_ANY, CALLER_USER, CALLER_GROUP };

struct caller {
        enum caller_kind kind;
        uint32_t id;          /* of the user or group */
        struct strlist hooks; /* patterns of those that it may call; none: all */
};

struct callers {
        struct caller *items;
        size_t n;
};
void callers_done(struct callers *callers);

/* Who may do what, beside root and the daemon's own user, who may do all. */
struct access {
        struct callers invoke, status, admin;
};

struct daemon_config {
        struct buf text;       /* what it was read from */
        char *path;            /* of cpexd.yaml, absolute; NULL: none, all defaults */
        char *plugins;         /* absolute path of plugins.yaml */
        char *plugins_name;    /* the same as somebody wrote it, for messages */
        char *project_root;    /* absolute; NULL: the folder of plugins.yaml */
        bool root_secret;      /* the project root may come from the environment, and is not to be shown */
        char *template_python; /* absolute */
        char *cache_dir;       /* absolute: venvs live in cache_dir/venvs */
        struct socket_config socket, control, metrics; /* metrics.path: NULL: none */
        unsigned metrics_port;                         /* on 127.0.0.1; 0: none */
        struct access access;
        struct venv_settings venv;
        enum log_level log_level;
        char *decisions_path;       /* absolute; NULL: none are written */
        int decisions_which;        /* enum decisions_which */
        size_t log_keep_bytes;      /* of each plugin's lines, in memory */
        struct isolation isolation; /* defaults */
        struct plugin_settings settings;

        size_t frame_bytes;    /* longest message */
        unsigned values;       /* in one message */
        size_t output_bytes;   /* most bytes kept for a peer that does not read */
        unsigned connections;  /* hosts connected at once */
        unsigned calls;        /* calls in flight, each connection */
        unsigned calls_total;  /* and of all of them */
        size_t bytes_total;    /* in the buffers of all hosts, and in their calls in flight */
        unsigned connect_rate; /* connections a second, each user */
        int startup_skip;      /* startup_failures: skip */
        int enforce_tiers;     /* extension_tiers: enforce */
        int strip_headers;     /* strip_sensitive_headers: 1 */
        int one_core;
        usec_t drain_usec; /* how long calls in flight may take at a stop or after a reload */
};

void strlist_done(struct strlist *list);
bool strlist_has(const struct strlist *list, const char *item);
int strlist_append(struct strlist *list, const char *text); /* a copy */
int strlist_append_all(struct strlist *list, const struct strlist *more);

/* Options of a program: one with its value, and the same one with each value. Return: 0 or -ENOMEM. */
int strlist_append_option(struct strlist *list, const char *option, const char *value);
int strlist_append_options(struct strlist *list, const char *option, const struct strlist *values);

/* Return: the list for `hook`, a new one where there was none; NULL: no memory. */
struct strlist *hook_policies_add(struct hook_policies *policies, const char *hook);
void hook_policies_done(struct hook_policies *policies);
void isolation_done(struct isolation *isolation);

/* Return: 0 or -ENOMEM; *ret is to be taken down in any case. */
int isolation_copy(struct isolation *ret, const struct isolation *from);
void plugin_entry_done(struct plugin_entry *entry);
struct plugin_entry *plugin_entry_free(struct plugin_entry *entry); /* Return: NULL */

/* Return: whether a plugin of the one entry runs as one of the other would: nothing of it need be started again. */
bool plugin_entry_same(const struct plugin_entry *a, const struct plugin_entry *b);

struct plugins_config *plugins_config_ref(struct plugins_config *config);
void plugins_config_free(struct plugins_config *config); /* gives up a reference */
void daemon_config_free(struct daemon_config *config);
