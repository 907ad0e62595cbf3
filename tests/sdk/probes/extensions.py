# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B023 - cases run at once, so their lambdas may use the loop variables
"""Extensions, their rules, messages and the views of their parts."""

from cpex.framework.cmf.message import (
    ContentPart,
    ContentType,
    ImageContentPart,
    ImageSource,
    Message,
    PromptRequest,
    PromptRequestContentPart,
    PromptResult,
    PromptResultContentPart,
    Resource,
    ResourceContentPart,
    ResourceRefContentPart,
    ResourceReference,
    Role,
    TextContent,
    ThinkingContent,
    ToolCall,
    ToolCallContentPart,
    ToolResult,
    ToolResultContentPart,
)
from cpex.framework.extensions import (
    AgentExtension,
    Capability,
    ConversationContext,
    DelegationExtension,
    DelegationHop,
    Extensions,
    HttpExtension,
    SecurityExtension,
    SlotName,
    SubjectExtension,
    TierViolationError,
)
from cpex.framework.extensions.tiers import (
    MutabilityTier,
    filter_extensions,
    merge_extensions,
    validate_tier_constraints,
)
from harness import case, finish

FULL = {
    "request": {"environment": "prod", "request_id": "r", "trace_id": "t"},
    "agent": {"input": "i", "session_id": "s", "turn": "0", "agent_id": "a", "conversation": {"summary": "x"}},
    "http": {"headers": {"Authorization": "x", "Accept": "y"}},
    "security": {
        "labels": ["pii"],
        "classification": "secret",
        "subject": {
            "id": "u",
            "type": "user",
            "roles": ["r"],
            "permissions": ["p"],
            "teams": ["t"],
            "claims": {"a": "b"},
        },
        "objects": {"calc": {"permissions": ["run"], "trust_domain": "internal"}},
        "data": {"calc": {"apply_labels": ["x"], "allowed_actions": ["view"], "retention": {"max_age_seconds": 5}}},
    },
    "delegation": {
        "chain": [{"subject_id": "u", "subject_type": "user", "timestamp": "2024-01-02T03:04:05Z"}],
        "depth": 1,
    },
    "mcp": {"tool": {"name": "calc", "input_schema": {"a": 1}}, "prompt": {"name": "p", "arguments": [{}]}},
    "completion": {"stop_reason": "end", "tokens": {"input_tokens": 1, "output_tokens": 2, "total_tokens": "3"}},
    "provenance": {"source": "s"},
    "llm": {"model_id": "m", "capabilities": ["x"]},
    "framework": {"framework": "f", "metadata": {"a": 1}},
    "meta": {"tags": ["t"], "properties": {"a": "b"}},
    "custom": {"a": [1]},
}
EXT = Extensions.model_validate(FULL)
case("full", lambda: EXT)
case("full dump", lambda: EXT.model_dump())
case("full json", lambda: EXT.model_dump_json())
case("full again", lambda: Extensions.model_validate_json(EXT.model_dump_json()) == EXT)
case("empty", lambda: Extensions())
case("empty dump", lambda: Extensions().model_dump(exclude_none=True))
case("frozen", lambda: setattr(EXT, "custom", {}))
case("copy", lambda: EXT.model_copy(update={"http": HttpExtension(headers={"x": "y"})}).http)
for slot in FULL:
    case(f"wrong {slot}", lambda: Extensions(**{slot: 5}))
case(
    "wrong inside",
    lambda: Extensions(security={"subject": {"id": 1, "type": "x"}, "labels": "a", "objects": {"o": []}}),
)
case("wrong tokens", lambda: Extensions(completion={"stop_reason": "x", "tokens": {}}, meta={"properties": {"a": 1}}))
case("too much history", lambda: ConversationContext(history=[HttpExtension()] * 101))
case("history", lambda: ConversationContext(history=[HttpExtension(headers={"a": "b"})]))
case("history dump", lambda: ConversationContext(history=[HttpExtension(headers={"a": "b"})]).model_dump())
case("subject hash", lambda: hash(SubjectExtension(id="a", type="user")))
HOP = DelegationHop(subject_id="b", subject_type="agent", timestamp="2024-01-02T03:04:06Z", scopes_granted=["x"])
case("hop", lambda: HOP)
case("hop time", lambda: DelegationHop(subject_id="b", subject_type="agent").timestamp.tzinfo is not None)
case("new hop", lambda: DelegationExtension().with_new_hop(HOP))
case("next hop", lambda: EXT.delegation.with_new_hop(HOP).model_dump(exclude={"age_seconds"}))
case("slots", lambda: [(slot.name, str(slot)) for slot in SlotName])
case("capabilities", lambda: [(cap.name, cap.value) for cap in Capability])
case("violation", lambda: str(TierViolationError("p", "custom", MutabilityTier.MUTABLE, "d")))

