/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables, from the inner models to the outer ones. A row is a field: its name, its type, and what it holds where it is left out.
 */

#include "pipeline/models.h"

/* A row is a line: */
/* clang-format off */

#define FIELD(its_name, of, default_value) {.name = its_name, .type = &(of), .otherwise = LAX_##default_value}
#define TEXT(its_name, of, default_text) {.name = its_name, .type = &(of), .otherwise = LAX_TEXT, .text = default_text}
#define END {.name = NULL}
#define MODEL(title, rows) {.kind = LAX_MODEL, .name = title, .fields = rows}
#define CHOICE(...) {.kind = LAX_CHOICE, .choices = (const char *const[]){__VA_ARGS__, NULL}}

static const struct lax_type any = {.kind = LAX_ANY};
static const struct lax_type str = {.kind = LAX_STR};
static const struct lax_type integer = {.kind = LAX_INT};
static const struct lax_type number = {.kind = LAX_FLOAT};
static const struct lax_type boolean = {.kind = LAX_BOOL};
static const struct lax_type bytes = {.kind = LAX_BYTES};
static const struct lax_type secret = {.kind = LAX_SECRET};
static const struct lax_type moment = {.kind = LAX_DATETIME};
static const struct lax_type content_type = {.kind = LAX_CONTENT_TYPE};
static const struct lax_type str_or_dict = {.kind = LAX_STR_OR_DICT};
static const struct lax_type list = {.kind = LAX_LIST};
static const struct lax_type dict = {.kind = LAX_DICT};
static const struct lax_type str_list = {.kind = LAX_LIST, .item = &str};
static const struct lax_type str_set = {.kind = LAX_SET, .item = &str};
static const struct lax_type str_tuple = {.kind = LAX_TUPLE, .item = &str};
static const struct lax_type str_dict = {.kind = LAX_DICT, .item = &str};
static const struct lax_type dict_list = {.kind = LAX_LIST, .item = &dict};

/* ---- The context ---- */

static const struct lax_field user_context_fields[] = {
        FIELD("user_id", str, REQUIRED),
        FIELD("email", str, NIL),
        FIELD("full_name", str, NIL),
        FIELD("is_admin", boolean, FALSE),
        FIELD("groups", str_list, EMPTY_LIST),
        FIELD("roles", str_list, EMPTY_LIST),
        FIELD("team_id", str, NIL),
        FIELD("teams", str_list, NIL),
        FIELD("department", str, NIL),
        FIELD("attributes", dict, EMPTY_MAP),
        FIELD("auth_method", str, NIL),
        FIELD("authenticated_at", moment, NIL),
        FIELD("service_account", str, NIL),
        FIELD("delegation_chain", str_list, EMPTY_LIST),
        END,
};
static const struct lax_type user_context = MODEL("UserContext", user_context_fields);

static const struct lax_field model_global_context_fields[] = {
        FIELD("request_id", str, REQUIRED),
        FIELD("user", str_or_dict, NIL),
        FIELD("user_context", user_context, NIL),
        FIELD("tenant_id", str, NIL),
        FIELD("server_id", str, NIL),
        FIELD("content_type", content_type, NIL),
        FIELD("state", dict, EMPTY_MAP),
        FIELD("metadata", dict, EMPTY_MAP),
        END,
};
const struct lax_type model_global_context = MODEL("GlobalContext", model_global_context_fields);

/* ---- Extensions ---- */

static const struct lax_field request_fields[] = {
        FIELD("environment", str, NIL),
        FIELD("request_id", str, NIL),
        FIELD("timestamp", str, NIL),
        FIELD("trace_id", str, NIL),
        FIELD("span_id", str, NIL),
        END,
};
static const struct lax_type request = MODEL("RequestExtension", request_fields);

