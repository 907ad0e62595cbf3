# SPDX-License-Identifier: Apache-2.0
"""Hooks around the fetching of a resource."""

from __future__ import annotations

from enum import Enum

from .. import _lazily
from .._fields import Any, Field
from ..models import PluginPayload, PluginResult

__getattr__ = _lazily(__name__)


class ResourceHookType(str, Enum):
    """Hook points of resources."""

    RESOURCE_PRE_FETCH = "resource_pre_fetch"
    RESOURCE_POST_FETCH = "resource_post_fetch"


class ResourcePreFetchPayload(PluginPayload):
    """A resource is about to be fetched."""

    uri: str
    metadata: dict[str, Any] | None = Field(default_factory=dict)


class ResourcePostFetchPayload(PluginPayload):
    """A resource was fetched."""

    uri: str
    content: Any


ResourcePreFetchResult = PluginResult[ResourcePreFetchPayload]
ResourcePostFetchResult = PluginResult[ResourcePostFetchPayload]