for held in [(), *[(cap.value,) for cap in Capability], tuple(cap.value for cap in Capability)]:
    label = "+".join(held) if len(held) < 2 else "all"
    capabilities = frozenset(held)
    case(f"seen with {label}", lambda: filter_extensions(EXT, capabilities).model_dump())
    changed = EXT.model_copy(
        update={
            "http": HttpExtension(headers={"new": "1"}),
            "security": EXT.security.model_copy(update={"labels": frozenset({"pii", "new"})}),
            "delegation": EXT.delegation.with_new_hop(HOP).model_copy(update={"age_seconds": 1.0}),
            "custom": {"b": 1},
            "agent": AgentExtension(agent_id="other"),
        }
    )
    case(f"merged with {label}", lambda: merge_extensions(EXT, changed, capabilities, "p").model_dump())
    case(f"checked with {label}", lambda: validate_tier_constraints(EXT, changed, capabilities, "p"))
    fewer = EXT.model_copy(update={"security": SecurityExtension()})
    case(f"fewer labels with {label}", lambda: merge_extensions(EXT, fewer, capabilities, "p") == EXT)
    shorter = EXT.model_copy(update={"delegation": DelegationExtension()})
    case(f"shorter chain with {label}", lambda: merge_extensions(EXT, shorter, capabilities, "p") == EXT)
case("seen of nothing", lambda: (filter_extensions(None, frozenset()), filter_extensions(Extensions(), frozenset())))
case("merged unchanged", lambda: merge_extensions(EXT, EXT, frozenset(), "p") is EXT)

# messages
PARTS = [
    TextContent(text="hellö"),
    ThinkingContent(text="hm"),
    ToolCallContentPart(content=ToolCall(tool_call_id="1", name="calc", arguments={"a": 1}, namespace="ns")),
    ToolResultContentPart(content=ToolResult(tool_call_id="1", tool_name="calc", content={"x": 1})),
    ToolResultContentPart(content=ToolResult(tool_call_id="1", tool_name="calc", content=object, is_error=True)),
    ResourceContentPart(
        content=Resource(resource_request_id="1", uri="file:///a/b.txt", resource_type="file", blob=b"xyz")
    ),
    ResourceRefContentPart(
        content=ResourceReference(resource_request_id="1", uri="db://x", name="calc", resource_type="database")
    ),
    PromptRequestContentPart(content=PromptRequest(prompt_request_id="1", name="p", server_id="s")),
    PromptResultContentPart(
        content=PromptResult(prompt_request_id="1", prompt_name="p", messages=[Message(role="user")])
    ),
    ImageContentPart(content=ImageSource(type="url", data="https://x", media_type="image/png")),
]
NAMES = (
    "kind", "role", "hook", "content", "uri", "name", "action", "args", "mime_type", "size_bytes", "properties", "is_pre",
    "is_post", "is_tool", "is_prompt", "is_resource", "is_text", "is_media", "environment", "request_id", "subject", "roles",
    "permissions", "teams", "headers", "labels", "agent_input", "session_id", "conversation_id", "turn", "agent_id",
    "parent_agent_id", "object", "data_policy",
)  # fmt: skip
for role in Role:
    message = Message(role=role, content=PARTS)
    for number, view in enumerate(message.iter_views(hook="h", extensions=EXT)):
        case(f"view {role.value} {number}", lambda: [(name, getattr(view, name)) for name in NAMES])
        case(f"view {role.value} {number} repr", lambda: repr(view))
        if role == Role.USER:
            case(f"view {number} dict", lambda: view.to_dict())
            case(f"view {number} opa", lambda: view.to_opa_input(include_content=False))
            case(f"view {number} asks", lambda: (
                view.get_arg("a"), view.has_arg("b"), view.get_property("tool_id", 1), view.has_content(), view.has_role("r"),
                view.has_permission("p"), view.has_label("pii"), view.get_header("ACCEPT"), view.has_header("none"),
                view.matches_uri_pattern("tool://*/calc"), view.matches_uri_pattern("file://**"), view.matches_uri_pattern("file:///*"),
            ))  # fmt: skip
    for number, view in enumerate(message.iter_views()):
        case(f"bare view {role.value} {number}", lambda: (view.to_dict(), [(n, getattr(view, n)) for n in NAMES]))

for number, data in enumerate(
    [
        {"role": "user", "content": [{"content_type": "text", "text": "x"}]},
        {"role": "user", "content": [{"content_type": ContentType.TEXT, "text": "x"}]},
        {"role": "user", "content": [{"content_type": "text", "text": 1}]},
        {"role": "user", "content": [{"content_type": "nope"}]},
        {"role": "user", "content": [{"text": "x"}]},
        {"role": "user", "content": ["x"]},
        {"role": "user", "content": "x", "extra": 1},
        {"role": "nobody", "channel": "final"},
        {"content": [{"content_type": "tool_call", "content": {}}]},
        {"role": "tool", "content": [{"content_type": "image", "content": {"type": "x", "data": "y"}}]},
    ]
):
    case(f"message {number}", lambda: Message.model_validate(data))
    case(f"message {number} json", lambda: Message.model_validate(data).model_dump_json())
case(
    "message again",
    lambda: (lambda m: Message.model_validate_json(m.model_dump_json()) == m)(Message(role="user", content=PARTS[:4])),
)
case("resource twice", lambda: Resource(resource_request_id="", uri="", resource_type="file", content="a", blob=b"b"))
case(
    "range", lambda: ResourceReference(resource_request_id="", uri="", resource_type="file", range_start=3, range_end=1)
)
case("wrong part", lambda: TextContent(content_type="thinking", text=""))
case("bare part", lambda: ContentPart(content_type="text"))

finish()