static const struct lax_field no_fields[] = {END};
/* The history may hold models of any class, which from here are maps. */
static const struct lax_type some_model = {.kind = LAX_MODEL, .name = "BaseModel", .fields = no_fields};
static const struct lax_type history = {.kind = LAX_LIST, .item = &some_model, .max = 100};
static const struct lax_field conversation_fields[] = {
        FIELD("history", history, EMPTY_LIST),
        FIELD("summary", str, NIL),
        FIELD("topics", str_list, EMPTY_LIST),
        END,
};
static const struct lax_type conversation = MODEL("ConversationContext", conversation_fields);
static const struct lax_field agent_fields[] = {
        FIELD("input", str, NIL),
        FIELD("session_id", str, NIL),
        FIELD("conversation_id", str, NIL),
        FIELD("turn", integer, NIL),
        FIELD("agent_id", str, NIL),
        FIELD("parent_agent_id", str, NIL),
        FIELD("conversation", conversation, NIL),
        END,
};
static const struct lax_type agent = MODEL("AgentExtension", agent_fields);

static const struct lax_field http_fields[] = {
        FIELD("headers", str_dict, EMPTY_MAP),
        END,
};
static const struct lax_type http = MODEL("HttpExtension", http_fields);

static const struct lax_type subject_type = CHOICE("user", "agent", "service", "system");
static const struct lax_field subject_fields[] = {
        FIELD("id", str, REQUIRED),
        FIELD("type", subject_type, REQUIRED),
        FIELD("roles", str_set, EMPTY_LIST),
        FIELD("permissions", str_set, EMPTY_LIST),
        FIELD("teams", str_set, EMPTY_LIST),
        FIELD("claims", str_dict, EMPTY_MAP),
        END,
};
static const struct lax_type subject = MODEL("SubjectExtension", subject_fields);
static const struct lax_field object_profile_fields[] = {
        TEXT("managed_by", str, "host"),
        FIELD("permissions", str_list, EMPTY_LIST),
        FIELD("trust_domain", str, NIL),
        FIELD("data_scope", str_list, EMPTY_LIST),
        END,
};
static const struct lax_type object_profile = MODEL("ObjectSecurityProfile", object_profile_fields);
static const struct lax_field retention_fields[] = {
        FIELD("max_age_seconds", integer, NIL),
        TEXT("policy", str, "persistent"),
        FIELD("delete_after", str, NIL),
        END,
};
static const struct lax_type retention = MODEL("RetentionPolicy", retention_fields);
static const struct lax_field data_policy_fields[] = {
        FIELD("apply_labels", str_list, EMPTY_LIST),
        FIELD("allowed_actions", str_list, NIL),
        FIELD("denied_actions", str_list, EMPTY_LIST),
        FIELD("retention", retention, NIL),
        END,
};
static const struct lax_type data_policy = MODEL("DataPolicy", data_policy_fields);
static const struct lax_type objects = {.kind = LAX_DICT, .item = &object_profile},
                             data = {.kind = LAX_DICT, .item = &data_policy};
static const struct lax_field security_fields[] = {
        FIELD("labels", str_set, EMPTY_LIST),
        FIELD("classification", str, NIL),
        FIELD("subject", subject, NIL),
        FIELD("objects", objects, EMPTY_MAP),
        FIELD("data", data, EMPTY_MAP),
        END,
};
static const struct lax_type security = MODEL("SecurityExtension", security_fields);

static const struct lax_field hop_fields[] = {
        FIELD("subject_id", str, REQUIRED),
        FIELD("subject_type", str, REQUIRED),
        FIELD("audience", str, NIL),
        FIELD("scopes_granted", str_tuple, EMPTY_LIST),
        FIELD("timestamp", moment, NOW),
        FIELD("ttl_seconds", integer, NIL),
        FIELD("strategy", str, NIL),
        FIELD("from_cache", boolean, FALSE),
        END,
};
static const struct lax_type hop = MODEL("DelegationHop", hop_fields);
static const struct lax_type chain = {.kind = LAX_TUPLE, .item = &hop};
static const struct lax_field delegation_fields[] = {
        FIELD("chain", chain, EMPTY_LIST),
        FIELD("depth", integer, ZERO),
        FIELD("origin_subject_id", str, NIL),
        FIELD("actor_subject_id", str, NIL),
        FIELD("delegated", boolean, FALSE),
        FIELD("age_seconds", number, ZERO_FLOAT),
        END,
};
static const struct lax_type delegation = MODEL("DelegationExtension", delegation_fields);

