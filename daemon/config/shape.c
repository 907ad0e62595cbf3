/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What upstream declares as pydantic models is declared here as tables of the same fields, so that the two can be laid side by side. Blocks
 * that cpexd does not use (the server settings) are checked for their shape alone: a file must not pass here and fail there, nor the
 * other way round for want of a certificate that lies on another machine. What mcp, grpc and unix_socket have to be beyond their shape is in
 * transport.c.
 */

#include "config/shape.h"

#define N SHAPE_NULL
#define R SHAPE_REQUIRED
#define K SHAPE_KEPT

static const struct shape_field client_tls_fields[] = {
        {"certfile", SHAPE_TEXT, N, 0, NULL},  {"keyfile", SHAPE_TEXT, N, 0, NULL},
        {"ca_bundle", SHAPE_TEXT, N, 0, NULL}, {"keyfile_password", SHAPE_TEXT, N, 0, NULL},
        {"verify", SHAPE_BOOL, 0, 0, NULL},    {"check_hostname", SHAPE_BOOL, 0, 0, NULL},
};
static const struct shape client_tls = SHAPE(client_tls_fields);

static const struct shape_field grpc_tls_fields[] = {
        {"certfile", SHAPE_TEXT, N, 0, NULL},         {"keyfile", SHAPE_TEXT, N, 0, NULL}, {"ca_bundle", SHAPE_TEXT, N, 0, NULL},
        {"keyfile_password", SHAPE_TEXT, N, 0, NULL}, {"verify", SHAPE_BOOL, 0, 0, NULL},
};
static const struct shape grpc_tls = SHAPE(grpc_tls_fields);

static const struct shape_field server_tls_fields[] = {
        {"certfile", SHAPE_TEXT, N, 0, NULL},     {"keyfile", SHAPE_TEXT, N, 0, NULL},
        {"ca_bundle", SHAPE_TEXT, N, 0, NULL},    {"keyfile_password", SHAPE_TEXT, N, 0, NULL},
        {"ssl_cert_reqs", SHAPE_INT, 0, 0, NULL}, {"client_auth", SHAPE_TEXT, 0, 0, NULL},
};
static const struct shape server_tls = SHAPE(server_tls_fields);

static const struct shape_field mcp_fields[] = {
        {"proto", SHAPE_TEXT, R, 0, NULL},
        {"url", SHAPE_TEXT, N, 0, NULL},
        {"script", SHAPE_TEXT, N, 0, NULL},
        {"cmd", SHAPE_TEXTS, N, 0, NULL},
        {"env", SHAPE_TEXT_MAP, N, 0, NULL},
        {"cwd", SHAPE_TEXT, N, 0, NULL},
        {"uds", SHAPE_TEXT, N, 0, NULL},
        {"tls", SHAPE_MODEL, N, 0, &client_tls},
        {"reconnect_attempts", SHAPE_INT, 0, 0, NULL},
        {"reconnect_delay", SHAPE_FLOAT, 0, 0, NULL},
};
static const struct shape mcp = SHAPE(mcp_fields);

static const struct shape_field grpc_fields[] = {
        {"target", SHAPE_TEXT, N, 0, NULL},
        {"uds", SHAPE_TEXT, N, 0, NULL},
        {"tls", SHAPE_MODEL, N, 0, &grpc_tls},
};
static const struct shape grpc = SHAPE(grpc_fields);

static const struct shape_field unix_socket_fields[] = {
        {"path", SHAPE_TEXT, R, 0, NULL},
        {"reconnect_attempts", SHAPE_INT, 0, 0, NULL},
        {"reconnect_delay", SHAPE_FLOAT, 0, 0, NULL},
        {"timeout", SHAPE_FLOAT, 0, 0, NULL},
};
static const struct shape unix_socket = SHAPE(unix_socket_fields);

static const struct shape_field server_fields[] = {
        {"host", SHAPE_TEXT, 0, 0, NULL},
        {"port", SHAPE_INT, 0, 0, NULL},
        {"uds", SHAPE_TEXT, N, 0, NULL},
        {"tls", SHAPE_MODEL, N, 0, &server_tls},
};
static const struct shape server = SHAPE(server_fields);

static const struct shape_field unix_server_fields[] = {
        {"path", SHAPE_TEXT, 0, 0, NULL},
};
static const struct shape unix_server = SHAPE(unix_server_fields);

