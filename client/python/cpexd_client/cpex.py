# SPDX-License-Identifier: Apache-2.0
"""For hosts of CPEX: the plugin manager and a plugin, whose plugins run in cpexd. Needs the package `cpex`.

``RemotePluginManager`` takes the place of ``cpex.framework.PluginManager`` in the host's code; ``CpexdPlugin`` is a ``kind`` for an
entry of the plugins.yaml that the host has, and leaves its code alone.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from . import _calls
from . import _cpex_objects as objects  # first: it says what is missing where cpex is not installed
from .aio import AsyncClient
from .answer import Answer
from .errors import CpexdError

from cpex.framework import (  # isort: skip
    GlobalContext,
    OnError,
    Plugin,
    PluginConfig,
    PluginContext,
    PluginContextTable,
    PluginMode,
    PluginResult,
    TenantPluginManager,
)
from cpex.framework.extensions.extensions import Extensions  # isort: skip
from cpex.framework.manager import DEFAULT_PLUGIN_TIMEOUT, PayloadSizeError  # isort: skip
from cpex.framework.models import Config  # isort: skip
from cpex.framework.registry import PluginInstanceRegistry  # isort: skip

__all__ = ["CpexdPlugin", "RemotePluginManager"]

logger = logging.getLogger(__name__)


class _Daemon:
    """Calls in cpex's objects."""

    def __init__(self, socket: str | None, timeout: float | None) -> None:
        self.client = AsyncClient(socket, timeout=timeout)
        self.frame_bytes: int | None = None
        self.generation = 0

    async def read(self) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        """The daemon's plugins, and its hooks with the names of their plugins."""
        hello = await self.client.hello("cpexd_client.cpex (Python)")
        self.frame_bytes = (hello.get("limits") or {}).get("frame_bytes")
        self.generation = hello.get("generation") or 0
        return await self.client.plugins(), await self.client.hooks()

    def _params(
        self, hook: str, payload: Any, context: dict[str, Any], extensions: Extensions | None, **more: Any
    ) -> dict[str, Any]:
        slots = None if extensions is None else {slot: objects.plain(value) for slot, value in extensions if value is not None}
        params = _calls.invoke_params(
            hook,
            objects.plain(payload),
            context=context,
            extensions=slots,
            payload_type=objects.payload_type(hook, payload),
            timeout=self.client.timeout,
            **more,
        )
        size = len(params["payload"])
        if self.frame_bytes is not None and size >= self.frame_bytes:
            raise PayloadSizeError(f"Payload size {size} exceeds what cpexd takes (limits.frame_bytes: {self.frame_bytes})")
        return params

    async def invoke(
        self,
        hook: str,
        payload: Any,
        shared: GlobalContext,
        *,
        contexts: bytes | None,
        extensions: Extensions | None = None,
        plugin: str | None = None,
        violations_as_exceptions: bool = False,
    ) -> Answer:
        """Raises what CPEX raises. The shared state and metadata are taken over, after an error too."""
        try:
            sent = objects.global_context(shared)
            params = self._params(
                hook,
                payload,
                sent,
                extensions,
                contexts=contexts,
                plugin=plugin,
                violations_as_exceptions=violations_as_exceptions,
            )
        except PayloadSizeError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the call of {hook} cannot be sent to cpexd: {error}") from error
        try:
            answer = Answer(await self.client.call("invoke", params, timeout=_calls.wait_for(self.client.timeout)))
            _ = answer.modified_payload  # decoded here, where an error is one of the daemon's
        except CpexdError as error:
            self._merge(shared, sent, error.state, error.global_metadata)
            self.generation = error.data.get("generation") or self.generation
            raise objects.exception(error) from error
        except OSError as error:
            raise objects.failure(f"cpexd does not answer at {self.client.path}: {error}") from error
        self._merge(shared, sent, answer.state, answer.global_metadata)
        self.generation = answer.generation or self.generation
        return answer

    @staticmethod
    def _merge(shared: GlobalContext, sent: dict[str, Any], state: Any, metadata: Any) -> None:
        objects.update(shared.state, sent["state"], state or {})
        objects.update(shared.metadata, sent["metadata"], metadata or {})