static const struct lax_field tool_metadata_fields[] = {
        FIELD("name", str, REQUIRED),
        FIELD("title", str, NIL),
        FIELD("description", str, NIL),
        FIELD("input_schema", dict, NIL),
        FIELD("output_schema", dict, NIL),
        FIELD("server_id", str, NIL),
        FIELD("namespace", str, NIL),
        FIELD("annotations", dict, EMPTY_MAP),
        END,
};
static const struct lax_type tool_metadata = MODEL("ToolMetadata", tool_metadata_fields);
static const struct lax_field resource_metadata_fields[] = {
        FIELD("uri", str, REQUIRED),
        FIELD("name", str, NIL),
        FIELD("description", str, NIL),
        FIELD("mime_type", str, NIL),
        FIELD("server_id", str, NIL),
        FIELD("annotations", dict, EMPTY_MAP),
        END,
};
static const struct lax_type resource_metadata = MODEL("ResourceMetadata", resource_metadata_fields);
static const struct lax_field prompt_metadata_fields[] = {
        FIELD("name", str, REQUIRED),
        FIELD("description", str, NIL),
        FIELD("arguments", dict_list, NIL),
        FIELD("server_id", str, NIL),
        FIELD("annotations", dict, EMPTY_MAP),
        END,
};
static const struct lax_type prompt_metadata = MODEL("PromptMetadata", prompt_metadata_fields);
static const struct lax_field mcp_fields[] = {
        FIELD("tool", tool_metadata, NIL),
        FIELD("resource", resource_metadata, NIL),
        FIELD("prompt", prompt_metadata, NIL),
        END,
};
static const struct lax_type mcp = MODEL("MCPExtension", mcp_fields);

static const struct lax_type stop_reason = CHOICE("end", "return", "call", "max_tokens", "stop_sequence");
static const struct lax_field token_usage_fields[] = {
        FIELD("input_tokens", integer, REQUIRED),
        FIELD("output_tokens", integer, REQUIRED),
        FIELD("total_tokens", integer, REQUIRED),
        END,
};
static const struct lax_type token_usage = MODEL("TokenUsage", token_usage_fields);
static const struct lax_field completion_fields[] = {
        FIELD("stop_reason", stop_reason, NIL),
        FIELD("tokens", token_usage, NIL),
        FIELD("model", str, NIL),
        FIELD("raw_format", str, NIL),
        FIELD("created_at", str, NIL),
        FIELD("latency_ms", integer, NIL),
        END,
};
static const struct lax_type completion = MODEL("CompletionExtension", completion_fields);

static const struct lax_field provenance_fields[] = {
        FIELD("source", str, NIL),
        FIELD("message_id", str, NIL),
        FIELD("parent_id", str, NIL),
        END,
};
static const struct lax_type provenance = MODEL("ProvenanceExtension", provenance_fields);
static const struct lax_field llm_fields[] = {
        FIELD("model_id", str, NIL),
        FIELD("provider", str, NIL),
        FIELD("capabilities", str_list, EMPTY_LIST),
        END,
};
static const struct lax_type llm = MODEL("LLMExtension", llm_fields);
static const struct lax_field framework_fields[] = {
        FIELD("framework", str, NIL),
        FIELD("framework_version", str, NIL),
        FIELD("node_id", str, NIL),
        FIELD("graph_id", str, NIL),
        FIELD("metadata", dict, EMPTY_MAP),
        END,
};
static const struct lax_type framework = MODEL("FrameworkExtension", framework_fields);
static const struct lax_field meta_fields[] = {
        FIELD("tags", str_set, EMPTY_LIST),
        FIELD("scope", str, NIL),
        FIELD("properties", str_dict, EMPTY_MAP),
        END,
};
static const struct lax_type meta = MODEL("MetaExtension", meta_fields);

static const struct lax_field model_extensions_fields[] = {
        FIELD("request", request, NIL),
        FIELD("agent", agent, NIL),
        FIELD("http", http, NIL),
        FIELD("security", security, NIL),
        FIELD("delegation", delegation, NIL),
        FIELD("mcp", mcp, NIL),
        FIELD("completion", completion, NIL),
        FIELD("provenance", provenance, NIL),
        FIELD("llm", llm, NIL),
        FIELD("framework", framework, NIL),
        FIELD("meta", meta, NIL),
        FIELD("custom", dict, NIL),
        END,
};
const struct lax_type model_extensions = MODEL("Extensions", model_extensions_fields);

