# SPDX-License-Identifier: Apache-2.0
"""Checks of addresses that come from configuration."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlparse

from . import _lazily

_SCHEMES = ("http://", "https://", "ws://", "wss://")
_MAX_LENGTH = 2048
_OTHER_SCHEMES = re.compile(r"(javascript|data|vbscript|about|chrome|file|ftp|mailto):", re.IGNORECASE)
_TAGS = re.compile(
    r"<(/*)(script|iframe|object|embed|link|meta|base|form|img|svg|video|audio|source|track|area|map|canvas|applet|"
    r"frame|frameset|html|head|body|style)\b",
    re.IGNORECASE,
)
_HANDLERS = re.compile(r"(?:^|[\s\"'`<>=])on[a-z]+\s*=", re.IGNORECASE)
_PRIVATE = [
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16")
]

__getattr__ = _lazily(__name__)


def _text_problem(value):
    """What is wrong with the text of an address, or None."""
    if not value:
        return "is empty"
    if len(value) > _MAX_LENGTH:
        return f"is longer than {_MAX_LENGTH}"
    if not value.lower().startswith(_SCHEMES):
        return f"starts with none of {', '.join(_SCHEMES)}"
    if _OTHER_SCHEMES.search(value):
        return "names a protocol that is not allowed in it"
    if "[" in value or "]" in value:
        return "has an IPv6 address, for which there is no support"
    if "\r" in value or "\n" in value:
        return "has a line break"
    if " " in value.split("?", 1)[0]:
        return "has a space"
    if _TAGS.search(value):
        return "has HTML in it"
    if _HANDLERS.search(value):
        return "has a script in it"
    return None


def _host_problem(value):
    """What is wrong with the host part, or None."""
    parts = urlparse(value)
    if not parts.scheme or not parts.netloc:
        return "is no URL"
    if parts.username or parts.password:
        return "has credentials in it"
    if parts.port is not None and parts.port < 1:
        return "has an impossible port"
    if parts.hostname == "0.0.0.0":  # noqa: S104 - refused, not bound
        return "has the address 0.0.0.0"
    if _protects() and _is_private(parts.hostname):
        return f"leads into a private network ({parts.hostname})"
    return None


def _protects():
    from .settings import get_ssrf_settings

    return get_ssrf_settings().ssrf_protection_enabled


def _is_private(host):
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return any(address in block for block in _PRIVATE)


class SecurityValidator:
    """The checks as a class, the way hosts call them."""

    @staticmethod
    def validate_url(value, field_name="URL"):
        """The address itself, or a ValueError that says what is wrong with it."""
        problem = _text_problem(value)
        if problem is None:
            try:
                problem = _host_problem(value)
            except ValueError:
                problem = "is no URL"
        if problem is not None:
            raise ValueError(f"{field_name} {problem}")
        return value


def validate_plugin_url(value, field_name="URL"):
    """The address of a plugin server."""
    return SecurityValidator.validate_url(value, field_name)