class CpexdPlugin(Plugin):
    """A plugin that hands its hooks to cpexd: to one plugin there, or to all that listen.

    In the host's plugins.yaml::

        - name: pii_scanner
          kind: cpexd_client.cpex.CpexdPlugin
          hooks: [tool_pre_invoke, tool_post_invoke]
          config:
            socket: /run/cpexd/cpexd.sock   # else $CPEXD_SOCKET, else cpexd's default
            plugin: pii_scanner             # else all plugins of cpexd
            timeout: 10                     # seconds for a call; else only the manager's own counts

    A daemon that cannot be reached fails the calls, by the entry's ``on_error``, and not the start: CPEX would go on without the
    plugin.
    """

    def __init__(self, config: PluginConfig) -> None:
        settings = config.config or {}
        unknown = sorted(settings.keys() - {"socket", "plugin", "timeout"})
        if unknown:
            raise ValueError(f"config of {config.name}: there is no {', '.join(unknown)}; there are socket, plugin and timeout")
        self._bind(config, _Daemon(settings.get("socket"), settings.get("timeout")), settings.get("plugin"))

    def _bind(self, config: PluginConfig, daemon: _Daemon, only: str | None) -> None:
        super().__init__(config)
        self._daemon = daemon
        self._only = only
        for hook in config.hooks:
            setattr(self, hook, self._method(hook))

    def _method(self, hook: str) -> Any:
        async def call(payload: Any, context: PluginContext, extensions: Extensions | None) -> PluginResult:
            return await self._call(hook, payload, context, extensions)

        return call

    async def initialize(self) -> None:
        try:
            _, hooks = await self._daemon.read()
        except (CpexdError, OSError) as error:
            path = self._daemon.client.path
            logger.error("Plugin %s: cpexd does not answer at %s, calls fail until it does: %s", self.name, path, error)
            return
        for hook in self.hooks:
            names = hooks.get(hook, [])
            if not names or (self._only and self._only not in names):
                logger.warning("Plugin %s: in cpexd %s does not listen to %s", self.name, self._only or "no plugin", hook)

    async def shutdown(self) -> None:
        await self._daemon.client.close()

    async def _call(self, hook: str, payload: Any, context: PluginContext, extensions: Extensions | None) -> PluginResult:
        shared = context.global_context
        try:
            own = self._own(context)
            contexts = objects.pack_contexts(shared.request_id, own)
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the context of {hook} cannot be sent to cpexd: {error}", self.name) from error
        answer = await self._daemon.invoke(hook, payload, shared, contexts=contexts, extensions=extensions, plugin=self._only)
        self._put_own(context, own, objects.unpack_contexts(answer.contexts))
        result = objects.result(answer, objects.modified_payload(hook, payload, answer))
        return result.model_copy(update={"executions": []})  # the manager writes its own

    def _own(self, context: PluginContext) -> dict[str, Any]:
        """The contexts of the plugins in cpexd, by name. Several share the one of the entry, each under its name."""
        own = objects.own_context(context)
        if self._only:
            return {self._only: own} if own["state"] or own["metadata"] else {}
        names = own["state"].keys() | own["metadata"].keys()
        parts = {name: {key: own[key].get(name, {}) for key in own} for name in names}
        return {name: part for name, part in parts.items() if all(isinstance(value, dict) for value in part.values())}

    def _put_own(self, context: PluginContext, sent: Mapping[str, Any], got: Mapping[str, Any]) -> None:
        if self._only:
            if self._only in got:
                objects.put_own(context, sent.get(self._only), got[self._only])
            return
        for name, part in got.items():
            for key in ("state", "metadata"):
                objects.update(getattr(context, key), {}, {name: part.get(key) or {}})