/* ---- Payloads: messages ---- */

static const struct lax_type message;

static const struct lax_type role = CHOICE("system", "developer", "user", "assistant", "tool");
static const struct lax_type channel = CHOICE("analysis", "commentary", "final");
static const struct lax_type resource_type = CHOICE("file", "blob", "uri", "database", "api", "memory", "artifact");
static const struct lax_type message_hook = CHOICE("evaluate", "llm_input", "llm_output", "tool_pre_invoke", "tool_post_invoke",
        "prompt_pre_fetch", "prompt_post_fetch", "resource_pre_fetch", "resource_post_fetch");
static const struct lax_type source_type = CHOICE("url", "base64");

static const struct lax_field tool_call_fields[] = {
        FIELD("tool_call_id", str, REQUIRED),
        FIELD("name", str, REQUIRED),
        FIELD("arguments", dict, EMPTY_MAP),
        FIELD("namespace", str, NIL),
        END,
};
static const struct lax_type tool_call = MODEL("ToolCall", tool_call_fields);
static const struct lax_field tool_result_fields[] = {
        FIELD("tool_call_id", str, REQUIRED),
        FIELD("tool_name", str, REQUIRED),
        FIELD("content", any, NIL),
        FIELD("is_error", boolean, FALSE),
        END,
};
static const struct lax_type tool_result = MODEL("ToolResult", tool_result_fields);
static const struct lax_field resource_fields[] = {
        FIELD("resource_request_id", str, REQUIRED),
        FIELD("uri", str, REQUIRED),
        FIELD("name", str, NIL),
        FIELD("description", str, NIL),
        FIELD("resource_type", resource_type, REQUIRED),
        FIELD("content", str, NIL),
        FIELD("blob", bytes, NIL),
        FIELD("mime_type", str, NIL),
        FIELD("size_bytes", integer, NIL),
        FIELD("annotations", dict, EMPTY_MAP),
        FIELD("version", str, NIL),
        END,
};
static const struct lax_type resource = MODEL("Resource", resource_fields);
static const struct lax_field resource_ref_fields[] = {
        FIELD("resource_request_id", str, REQUIRED),
        FIELD("uri", str, REQUIRED),
        FIELD("name", str, NIL),
        FIELD("resource_type", resource_type, REQUIRED),
        FIELD("range_start", integer, NIL),
        FIELD("range_end", integer, NIL),
        FIELD("selector", str, NIL),
        END,
};
static const struct lax_type resource_ref = MODEL("ResourceReference", resource_ref_fields);
static const struct lax_field prompt_request_fields[] = {
        FIELD("prompt_request_id", str, REQUIRED),
        FIELD("name", str, REQUIRED),
        FIELD("arguments", dict, EMPTY_MAP),
        FIELD("server_id", str, NIL),
        END,
};
static const struct lax_type prompt_request = MODEL("PromptRequest", prompt_request_fields);
static const struct lax_type messages = {.kind = LAX_LIST, .item = &message};
static const struct lax_field prompt_result_fields[] = {
        FIELD("prompt_request_id", str, REQUIRED),
        FIELD("prompt_name", str, REQUIRED),
        FIELD("messages", messages, EMPTY_LIST),
        FIELD("content", str, NIL),
        FIELD("is_error", boolean, FALSE),
        FIELD("error_message", str, NIL),
        END,
};
static const struct lax_type prompt_result = MODEL("PromptResult", prompt_result_fields);
static const struct lax_field image_fields[] = {
        FIELD("type", source_type, REQUIRED),
        FIELD("data", str, REQUIRED),
        FIELD("media_type", str, NIL),
        END,
};
static const struct lax_type image = MODEL("ImageSource", image_fields);
static const struct lax_field video_fields[] = {
        FIELD("type", source_type, REQUIRED),
        FIELD("data", str, REQUIRED),
        FIELD("media_type", str, NIL),
        FIELD("duration_ms", integer, NIL),
        END,
};
static const struct lax_type video = MODEL("VideoSource", video_fields);
static const struct lax_field document_fields[] = {
        FIELD("type", source_type, REQUIRED),
        FIELD("data", str, REQUIRED),
        FIELD("media_type", str, NIL),
        FIELD("title", str, NIL),
        END,
};
static const struct lax_type document = MODEL("DocumentSource", document_fields);