#define TEMPLATE_FIELDS(name_)                                                                                    \
        {name_, SHAPE_TEXT, R, 0, NULL}, {"fields", SHAPE_TEXTS, N, 0, NULL}, {"result", SHAPE_BOOL, 0, 0, NULL}, \
                {"context", SHAPE_TEXTS, N, 0, NULL}, {"extensions", SHAPE_MAP, N, 0, NULL},

static const struct shape_field tool_template_fields[] = {TEMPLATE_FIELDS("tool_name")};
static const struct shape tool_template = SHAPE(tool_template_fields);
static const struct shape_field prompt_template_fields[] = {TEMPLATE_FIELDS("prompt_name")};
static const struct shape prompt_template = SHAPE(prompt_template_fields);
static const struct shape_field resource_template_fields[] = {TEMPLATE_FIELDS("resource_uri")};
static const struct shape resource_template = SHAPE(resource_template_fields);

static const struct shape_field applied_to_fields[] = {
        {"tools", SHAPE_MODELS, N, 0, &tool_template},
        {"prompts", SHAPE_MODELS, N, 0, &prompt_template},
        {"resources", SHAPE_MODELS, N, 0, &resource_template},
};
static const struct shape applied_to = SHAPE(applied_to_fields);

#define CONDITION(member) offsetof(struct plugin_condition, member), NULL

static const struct shape_field condition_fields[] = {
        {"server_ids", SHAPE_SET, N | K, CONDITION(server_ids)},
        {"tenant_ids", SHAPE_SET, N | K, CONDITION(tenant_ids)},
        {"tools", SHAPE_SET, N | K, CONDITION(tools)},
        {"prompts", SHAPE_SET, N | K, CONDITION(prompts)},
        {"resources", SHAPE_SET, N | K, CONDITION(resources)},
        {"agents", SHAPE_SET, N | K, CONDITION(agents)},
        {"user_patterns", SHAPE_TEXTS, N | K, CONDITION(user_patterns)},
        {"content_types", SHAPE_TEXTS, N | K, CONDITION(content_types)},
};
const struct shape shape_condition = SHAPE(condition_fields);

#define ENTRY(member) offsetof(struct plugin_entry, member), NULL

static const struct shape_field plugin_fields[] = {
        {"name", SHAPE_TEXT, R | K, ENTRY(name)},
        {"kind", SHAPE_TEXT, R | K, ENTRY(kind)},
        {"description", SHAPE_TEXT, N | K, ENTRY(description)},
        {"author", SHAPE_TEXT, N | K, ENTRY(author)},
        {"namespace", SHAPE_TEXT, N, 0, NULL},
        {"version", SHAPE_TEXT, N | K, ENTRY(version)},
        {"hooks", SHAPE_TEXTS, K, ENTRY(hooks)},
        {"tags", SHAPE_TEXTS, K, ENTRY(tags)},
        {"mode", SHAPE_ANY, 0, 0, NULL},
        {"on_error", SHAPE_ANY, 0, 0, NULL},
        {"priority", SHAPE_INT, K, ENTRY(priority)},
        {"max_content_size", SHAPE_INT, 0, 0, NULL},
        {"conditions", SHAPE_ANY, 0, 0, NULL},
        {"applied_to", SHAPE_MODEL, N, 0, &applied_to},
        {"capabilities", SHAPE_ANY, 0, 0, NULL},
        {"config", SHAPE_MAP, N, 0, NULL},
        {"mcp", SHAPE_MODEL, N, 0, &mcp},
        {"grpc", SHAPE_MODEL, N, 0, &grpc},
        {"unix_socket", SHAPE_MODEL, N, 0, &unix_socket},
        {"isolation", SHAPE_ANY, 0, 0, NULL},
};
const struct shape shape_plugin = SHAPE(plugin_fields);

static const struct shape_field config_fields[] = {
        {"plugins", SHAPE_ANY, 0, 0, NULL},
        {"plugin_dirs", SHAPE_TEXTS, K, 0, NULL},
        {"plugin_settings", SHAPE_ANY, 0, 0, NULL},
        {"server_settings", SHAPE_MODEL, N, 0, &server},
        {"grpc_server_settings", SHAPE_MODEL, N, 0, &server},
        {"unix_socket_server_settings", SHAPE_MODEL, N, 0, &unix_server},
};
const struct shape shape_config = SHAPE(config_fields);

