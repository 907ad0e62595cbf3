# SPDX-License-Identifier: Apache-2.0
"""A plugin that quotes its secrets in whatever it raises; `source` of the payload says how."""

from cpex.framework import Plugin, PluginError, PluginViolation, PluginViolationError
from cpex.framework.extensions.http import HttpExtension
from cpex.framework.hooks.identity import DelegationPayload, IdentityPayload
from cpex.framework.models import PluginErrorModel, PluginResult


class Careless(Plugin):
    async def initialize(self):
        if self.config.config.get("broken"):
            PluginErrorModel(message={"api_key": self.config.config["api_key"]}, plugin_name="p")

    async def identity_resolve(self, payload, context, extensions):
        return getattr(self, payload.source)(payload.raw_token.get_secret_value(), payload, extensions)

    async def token_delegate(self, payload, context):
        raise LookupError(payload.bearer_token.get_secret_value())

    async def http_auth_resolve_user(self, payload, context):
        raise PermissionError(f"who is {payload.credentials['credentials']}?")

    async def tool_pre_invoke(self, payload, context):
        raise ValueError(payload.headers["authorization"].split()[1], payload.args)

    def exception(self, token, payload, extensions):
        raise ValueError(f"{token!r} is no token")

    def chained(self, token, payload, extensions):
        try:
            raise KeyError(token)
        except KeyError:
            raise OSError(token)

    def plugin_error(self, token, payload, extensions):
        raise PluginError(PluginErrorModel(message=f"m {token}", code="c", plugin_name="p", details={token: [{"t": token}]}))

    def denial(self, token, payload, extensions):
        violation = PluginViolation(reason=token, description=f"d {token}", code="C", details={"token": token})
        raise PluginViolationError(f"no {token}", violation)

    def cyclic_denial(self, token, payload, extensions):
        violation = PluginViolation(reason="r", description="d", code="C", details={})
        violation.details["self"] = violation.details
        raise PluginViolationError("no", violation)

    def invalid(self, token, payload, extensions):
        DelegationPayload.model_validate({"filler": "y" * 40, "bearer_token": token})

    def other_invalid(self, token, payload, extensions):
        IdentityPayload.model_validate({"raw_token": "t", "client_port": "eighty"})

    def header(self, token, payload, extensions):
        raise ValueError(extensions.http.headers["Cookie"])

    def no_result(self, token, payload, extensions):
        return _NoResult(token)

    def wrong_extensions(self, token, payload, extensions):
        http = HttpExtension().model_copy(update={"headers": [("Cookie", token)]})
        return PluginResult(modified_extensions=extensions.model_copy(update={"http": http}))


class _NoResult:
    def __init__(self, token):
        self._token = token

    @property
    def metadata(self):
        raise AttributeError(self._token)
