# SPDX-License-Identifier: Apache-2.0
"""Hooks around HTTP requests: headers, authentication, permission."""

from __future__ import annotations

from enum import Enum

from .._fields import field_validator
from .._model import RootModel
from ..models import PluginPayload, PluginResult


def warn_of_headers(model):
    """Headers in a payload still work, but hosts are moving them into the extensions."""
    import warnings

    warnings.warn(
        f"{model}.headers is deprecated, read extensions.http.headers instead", DeprecationWarning, stacklevel=6
    )


class HttpHeaderPayload(RootModel, PluginPayload):
    """Headers: a mapping of names to values."""

    root: dict[str, str]

    def __iter__(self):
        return iter(self.root)

    def __getitem__(self, item):
        return self.root[item]

    def __setitem__(self, key, value):
        # The payload is frozen, its mapping is not: for copies that nobody else holds.
        self.root[key] = value

    def __len__(self):
        return len(self.root)


class HttpHookType(str, Enum):
    """Hook points of HTTP requests."""

    HTTP_PRE_REQUEST = "http_pre_request"
    HTTP_POST_REQUEST = "http_post_request"
    HTTP_AUTH_RESOLVE_USER = "http_auth_resolve_user"
    HTTP_AUTH_CHECK_PERMISSION = "http_auth_check_permission"


class HttpPreRequestPayload(PluginPayload):
    """A request before it is processed."""

    path: str
    method: str
    client_host: str | None = None
    client_port: int | None = None
    headers: HttpHeaderPayload

    @field_validator("headers", mode="before")
    @classmethod
    def _warn_headers_deprecated(cls, value):
        if value is not None:
            warn_of_headers("HttpPreRequestPayload")
        return value


class HttpPostRequestPayload(HttpPreRequestPayload):
    """A request and what was answered."""

    response_headers: HttpHeaderPayload | None = None
    status_code: int | None = None


class HttpAuthResolveUserPayload(PluginPayload):
    """Credentials for which a user is wanted."""

    credentials: dict | None = None
    headers: HttpHeaderPayload
    client_host: str | None = None
    client_port: int | None = None

    @field_validator("headers", mode="before")
    @classmethod
    def _warn_headers_deprecated(cls, value):
        if value is not None:
            warn_of_headers("HttpAuthResolveUserPayload")
        return value


class HttpAuthCheckPermissionPayload(PluginPayload):
    """A permission that a user asks for."""

    user_email: str
    permission: str
    resource_type: str | None = None
    team_id: str | None = None
    is_admin: bool = False
    auth_method: str | None = None
    client_host: str | None = None
    user_agent: str | None = None


class HttpAuthCheckPermissionResultPayload(PluginPayload):
    """Whether the permission is given."""

    granted: bool
    reason: str | None = None


HttpHeaderPayloadResult = PluginResult[HttpHeaderPayload]
HttpPreRequestResult = PluginResult[HttpHeaderPayload]
HttpPostRequestResult = PluginResult[HttpHeaderPayload]
HttpAuthResolveUserResult = PluginResult[dict]
HttpAuthCheckPermissionResult = PluginResult[HttpAuthCheckPermissionResultPayload]
