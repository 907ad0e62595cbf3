# SPDX-License-Identifier: Apache-2.0
"""A cpexd as the managers and plugins of cpex.py see it: calls in cpex's objects, and what plugins it has.

All of a process that use the same socket share one, for a host may have hundreds of managers (ContextForge has one for each tool, and a
new one every half minute), and it replaces them while calls are under way. So what closes the connections is the last one that
lets go, be it a manager, a plugin or a call.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from cpex.framework import GlobalContext
from cpex.framework.extensions.extensions import Extensions
from cpex.framework.manager import PayloadSizeError

from . import _calls
from . import _cpex_objects as objects
from .aio import AsyncClient
from .answer import Answer
from .errors import CpexdError, ProtocolError


LISTING_SECONDS = 10.0  # the daemon answers at once, or hangs


class Listing(NamedTuple):
    """The daemon's plugins as it tells them, and its hooks with the names of their plugins."""

    plugins: list[dict[str, Any]]
    hooks: dict[str, list[str]]


def is_loss(error: Exception) -> bool:
    """Whether nobody has refused the call for what it is: no daemon is there, or it stops, or has too much to do."""
    return isinstance(error, OSError) or (isinstance(error, ProtocolError) and error.code in ("stopping", "limit"))


class Daemon:
    _all: weakref.WeakValueDictionary[str, Daemon] = weakref.WeakValueDictionary()
    _lock = threading.Lock()

    @classmethod
    def at(cls, socket: str | None) -> Daemon:
        path = socket or _calls.default_path()
        with cls._lock:
            daemon = cls._all.get(path)
            if daemon is None:
                daemon = cls._all[path] = cls(path)
            return daemon

    def __init__(self, path: str) -> None:
        self.path = path
        self.listing: Listing | None = None
        self._client = AsyncClient(path)
        self._frame_bytes: int | None = None
        self._generation = 0
        self._listed: tuple[int, int] | None = None  # of which generation the listing is, and how often we had connected
        self._holders = 0

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    async def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            await self._client.close()

    @contextlib.asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        self.hold()
        try:
            yield
        finally:
            await self.let_go()

    async def list(self) -> Listing:
        """Asks. Raises CpexdError or OSError."""
        async with self._held():
            hello = await self._ask("hello", _calls.hello_params("cpexd_client.cpex (Python)"))
            connected = self._client.connected
            plugins, hooks = await self._ask("plugins"), await self._ask("hooks")
        self._frame_bytes = (hello.get("limits") or {}).get("frame_bytes")
        self._generation = hooks.get("generation") or 0
        self._listed = (plugins.get("generation") or 0, connected)
        self.listing = Listing(plugins.get("plugins") or [], hooks.get("hooks") or {})
        return self.listing

    async def _ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self._client.call(method, params, timeout=LISTING_SECONDS)

    async def listed(self) -> Listing:
        """Asks only where the daemon has read its configuration anew since, or is another one."""
        now = (self._generation, self._client.connected)
        if self.listing is not None and self._listed == now:
            return self.listing
        self._listed = now  # one asks for all
        try:
            return await self.list()
        except BaseException:
            self._listed = None
            raise

    async def invoke(
        self,
        hook: str,
        payload: Any,
        shared: GlobalContext,
        *,
        budget: float | None = None,
        patience: float | None = None,
        extensions: Extensions | None = None,
        **options: Any,
    ) -> Answer:
        """The shared state and metadata are taken over, after an error too.

        The daemon may take `budget` seconds, and is given up after `patience`.

        Raises PayloadSizeError, PluginError for what cannot be sent, and else CpexdError or OSError.
        """
        try:
            sent = objects.global_context(shared)
            slots = None if extensions is None else {slot: objects.plain(value) for slot, value in extensions if value is not None}
            options |= {"context": sent, "extensions": slots, "payload_type": objects.payload_type(hook, payload)}
            params = _calls.invoke_params(hook, objects.plain(payload), budget, options)  # type: ignore[arg-type]
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the call of {hook} cannot be sent to cpexd: {error}") from error
        size = len(params["payload"])
        if self._frame_bytes is not None and size >= self._frame_bytes:
            raise PayloadSizeError(f"Payload size {size} exceeds what cpexd takes (limits.frame_bytes: {self._frame_bytes})")
        put = objects.replace if options.get("direct") else objects.update
        try:
            async with self._held():
                answer = Answer(await self._client.call("invoke", params, timeout=patience))
            _ = answer.modified_payload  # decoded here, where an error is one of the daemon's
        except CpexdError as error:
            self._take_over(error.data, put, shared, sent)
            raise
        self._take_over(answer.raw, put, shared, sent)
        return answer

    def _take_over(self, told: Any, put: Any, shared: GlobalContext, sent: dict[str, Any]) -> None:
        for key, target, before in (
            ("state", shared.state, sent["state"]),
            ("global_metadata", shared.metadata, sent["metadata"]),
        ):
            if told.get(key) is not None:
                put(target, before, told[key])
        # Not back again: a call that began before a reload may end after one that began later.
        self._generation = max(self._generation, told.get("generation") or 0)
