from cpex.framework import Plugin, PluginPayload, PluginResult, get_hook_registry, hook
from cpex.framework.extensions.security import SubjectExtension
from cpex.framework.hooks.http import HttpAuthCheckPermissionResultPayload, HttpHeaderPayload
from cpex.framework.hooks.identity import DelegationResult, IdentityResult
from cpex.framework.hooks.message import MessageResult


class Audit(PluginPayload):
    what: str
    times: int = 1


class Shipped(PluginPayload):
    order: str
    weight: float = 0.0


get_hook_registry().register_hook("shop.shipped", Shipped, PluginResult[Shipped])


def updated(**values):
    return lambda payload: payload.model_copy(update=values)


CHANGES = {
    "tool_pre_invoke": updated(args={"q": "dogs"}),
    "tool_post_invoke": updated(result={"rows": [1, 2]}),
    "prompt_pre_fetch": updated(args={"city": "Rome"}),
    "prompt_post_fetch": updated(prompt_id="changed"),
    "resource_pre_fetch": updated(uri="file:///b", metadata={"by": "every"}),
    "resource_post_fetch": updated(content="short"),
    "agent_pre_invoke": updated(model="m2", tools=["a"]),
    "agent_post_invoke": updated(tool_calls=[{"id": "1"}]),
    "http_pre_request": lambda payload: HttpHeaderPayload({**payload.headers.root, "X-Every": "1"}),
    "http_post_request": lambda payload: HttpHeaderPayload({"X-Status": str(payload.status_code)}),
    "http_auth_resolve_user": lambda payload: {"email": f"{payload.credentials['credentials']}@example.com", "is_admin": False},
    "http_auth_check_permission": lambda payload: HttpAuthCheckPermissionResultPayload(granted=payload.is_admin, reason="admins only"),
    "identity_resolve": lambda payload: IdentityResult(
        subject=SubjectExtension(id=payload.raw_token.get_secret_value()[:5], type="user"), raw_claims={"source": payload.source}),
    "token_delegate": lambda payload: DelegationResult(
        delegated_token=f"for {payload.target_name}", forwarded_headers={"X-Scope": ",".join(payload.required_permissions)}, cache_ttl=60),
    "shop.shipped": updated(weight=2.5),
}


def shown(payload):
    return payload.model_dump(mode="json") if hasattr(payload, "model_dump") else payload


class Every(Plugin):
    def answer(self, result, payload, extensions, change):
        headers = None if extensions is None or extensions.http is None else extensions.http.headers
        seen = {self.name: {"type": type(payload).__name__, "payload": shown(payload), "headers": headers}}
        return result(modified_payload=change(payload) if self.config.config.get("changes") else None, metadata=seen)

    @hook(["evaluate", "cmf.tool_pre_invoke", "cmf.tool_post_invoke", "cmf.llm_input", "cmf.llm_output", "cmf.resource_pre_fetch",
           "cmf.resource_post_fetch", "cmf.prompt_pre_fetch", "cmf.prompt_post_fetch"])
    async def on_message(self, payload, context, extensions):
        message = payload.message.model_copy(update={"channel": "final"})
        return self.answer(MessageResult, payload, extensions, updated(message=message))

    @hook("audit.done", Audit, PluginResult[Audit])
    async def on_audit(self, payload, context, extensions):
        return self.answer(PluginResult[Audit], payload, extensions, updated(times=payload.times + 1))

    @hook("shop.shipped")
    async def on_shipped(self, payload, context, extensions):
        return self.answer(PluginResult[Shipped], payload, extensions, CHANGES["shop.shipped"])


def method_of(name, change):
    async def method(self, payload, context, extensions):
        return self.answer(get_hook_registry().get_result_type(name), payload, extensions, change)

    method.__name__ = name
    return method


for _name, _change in CHANGES.items():
    if "." not in _name:
        setattr(Every, _name, method_of(_name, _change))