static bool read_map(struct reader *reader, const struct at *at, const struct node *node, bool texts) {
        bool ok = node->type == NODE_MAP || value_refuse(reader, at, node, "a map");

        for (size_t i = 0; node->type == NODE_MAP && i < node->n_pairs; i++) {
                const struct pair *pair = &node->pairs[i];
                struct at here = {.up = at, .key = node_shown(pair->key, &reader->report)};
                CLEANUP_FREE char *text = NULL;

                if (pair->key->type != NODE_STR)
                        ok = value_refuse(reader, at, pair->key, "texts as keys");
                if (texts)
                        ok = value_text(reader, &here, pair->value, &text) && ok;
        }
        return ok;
}

static bool read_models(struct reader *reader, const struct at *at, const struct node *node, const struct shape *shape) {
        bool ok = node->type == NODE_LIST || value_refuse(reader, at, node, "a list");

        for (size_t i = 0; node->type == NODE_LIST && i < node->n_items; i++) {
                struct at item = {.up = at->up, .key = at->key, .index = i + 1};

                ok = shape_read(reader, &item, node->items[i], shape, NULL) && ok;
        }
        return ok;
}

static bool read_field(struct reader *reader, const struct at *at, const struct node *node, const struct shape_field *field,
                       void *target) {
        CLEANUP_FREE char *text = NULL;
        struct strlist list = {0};
        int64_t integer;
        double number;
        bool flag, ok;

        if (node->type == NODE_NULL && field->flags & SHAPE_NULL)
                return true;
        switch (field->kind) {
        case SHAPE_ANY:
                return true;
        case SHAPE_TEXT:
                return value_text(reader, at, node, target ? target : &text);
        case SHAPE_INT:
                return value_int(reader, at, node, target ? target : &integer);
        case SHAPE_BOOL:
                return value_bool(reader, at, node, &flag);
        case SHAPE_FLOAT:
                return value_float(reader, at, node, &number);
        case SHAPE_TEXTS:
        case SHAPE_SET:
                ok = value_texts(reader, at, node, field->kind == SHAPE_SET, target ? target : &list);
                strlist_done(&list);
                return ok;
        case SHAPE_MAP:
        case SHAPE_TEXT_MAP:
                return read_map(reader, at, node, field->kind == SHAPE_TEXT_MAP);
        case SHAPE_MODEL:
                return shape_read(reader, at, node, field->shape, NULL);
        case SHAPE_MODELS:
                return read_models(reader, at, node, field->shape);
        }
        return true;
}

/* What CPEX has below `config` is often put beside it. */
static bool belongs_into_config(const struct node *key) {
        return node_is(key, "class_name") || node_is(key, "script_path") || node_is(key, "requirements_file");
}

static void warn_unknown(struct reader *reader, const struct at *at, const struct node *key, const struct shape *shape) {
        const char *names[ELEMENTS(plugin_fields)]; /* the longest shape */

        for (size_t i = 0; i < shape->n; i++) {
                names[i] = shape->fields[i].name;
                if (node_is(key, names[i]))
                        return;
        }
        if (shape == &shape_plugin && belongs_into_config(key))
                report_add(&reader->report, DIAG_WARNING, at, key->place, "\"%s\" is ignored here; it belongs into config",
                           node_shown(key, &reader->report));
        else
                value_unknown_key(reader, at, key, names, shape->n);
}

bool shape_read(struct reader *reader, const struct at *at, const struct node *map, const struct shape *shape, void *object) {
        bool ok = true;

        if (map->type != NODE_MAP)
                return value_refuse(reader, at, map, "a map");
        for (size_t i = 0; i < map->n_pairs; i++)
                warn_unknown(reader, at, map->pairs[i].key, shape);
        for (size_t i = 0; i < shape->n; i++) {
                const struct shape_field *field = &shape->fields[i];
                const struct node *node = node_get(map, field->name);
                struct at here = {.up = at, .key = field->name};
                void *target = object && field->flags & SHAPE_KEPT ? (char *)object + field->offset : NULL;

                if (node)
                        ok = read_field(reader, &here, node, field, target) && ok;
                else if (field->flags & SHAPE_REQUIRED) {
                        report_add(&reader->report, DIAG_ERROR, at, map->place, "the key \"%s\" is missing", field->name);
                        ok = false;
                }
        }
        return ok;
}
