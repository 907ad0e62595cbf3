from cpex.framework import Plugin, PluginResult
from cpex.framework.hooks.http import HttpHeaderPayload


class Web(Plugin):
    async def http_pre_request(self, payload, context):
        return PluginResult(metadata={self.name: payload.path}, modified_payload=HttpHeaderPayload({**payload.headers.root, "x-by": self.name}))

    async def http_auth_resolve_user(self, payload, context):
        kind = type(payload).__name__
        known = payload if isinstance(payload, dict) else {"kind": kind, "credentials": payload.credentials}
        return PluginResult(modified_payload={**known, "email": "ann@x", "by": self.name}, metadata={self.name: kind})

    async def http_auth_check_permission(self, payload, context):
        decided = self.config.config.get("decides")
        return PluginResult(modified_payload={"granted": decided} if decided is not None else None, continue_processing=decided is not False,
                            metadata={"_decision_plugin": "forged", "inner": {"_decision_plugin": "kept"}})
