/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker's own client would refuse each of these too, but then the daemon is up, the plugin is not, and the reason stands in a log. What a URL
 * may be in detail (addresses that upstream's protection against forged requests bars, by a variable of the environment) is left to it.
 *
 * A type that is wrong was complained about already (config/shape.c); here it counts as nothing said.
 */

#include "config/transport.h"

#include <ctype.h>
#include <sys/stat.h>

#include "config/paths.h"

struct block {
        struct reader *reader;
        struct at at;
        const struct node *map; /* NULL: none */
};

#define complain(block, severity, key_, ...)                                                                \
        do {                                                                                                \
                struct at here_ = {.up = &(block)->at, .key = (key_)};                                      \
                report_add(&(block)->reader->report, severity, &here_, place_of(block, key_), __VA_ARGS__); \
        } while (0)

/* Where a key stands; where it is missing, the block. */
static struct place place_of(const struct block *block, const char *key) {
        const struct node *node = node_get(block->map, key);

        return node ? node->place : block->map->place;
}

static const struct node *get(const struct block *block, const char *key) {
        const struct node *node = node_get(block->map, key);

        return node && node->type != NODE_NULL ? node : NULL;
}

/* Return: the text under a key, NULL where there is none. An empty one is none, as in Python. */
static const char *text_of(const struct block *block, const char *key) {
        const struct node *node = get(block, key);

        return node && node->type == NODE_STR && *node->text ? node->text : NULL;
}

/* Return: what may be shown of the value under a key. */
static const char *shown(const struct block *block, const char *key) {
        return node_shown(node_get(block->map, key), &block->reader->report);
}

static bool is_blank(const struct node *node) {
        return node->type == NODE_STR && node->text[strspn(node->text, " \t\n\v\f\r")] == '\0';
}

/* Return: whether `path` below `folder` is of that type. One below somebody's home is for the worker to find. */
static bool exists(struct reader *reader, const char *folder, const char *path, mode_t type, struct stat *ret) {
        CLEANUP_FREE char *full = path_join(folder, path);

        if (!report_check(&reader->report, full != NULL) || *path == '~')
                return true;
        return stat(full, ret) == 0 && (ret->st_mode & S_IFMT) == type;
}

static void check_files(struct block *block) {
        static const char *const keys[] = {"certfile", "keyfile", "ca_bundle"};
        struct stat status;

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                const char *path = text_of(block, keys[i]);

                if (path && !exists(block->reader, block->reader->base, path, S_IFREG, &status))
                        complain(block, DIAG_ERROR, keys[i], "there is no file %s", shown(block, keys[i]));
        }
        if (text_of(block, "keyfile") && !text_of(block, "certfile"))
                complain(block, DIAG_ERROR, "keyfile", "a key needs the certificate it belongs to; give certfile too");
}

static void check_tls(struct block *block) {
        struct block tls = {block->reader, {.up = &block->at, .key = "tls"}, get(block, "tls")};

        if (!tls.map)
                return;
        check_files(&tls);
        if (get(block, "uds"))
                complain(block, DIAG_ERROR, "tls", "there is no TLS on a Unix socket (uds)");
}

/* Upstream wants the folder of a socket, for the socket itself comes with the server. */
static void check_uds(struct block *block) {
        const struct node *node = get(block, "uds");
        CLEANUP_FREE char *path = NULL, *folder = NULL;
        struct stat status;

        if (!node || node->type != NODE_STR)
                return;
        if (is_blank(node)) {
                complain(block, DIAG_ERROR, "uds", "expected the path of a socket, found \"%s\"", shown(block, "uds"));
                return;
        }
        path = path_join(block->reader->base, node->text);
        folder = path ? path_parent(path) : NULL;
        if (report_check(&block->reader->report, folder != NULL) && !exists(block->reader, "/", folder, S_IFDIR, &status) &&
            *node->text != '~')
                complain(block, DIAG_ERROR, "uds", "there is no folder for %s", shown(block, "uds"));
}

/* ---- mcp ---- */

static void check_url(struct block *block) {
        static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
        const char *url = text_of(block, "url");

        if (!url)
                return;
        for (size_t i = 0; i < ELEMENTS(schemes); i++)
                if (strncasecmp(url, schemes[i], strlen(schemes[i])) == 0)
                        return;
        complain(block, DIAG_ERROR, "url", "a URL begins with http:// or https://");
}

/* Upstream refuses a script that is not there only where its path is absolute; one that is relative to `cwd` it misses later. */
static void check_script(struct block *block) {
        const char *script = text_of(block, "script"), *cwd = text_of(block, "cwd");
        const char *suffix = script ? strrchr(path_basename(script), '.') : NULL;
        enum diag_severity severity = script && *script == '/' ? DIAG_ERROR : DIAG_WARNING;
        struct stat status = {.st_mode = S_IXUSR};
        CLEANUP_FREE char *folder = NULL;

        if (!script || (cwd && *cwd == '~'))
                return;
        folder = path_join(block->reader->base, cwd ? cwd : "");
        if (!report_check(&block->reader->report, folder != NULL))
                return;
        if (!exists(block->reader, folder, script, S_IFREG, &status))
                complain(block, severity, "script", "there is no file %s", shown(block, "script"));
        else if (!(status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) && !str_eq(suffix, ".py") && !str_eq(suffix, ".sh"))
                complain(block, severity, "script", "%s cannot be executed; only .py and .sh need not be",
                         shown(block, "script"));
}

