/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An external plugin is served by somebody else's process. How that is reached stands in one of four places: upstream's own mcp, grpc and
 * unix_socket, or isolation.socket, for a server that speaks our protocol. Two of them are one too many, whoever would win.
 *
 * Upstream's three are spoken by upstream's clients, each in a worker: to all that comes after, the entry is one of a plugin like any other,
 * whose class is that client.
 */

#include "config/external.h"

#include <sys/stat.h>

#include "config/paths.h"
#include "config/transport.h"

static const struct transport {
        const char *key, *class_name;
} transports[] = {
        {"mcp", "cpexd_worker.external.mcp.Client"},
        {"grpc", "cpexd_worker.external.grpc.Client"},
        {"unix_socket", "cpexd_worker.external.unix.Client"},
};
/* What they are told by the environment: certificates, and how long they wait. */
static const char *const variables_of_clients[] = {"PLUGINS_CLIENT_MTLS_*", "PLUGINS_GRPC_CLIENT_MTLS_*", "PLUGINS_HTTPX_*",
                                                   "PLUGINS_SKIP_SSL_VERIFY"};
static const char requirements_of_clients[] = "external.txt"; /* lies beside the shim */

/* Return: the last of upstream's that are given, NULL: none; *ret_n: how many there are. */
static const struct transport *find_transport(const struct node *entry, unsigned *ret_n) {
        const struct transport *found = NULL;

        *ret_n = 0;
        for (size_t i = 0; i < ELEMENTS(transports); i++) {
                const struct node *node = node_get(entry, transports[i].key);

                if (!node || node->type == NODE_NULL)
                        continue;
                found = &transports[i];
                (*ret_n)++;
        }
        return found;
}

static void check_socket(struct reader *reader, const struct at *at, const struct node *entry,
                         const struct plugin_entry *plugin) {
        const struct node *node = node_get(node_get(entry, "isolation"), "socket");
        struct at isolation = {.up = at, .key = "isolation"}, here = {.up = &isolation, .key = "socket"};
        const struct transport *other;
        unsigned n;

        if (!str_eq(plugin->kind, "external"))
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "only a plugin of kind external has a server of its own; this one is of kind %s",
                           node_shown(node_get(entry, "kind"), &reader->report));
        if (strlen(plugin->isolation.socket) > PATH_SOCKET_MAX)
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "the path of a socket has at most %zu bytes, %s has %zu", PATH_SOCKET_MAX,
                           reader->base_secret || !node_may_tell(node, &reader->report) ? "…" : plugin->isolation.socket,
                           strlen(plugin->isolation.socket));
        other = find_transport(entry, &n);
        if (other)
                report_add(&reader->report, DIAG_ERROR, &here, node->place,
                           "the server is reached by %s already; give one of them", other->key);
}

static void check_kind(struct reader *reader, const struct at *at, const struct node *entry, const struct plugin_entry *plugin) {
        const struct node *config = node_get(entry, "config"), *socket = node_get(node_get(entry, "isolation"), "socket");
        struct at here = {.up = at, .key = "config"};
        unsigned n;
        const struct transport *transport = find_transport(entry, &n);

        if (config && config->type == NODE_MAP && config->n_pairs > 0)
                report_add(&reader->report, DIAG_ERROR, &here, config->place,
                           "an external plugin is configured where its server is; here this has no effect");
        if (n > 1)
                report_add(&reader->report, DIAG_ERROR, at, node_get(entry, transport->key)->place,
                           "the server is reached in %u ways; give one of mcp, grpc and unix_socket", n);
        else if (n == 0 && !socket)
                report_add(
                        &reader->report, DIAG_ERROR, at, node_get(entry, "kind")->place,
                        "how the server of an external plugin is reached is missing: mcp, grpc, unix_socket or isolation.socket");
        if (n == 1 && str_eq(transport->key, "unix_socket") && plugin->hooks.n == 0)
                report_add(&reader->report, DIAG_WARNING, at, node_get(entry, "kind")->place,
                           "the plugin has no hooks; over a unix_socket CPEX does not ask the server for them");
}

void external_check(struct reader *reader, const struct at *at, const struct node *entry, const struct plugin_entry *plugin) {
        transport_check(reader, at, entry);
        if (plugin->isolation.socket)
                check_socket(reader, at, entry, plugin);
        if (str_eq(plugin->kind, "external"))
                check_kind(reader, at, entry, plugin);
}

/* The requirements that the entry itself names go before those that come with cpexd; the default is for native plugins. */
static void find_requirements(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        const struct node *node = node_get(node_get(entry, "isolation"), "requirements");
        struct at isolation = {.up = at, .key = "isolation"}, here = {.up = &isolation, .key = "requirements"};
        bool own = node && ret->isolation.requirements;
        struct stat status;

        ret->requirements_file = strdup(own ? ret->isolation.requirements : requirements_of_clients);
        if (report_check(&reader->report, ret->requirements_file != NULL) && own &&
            (stat(ret->requirements_file, &status) < 0 || !S_ISREG(status.st_mode)))
                report_add(&reader->report, DIAG_ERROR, &here, node->place, "there is no file %s",
                           node_shown(node, &reader->report));
}

void external_find(struct reader *reader, const struct at *at, const struct node *entry, struct plugin_entry *ret) {
        unsigned n;
        const struct transport *transport = find_transport(entry, &n);

        if (n != 1)
                return;
        ret->class_name = strdup(transport->class_name);
        (void)report_check(&reader->report, ret->class_name != NULL);
        for (size_t i = 0; i < ELEMENTS(variables_of_clients); i++)
                (void)report_check(&reader->report, strlist_append(&ret->isolation.env, variables_of_clients[i]) == 0);
        find_requirements(reader, at, entry, ret);
}
