from cpex.framework import Plugin, PluginResult


class Knows(Plugin):
    async def tool_pre_invoke(self, payload, context):
        c = self.config
        conditions = [each.model_dump(exclude_none=True) for each in c.conditions or []]
        for each in conditions:
            each |= {key: sorted(value) for key, value in each.items() if isinstance(value, (set, frozenset))}
        own = {key: value for key, value in c.config.items() if key.startswith("own")}
        return PluginResult(metadata={self.name: {
            "name": c.name, "description": c.description, "author": c.author, "version": c.version, "hooks": c.hooks, "tags": c.tags,
            "mode": c.mode.value, "on_error": c.on_error.value, "priority": c.priority, "conditions": conditions, "own": own,
            "properties": [self.name, self.priority, self.mode.value, self.hooks, self.tags],
        }})
