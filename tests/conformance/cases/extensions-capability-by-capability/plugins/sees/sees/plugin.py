from cpex.framework import Plugin, PluginResult


def plain(value):
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(getattr(value, "value", value))


class Sees(Plugin):
    async def tool_pre_invoke(self, payload, context, extensions):
        return PluginResult(metadata={self.name: plain(extensions)})