/* A part of a message: what it is, and the one member that goes with it. */
#define PART(tag, member, of) {.name = tag, .type = &(const struct lax_type)MODEL("", \
        ((const struct lax_field[]){FIELD("content_type", str, REQUIRED), FIELD(member, of, REQUIRED), END}))}
static const struct lax_field part_fields[] = {
        PART("text", "text", str),
        PART("thinking", "text", str),
        PART("tool_call", "content", tool_call),
        PART("tool_result", "content", tool_result),
        PART("resource", "content", resource),
        PART("resource_ref", "content", resource_ref),
        PART("prompt_request", "content", prompt_request),
        PART("prompt_result", "content", prompt_result),
        PART("image", "content", image),
        PART("video", "content", video),
        PART("audio", "content", video),
        PART("document", "content", document),
        END,
};
static const struct lax_type part = {.kind = LAX_TAGGED, .name = "content_type", .fields = part_fields};
static const struct lax_type parts = {.kind = LAX_LIST, .item = &part};
static const struct lax_field message_fields[] = {
        TEXT("schema_version", str, "2.0"),
        FIELD("role", role, REQUIRED),
        FIELD("content", parts, EMPTY_LIST),
        FIELD("channel", channel, NIL),
        END,
};
static const struct lax_type message = MODEL("Message", message_fields);
static const struct lax_field message_payload_fields[] = {
        FIELD("message", message, REQUIRED),
        TEXT("hook", message_hook, "evaluate"),
        END,
};
static const struct lax_type message_payload = MODEL("MessagePayload", message_payload_fields);

/* ---- Payloads: all others ---- */

static const struct lax_field attenuation_fields[] = {
        FIELD("capabilities", str_list, EMPTY_LIST),
        FIELD("resource_template", str, NIL),
        FIELD("actions", str_list, EMPTY_LIST),
        FIELD("ttl_seconds", integer, NIL),
        END,
};
static const struct lax_type attenuation = MODEL("AttenuationConfig", attenuation_fields);

static const struct lax_field tool_pre_invoke[] = {
        FIELD("name", str, REQUIRED),
        FIELD("args", dict, EMPTY_MAP_OR_NIL),
        FIELD("headers", str_dict, NIL),
        END,
};

static const struct lax_field tool_post_invoke[] = {
        FIELD("name", str, REQUIRED),
        FIELD("result", any, REQUIRED),
        END,
};

static const struct lax_field prompt_pre_fetch[] = {
        FIELD("prompt_id", str, REQUIRED),
        FIELD("args", str_dict, EMPTY_MAP_OR_NIL),
        END,
};

static const struct lax_field prompt_post_fetch[] = {
        FIELD("prompt_id", str, REQUIRED),
        FIELD("result", any, REQUIRED),
        END,
};

static const struct lax_field resource_pre_fetch[] = {
        FIELD("uri", str, REQUIRED),
        FIELD("metadata", dict, EMPTY_MAP_OR_NIL),
        END,
};

static const struct lax_field resource_post_fetch[] = {
        FIELD("uri", str, REQUIRED),
        FIELD("content", any, REQUIRED),
        END,
};

static const struct lax_field agent_pre_invoke[] = {
        FIELD("agent_id", str, REQUIRED),
        FIELD("messages", list, REQUIRED),
        FIELD("tools", str_list, NIL),
        FIELD("headers", str_dict, NIL),
        FIELD("model", str, NIL),
        FIELD("system_prompt", str, NIL),
        FIELD("parameters", dict, EMPTY_MAP_OR_NIL),
        END,
};

static const struct lax_field agent_post_invoke[] = {
        FIELD("agent_id", str, REQUIRED),
        FIELD("messages", list, REQUIRED),
        FIELD("tool_calls", dict_list, NIL),
        END,
};

static const struct lax_field http_pre_request[] = {
        FIELD("path", str, REQUIRED),
        FIELD("method", str, REQUIRED),
        FIELD("client_host", str, NIL),
        FIELD("client_port", integer, NIL),
        FIELD("headers", str_dict, REQUIRED),
        END,
};

