from cpex.framework import Plugin, hook
from cpex.framework.hooks.message import MessageResult


class Policy(Plugin):
    """Hands each view to a policy engine; looks at the headers itself."""

    @hook("cmf.llm_input")
    async def ask(self, payload, context, extensions):
        rows = []
        for view in payload.message.iter_views(extensions=extensions):
            rows.append({
                "dict": view.to_dict(), "opa": view.to_opa_input(), "bare": view.to_dict(include_context=False),
                "headers": dict(view.headers), "cookie": view.get_header("COOKIE"), "has": view.has_header("x-api-key"),
            })
        return MessageResult(metadata={self.name: rows})
