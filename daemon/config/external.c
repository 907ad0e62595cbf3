/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An external plugin is served by somebody else's process. How that is reached stands in one of four places: upstream's own mcp, grpc and
 * unix_socket, or isolation.socket, for a server that speaks our protocol. Two of them are one too many, whoever would win.
 */

#include "config/external.h"

#include <sys/un.h>

static const char *const transports[] = {"mcp", "grpc", "unix_socket"};

static void check_socket(struct reader *reader, const struct at *at, const struct node *entry,
                         const struct plugin_entry *plugin) {
        const struct node *node = node_get(node_get(entry, "isolation"), "socket");
        struct at isolation = {.up = at, .key = "isolation"}, here = {.up = &isolation, .key = "socket"};
        size_t longest = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

        if (!str_eq(plugin->kind, "external"))
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "only a plugin of kind external has a server of its own; this one is of kind %s",
                           node_shown(node_get(entry, "kind"), &reader->report));
        if (strlen(plugin->isolation.socket) > longest)
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "the path of a socket has at most %zu bytes, %s has %zu", longest,
                           reader->base_secret || !node_may_tell(node, &reader->report) ? "…" : plugin->isolation.socket,
                           strlen(plugin->isolation.socket));
        for (size_t i = 0; i < ELEMENTS(transports); i++) {
                const struct node *other = node_get(entry, transports[i]);

                if (other && other->type != NODE_NULL)
                        report_add(&reader->report, DIAG_ERROR, &here, node->place,
                                   "the server is reached by %s already; give one of them", transports[i]);
        }
}

void external_check(struct reader *reader, const struct at *at, const struct node *entry, const struct plugin_entry *plugin) {
        if (plugin->isolation.socket)
                check_socket(reader, at, entry, plugin);
}