static const struct lax_field http_post_request[] = {
        FIELD("path", str, REQUIRED),
        FIELD("method", str, REQUIRED),
        FIELD("client_host", str, NIL),
        FIELD("client_port", integer, NIL),
        FIELD("headers", str_dict, REQUIRED),
        FIELD("response_headers", str_dict, NIL),
        FIELD("status_code", integer, NIL),
        END,
};

static const struct lax_field http_auth_resolve_user[] = {
        FIELD("credentials", dict, NIL),
        FIELD("headers", str_dict, REQUIRED),
        FIELD("client_host", str, NIL),
        FIELD("client_port", integer, NIL),
        END,
};

static const struct lax_field http_auth_check_permission[] = {
        FIELD("user_email", str, REQUIRED),
        FIELD("permission", str, REQUIRED),
        FIELD("resource_type", str, NIL),
        FIELD("team_id", str, NIL),
        FIELD("is_admin", boolean, FALSE),
        FIELD("auth_method", str, NIL),
        FIELD("client_host", str, NIL),
        FIELD("user_agent", str, NIL),
        END,
};

static const struct lax_field identity_resolve[] = {
        FIELD("raw_token", secret, REQUIRED),
        TEXT("source", str, "bearer"),
        FIELD("headers", str_dict, EMPTY_MAP),
        FIELD("client_host", str, NIL),
        FIELD("client_port", integer, NIL),
        END,
};

static const struct lax_field token_delegate[] = {
        FIELD("target_name", str, REQUIRED),
        TEXT("target_type", str, "tool"),
        FIELD("target_audience", str, NIL),
        FIELD("required_permissions", str_list, EMPTY_LIST),
        FIELD("trust_domain", str, NIL),
        TEXT("auth_enforced_by", str, "caller"),
        FIELD("route_attenuation", attenuation, NIL),
        FIELD("bearer_token", secret, NIL),
        END,
};

static const struct {
        const char *hook;
        struct lax_type payload;
} hooks[] = {
        {"tool_pre_invoke", MODEL("ToolPreInvokePayload", tool_pre_invoke)},
        {"tool_post_invoke", MODEL("ToolPostInvokePayload", tool_post_invoke)},
        {"prompt_pre_fetch", MODEL("PromptPrehookPayload", prompt_pre_fetch)},
        {"prompt_post_fetch", MODEL("PromptPosthookPayload", prompt_post_fetch)},
        {"resource_pre_fetch", MODEL("ResourcePreFetchPayload", resource_pre_fetch)},
        {"resource_post_fetch", MODEL("ResourcePostFetchPayload", resource_post_fetch)},
        {"agent_pre_invoke", MODEL("AgentPreInvokePayload", agent_pre_invoke)},
        {"agent_post_invoke", MODEL("AgentPostInvokePayload", agent_post_invoke)},
        {"http_pre_request", MODEL("HttpPreRequestPayload", http_pre_request)},
        {"http_post_request", MODEL("HttpPostRequestPayload", http_post_request)},
        {"http_auth_resolve_user", MODEL("HttpAuthResolveUserPayload", http_auth_resolve_user)},
        {"http_auth_check_permission", MODEL("HttpAuthCheckPermissionPayload", http_auth_check_permission)},
        {"identity_resolve", MODEL("IdentityPayload", identity_resolve)},
        {"token_delegate", MODEL("DelegationPayload", token_delegate)},
};

static const char *const message_hooks[] = {
        "evaluate",
        "cmf.tool_pre_invoke",
        "cmf.tool_post_invoke",
        "cmf.llm_input",
        "cmf.llm_output",
        "cmf.resource_pre_fetch",
        "cmf.resource_post_fetch",
        "cmf.prompt_pre_fetch",
        "cmf.prompt_post_fetch",
};

/* clang-format on */

static bool is_named(struct mp hook, const char *name) {
        return hook.len == strlen(name) && memcmp(hook.data, name, hook.len) == 0;
}

const struct lax_type *model_payload(struct mp hook) {
        for (size_t i = 0; i < ELEMENTS(hooks); i++)
                if (is_named(hook, hooks[i].hook))
                        return &hooks[i].payload;
        for (size_t i = 0; i < ELEMENTS(message_hooks); i++)
                if (is_named(hook, message_hooks[i]))
                        return &message_payload;
        return NULL;
}