class _ServedPlugin(CpexdPlugin):
    """A plugin of a RemotePluginManager, on the manager's connection."""

    def __init__(self, config: PluginConfig, daemon: _Daemon) -> None:
        self._bind(config, daemon, config.name)

    async def initialize(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass


class RemotePluginManager(TenantPluginManager):
    """CPEX's plugin manager, with its plugins in cpexd.

    Takes what ``cpex.framework.PluginManager`` takes, and gives the same results, contexts and exceptions. What differs:

    - Every instance has its own connection; there is no state that instances share.
    - The daemon's configuration decides which plugins there are, their modes, timeouts and policies. ``config`` (a path or
      a Config) only serves the property of that name; without it that is what the daemon tells. ``hook_policies`` and
      ``default_hook_policy`` given here also hold, for the payload that comes back.
    - ``timeout`` is for ``invoke_hook_for_plugin``; ``call_timeout`` for a whole ``invoke_hook``, in seconds.
    - Background plugins run in the daemon: ``background_tasks`` of a result is empty.
    - After an error of ``invoke_hook_for_plugin`` what the plugin wrote into its context before it raised is not in the caller's.
    - A call before ``initialize`` or after ``shutdown`` raises PluginError, rather than let everything pass.
    """

    def __init__(
        self,
        config: str | Config = "",
        timeout: int = DEFAULT_PLUGIN_TIMEOUT,
        observability: Any = None,
        hook_policies: Any = None,
        default_hook_policy: Any = None,
        *,
        socket: str | None = None,
        call_timeout: float | None = None,
    ) -> None:
        super().__init__(config or Config(), timeout, observability, hook_policies, default_hook_policy)
        self._given = self._config if config else None
        self._async_lock = asyncio.Lock()
        self._daemon = _Daemon(socket, call_timeout)
        self._seen = 0

    async def initialize(self) -> None:
        """Raises RuntimeError where the daemon does not answer."""
        async with self._async_lock:
            if self._initialized:
                return
            try:
                await self._refresh()
            except (CpexdError, OSError) as error:
                raise RuntimeError(
                    f"Plugin initialization failed: cpexd does not answer at {self._daemon.client.path} - {error}; "
                    "start it, or give the path of its socket (argument socket, or CPEXD_SOCKET)"
                ) from error
            self._initialized = True

    async def shutdown(self) -> None:
        await super().shutdown()
        await self._daemon.client.close()

    async def _refresh(self) -> None:
        plugins, hooks = await self._daemon.read()
        self._seen = self._daemon.generation
        given = {entry.name: entry for entry in (self._given.plugins if self._given else None) or []}
        registry, configs = PluginInstanceRegistry(), []
        for entry in plugins:
            config = _plugin_config(entry, given.get(entry["name"]))
            configs.append(config)
            config = config.model_copy(update={"hooks": [hook for hook in config.hooks if config.name in hooks.get(hook, [])]})
            running = config.hooks or entry.get("status") in ("ready", "starting")
            if config.mode == PluginMode.DISABLED or not running or registry.get_plugin(config.name):
                continue
            registry.register(_ServedPlugin(config, self._daemon), trusted_config=config)
            # The same for the same plugin whatever is reloaded: tables of contexts are keyed with it.
            registry.get_plugin(config.name)._uuid = uuid.uuid5(uuid.NAMESPACE_OID, config.name)
        self._registry = registry
        if not self._given:
            self._config = Config.model_construct(plugins=configs)

    async def _follow(self) -> None:
        """Reads the plugins anew after the daemon has read its configuration anew."""
        if self._daemon.generation == self._seen:
            return
        self._seen = self._daemon.generation
        try:
            await self._refresh()
        except (CpexdError, OSError) as error:
            logger.warning("The plugins of cpexd cannot be read anew: %s", error)

    def _check(self) -> None:
        if not self._initialized:
            raise objects.failure("the plugin manager is not initialized: await its initialize() before calls")

    async def invoke_hook(
        self,
        hook_type: str,
        payload: Any,
        global_context: GlobalContext,
        local_contexts: PluginContextTable | None = None,
        violations_as_exceptions: bool = False,
        extensions: Extensions | None = None,
    ) -> tuple[PluginResult, PluginContextTable | None]:
        self._check()
        keys = {ref.name: global_context.request_id + ref.uuid for ref in self._registry.get_all_plugins()}
        given = {name: local_contexts[key] for name, key in keys.items() if key in local_contexts} if local_contexts else {}
        try:
            own = {name: objects.own_context(context) for name, context in given.items()}
            contexts = objects.pack_contexts(global_context.request_id, own)
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the contexts of {hook_type} cannot be sent to cpexd: {error}") from error
        try:
            answer = await self._daemon.invoke(
                hook_type,
                payload,
                global_context,
                contexts=contexts,
                extensions=extensions,
                violations_as_exceptions=violations_as_exceptions,
            )
        finally:
            await self._follow()
        modified = objects.accepted(self.executor, hook_type, payload, objects.modified_payload(hook_type, payload, answer))
        if answer.contexts is None:
            return objects.result(answer, modified), None
        table: PluginContextTable = {}
        copy = {"state": dict(global_context.state), "metadata": dict(global_context.metadata)}
        for name, got in objects.unpack_contexts(answer.contexts).items():
            shared = global_context.model_copy(update=copy)
            context = given.get(name) or PluginContext(global_context=shared)
            context.global_context = shared
            objects.put_own(context, own.get(name), got)
            table[keys.get(name) or global_context.request_id + name] = context
        return objects.result(answer, modified), table

    async def invoke_hook_for_plugin(self, *args: Any, **kwargs: Any) -> PluginResult:
        """As the manager's own, which calls the plugin that stands for the one in cpexd."""
        self._check()
        try:
            return await super().invoke_hook_for_plugin(*args, **kwargs)
        finally:
            await self._follow()


def _plugin_config(entry: Mapping[str, Any], given: PluginConfig | None) -> PluginConfig:
    """The daemon's word on a plugin over the host's own entry. Not validated: the daemon tells no transports."""
    told = {key: entry.get(key) for key in ("name", "kind", "version", "description", "author")}
    told |= {
        "hooks": entry.get("hooks") or [],
        "tags": entry.get("tags") or [],
        "mode": PluginMode(entry.get("mode") or "sequential"),
        "on_error": OnError(entry.get("on_error") or "fail"),
        "priority": entry.get("priority") or 0,
    }
    return given.model_copy(update=told) if given else PluginConfig.model_construct(**told)