static void check_cmd(struct block *block) {
        const struct node *cmd = get(block, "cmd");

        if (!cmd || cmd->type != NODE_LIST)
                return;
        if (cmd->n_items == 0)
                complain(block, DIAG_ERROR, "cmd", "expected a command and its arguments, found an empty list");
        for (size_t i = 0; i < cmd->n_items; i++)
                if (is_blank(cmd->items[i]))
                        complain(block, DIAG_ERROR, "cmd", "there is an empty text in it");
}

static void check_env(struct block *block) {
        const struct node *env = get(block, "env");

        if (!env || env->type != NODE_MAP)
                return;
        if (env->n_pairs == 0)
                complain(block, DIAG_ERROR, "env", "expected variables, found an empty map");
        for (size_t i = 0; i < env->n_pairs; i++)
                if (is_blank(env->pairs[i].key))
                        complain(block, DIAG_ERROR, "env", "there is a variable without a name in it");
}

static void check_cwd(struct block *block) {
        const char *cwd = text_of(block, "cwd");
        struct stat status;

        if (cwd && !exists(block->reader, block->reader->base, cwd, S_IFDIR, &status))
                complain(block, DIAG_ERROR, "cwd", "there is no folder %s", shown(block, "cwd"));
}

/* Complains about each of `keys` that is given. `of`: what they belong to. */
static void refuse_keys(struct block *block, const char *const *keys, size_t n, const char *of) {
        for (size_t i = 0; i < n; i++) {
                const struct node *node = get(block, keys[i]);

                if (node && (node->type != NODE_STR || *node->text))
                        complain(block, DIAG_ERROR, keys[i], "this belongs to proto %s", of);
        }
}

static void check_stdio(struct block *block) {
        static const char *const others[] = {"url", "uds", "tls"};
        bool script = text_of(block, "script"), cmd = get(block, "cmd");

        refuse_keys(block, others, ELEMENTS(others), "STREAMABLEHTTP");
        if (script && cmd)
                complain(block, DIAG_ERROR, "script", "give either script or cmd");
        else if (!script && !cmd)
                report_add(&block->reader->report, DIAG_ERROR, &block->at, block->map->place,
                           "proto STDIO needs the server's command: script or cmd");
}

static void check_http(struct block *block, bool sse) {
        static const char *const others[] = {"script", "cmd", "env", "cwd"}, *const not_sse[] = {"uds"};

        refuse_keys(block, others, ELEMENTS(others), "STDIO");
        if (!text_of(block, "url"))
                report_add(&block->reader->report, DIAG_ERROR, &block->at, block->map->place, "the url of the server is missing");
        if (!sse)
                return;
        refuse_keys(block, not_sse, ELEMENTS(not_sse), "STREAMABLEHTTP");
        complain(block, block->reader->disabled ? DIAG_WARNING : DIAG_FAULT, "proto",
                 "CPEX has no client for SSE, the plugin cannot start; use STREAMABLEHTTP");
}

static void check_mcp(struct block *block) {
        static const char *const protos[] = {"STREAMABLEHTTP", "STDIO", "SSE"};
        const struct node *node = get(block, "proto");
        struct at here = {.up = &block->at, .key = "proto"};
        int proto;

        check_url(block);
        check_script(block);
        check_cmd(block);
        check_env(block);
        check_cwd(block);
        check_uds(block);
        check_tls(block);
        if (!node || node->type != NODE_STR || !value_choice(block->reader, &here, node, protos, ELEMENTS(protos), &proto))
                return;
        if (proto == 1)
                check_stdio(block);
        else
                check_http(block, proto == 2);
}

/* ---- grpc and unix_socket ---- */

static void check_grpc(struct block *block) {
        const struct node *target = get(block, "target"), *uds = get(block, "uds");

        if (target && target->type == NODE_STR && !strchr(target->text, ':'))
                complain(block, DIAG_ERROR, "target", "expected host:port, found \"%s\"", shown(block, "target"));
        if (target && uds)
                complain(block, DIAG_ERROR, "target", "give either target or uds");
        else if (!target && !uds)
                report_add(&block->reader->report, DIAG_ERROR, &block->at, block->map->place,
                           "where the server is, is missing: target or uds");
        check_uds(block);
        check_tls(block);
}

static void check_unix_socket(struct block *block) {
        const struct node *path = get(block, "path");

        if (path && path->type == NODE_STR && *path->text != '/')
                complain(block, DIAG_ERROR, "path", "expected an absolute path, found \"%s\"", shown(block, "path"));
}

void transport_check(struct reader *reader, const struct at *at, const struct node *entry) {
        static const struct {
                const char *key;
                void (*check)(struct block *block);
        } blocks[] = {{"mcp", check_mcp}, {"grpc", check_grpc}, {"unix_socket", check_unix_socket}};

        for (size_t i = 0; i < ELEMENTS(blocks); i++) {
                struct block block = {reader, {.up = at, .key = blocks[i].key}, node_get(entry, blocks[i].key)};

                if (block.map && block.map->type == NODE_MAP)
                        blocks[i].check(&block);
        }
}
