# SPDX-License-Identifier: Apache-2.0
"""For hosts of CPEX: the plugin managers and a plugin, whose plugins run in cpexd. Needs the package `cpex`.

``RemotePluginManager`` and ``RemoteTenantPluginManager`` take the place of ``cpex.framework``'s ``PluginManager`` and
``TenantPluginManager`` in the host's code; ``CpexdPlugin`` is a ``kind`` for an entry of the plugins.yaml that the host has, and leaves
its code alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from . import _calls
from . import _cpex_objects as objects  # first: it says what is missing where cpex is not installed
from ._cpex_daemon import Daemon, Listing, is_loss
from ._cpex_spans import HookSpan
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
from cpex.framework.hooks.policies import DefaultHookPolicy  # isort: skip
from cpex.framework.manager import DEFAULT_PLUGIN_TIMEOUT  # isort: skip
from cpex.framework.models import Config  # isort: skip
from cpex.framework.registry import PluginInstanceRegistry  # isort: skip

__all__ = ["CpexdPlugin", "RemotePluginManager", "RemoteTenantPluginManager"]

logger = logging.getLogger(__name__)

# Set while a manager does without the daemon: its plugins then fail with this sentence, each as its on_error has it.
_lost: contextvars.ContextVar[str] = contextvars.ContextVar("_lost", default="")


def _raised(error: Exception, path: str) -> Exception:
    """What CPEX would raise."""
    if isinstance(error, CpexdError) and not is_loss(error):
        return objects.exception(error)
    return objects.failure(f"cpexd does not answer at {path}: {error}")


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

    With `plugin` the host's manager is the only one: mode, on_error, conditions and policies are those of the host, and cpexd runs
    the plugin as it is told (`direct` in docs/protocol.md). Without, cpexd's whole pipeline is one plugin of the host.

    A daemon that cannot be reached fails the calls, by the entry's ``on_error``, and not the start: CPEX would go on without the
    plugin.
    """

    def __init__(self, config: PluginConfig) -> None:
        settings = config.config or {}
        unknown = sorted(settings.keys() - {"socket", "plugin", "timeout"})
        if unknown:
            raise ValueError(f"config of {config.name}: there is no {', '.join(unknown)}; there are socket, plugin and timeout")
        self._bind(config, Daemon.at(settings.get("socket")), settings.get("plugin"), settings.get("timeout"))

    def _bind(self, config: PluginConfig, daemon: Daemon, only: str | None, timeout: float | None) -> None:
        super().__init__(config)
        self._daemon = daemon
        self._only = only
        self._timeout = timeout
        self._holds = False
        for hook in config.hooks:
            setattr(self, hook, self._method(hook))

    def _method(self, hook: str) -> Any:
        async def call(payload: Any, context: PluginContext, extensions: Extensions | None) -> PluginResult:
            return await self._call(hook, payload, context, extensions)

        return call

    async def initialize(self) -> None:
        if not self._holds:
            self._daemon.hold()
            self._holds = True
        try:
            listing = await self._daemon.listed()
        except Exception as error:  # whatever it is: CPEX would leave the plugin out and let everything pass
            path = self._daemon.path
            logger.error("Plugin %s: cpexd does not answer at %s, calls fail until it does: %s", self.name, path, error)
            return
        for hook in self.hooks:
            names = listing.hooks.get(hook, [])
            if not names or (self._only and self._only not in names):
                logger.warning("Plugin %s: in cpexd %s does not listen to %s", self.name, self._only or "no plugin", hook)

    async def shutdown(self) -> None:
        if self._holds:
            self._holds = False
            await self._daemon.let_go()

    async def _call(self, hook: str, payload: Any, context: PluginContext, extensions: Extensions | None) -> PluginResult:
        if sentence := _lost.get():
            raise objects.failure(sentence)
        shared = context.global_context
        try:
            own = self._own(context)
            contexts = objects.pack_contexts(shared.request_id, own)
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the context of {hook} cannot be sent to cpexd: {error}", self.name) from error
        try:
            answer = await self._daemon.invoke(
                hook,
                payload,
                shared,
                budget=self._timeout,
                patience=_calls.wait_for(self._timeout),
                extensions=extensions,
                contexts=contexts,
                plugin=self._only,
                direct=bool(self._only),
            )
        except (CpexdError, OSError) as error:
            raise self._failed(error, context, own) from error
        self._put_own(context, own, objects.unpack_contexts(answer.contexts))
        result = objects.result(answer, objects.modified_payload(hook, payload, answer), of_a_plugin=True)
        return result.model_copy(update={"executions": []})  # the manager writes its own

    def _failed(self, error: Exception, context: PluginContext, own: Mapping[str, Any]) -> Exception:
        if not isinstance(error, CpexdError) or not self._only:
            return _raised(error, self._daemon.path)
        self._put_own(context, own, objects.unpack_contexts(error.data.get("contexts")))
        if error.data.get("cause") == "timeout":
            return asyncio.TimeoutError(error.message)  # which the manager knows from its own plugins
        raised = _raised(error, self._daemon.path)
        if error.plugin_name == self._only and hasattr(raised, "error"):
            raised.error.plugin_name = self.name
        return raised

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
    """A plugin of a manager, which holds the daemon for it."""

    def __init__(self, config: PluginConfig, daemon: Daemon) -> None:
        self._bind(config, daemon, config.name, None)

    async def initialize(self) -> None:
        pass


class RemoteTenantPluginManager(TenantPluginManager):
    """CPEX's plugin manager, with its plugins in cpexd: in place of ``TenantPluginManager``, each instance for itself.

    Takes what that takes, and gives the same results, contexts and exceptions. What differs:

    - The daemon's configuration decides which plugins there are, their modes, timeouts and policies. ``config`` (a path or
      a Config) only serves the property of that name; without it that is what the daemon tells. ``hook_policies`` and
      ``default_hook_policy`` given here also hold, for the payload that comes back.
    - ``timeout`` is for ``invoke_hook_for_plugin``; ``call_timeout`` for a whole ``invoke_hook``, in seconds. A daemon that is silent for
      twice ``timeout`` for each plugin of the hook, and once more, counts as gone.
    - While the daemon is gone, stops, or refuses for its limits, a call ends as if each plugin of the hook had failed: by its
      ``on_error``. A call that may have begun is not repeated. A manager can start then if another one of the process has seen the daemon.
    - Background plugins run in the daemon: ``background_tasks`` of a result is empty.
    - A call before ``initialize`` raises PluginError, rather than let everything pass. One after ``shutdown`` is still served: hosts replace
      managers while requests are under way, whose results would otherwise pass unseen.
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
        self._daemon = Daemon.at(socket)
        self._call_timeout = call_timeout
        self._listing: Listing | None = None

    async def initialize(self) -> None:
        """Raises RuntimeError where the daemon does not answer, and never has in this process."""
        async with self._async_lock:
            if self._initialized:
                return
            self._daemon.hold()
            try:
                self._use(await self._known())
            except BaseException:
                await self._daemon.let_go()
                raise
            self._initialized = True

    async def _known(self) -> Listing:
        path = self._daemon.path
        try:
            return await self._daemon.list()
        except (CpexdError, OSError) as error:
            if not self._daemon.listing:
                raise RuntimeError(
                    f"Plugin initialization failed: cpexd does not answer at {path} - {error}; "
                    "start it, or give the path of its socket (argument socket, or CPEXD_SOCKET)"
                ) from error
            logger.error("cpexd does not answer at %s, calls fail until it does: %s", path, error)
            return self._daemon.listing

    async def shutdown(self) -> None:
        async with self._async_lock:
            if self._initialized:
                self._initialized = False
                await self._daemon.let_go()

    def _use(self, listing: Listing) -> None:
        self._listing = listing
        given = {entry.name: entry for entry in (self._given.plugins if self._given else None) or []}
        registry, configs = PluginInstanceRegistry(), []
        for entry in listing.plugins:
            config = _plugin_config(entry, given.get(entry["name"]))
            configs.append(config)
            hooks = [hook for hook in config.hooks if config.name in listing.hooks.get(hook, [])]
            config = config.model_copy(update={"hooks": hooks})
            running = hooks or entry.get("status") in ("ready", "starting")
            if config.mode == PluginMode.DISABLED or not running or registry.get_plugin(config.name):
                continue
            registry.register(_ServedPlugin(config, self._daemon), trusted_config=config)
            # The same for the same plugin whatever is reloaded: tables of contexts are keyed with it.
            registry.get_plugin(config.name)._uuid = uuid.uuid5(uuid.NAMESPACE_OID, config.name)
        self._registry = registry
        if not self._given:
            self._config = Config.model_construct(plugins=configs)

    async def _follow(self) -> None:
        """Takes over the plugins of a daemon that has read its configuration anew, or was replaced."""
        try:
            listing = await self._daemon.listed()
        except (CpexdError, OSError) as error:
            logger.warning("The plugins of cpexd cannot be read anew: %s", error)
            return
        if listing is not self._listing:
            self._use(listing)

    def _check(self) -> None:
        if not self._listing:
            raise objects.failure("the plugin manager is not initialized: await its initialize() before calls")

    def _patience(self, hook: str) -> float:
        """Each plugin may wait for a worker for its time, and then run for it."""
        if self._call_timeout is not None:
            return self._call_timeout + _calls.GRACE
        return 2 * float(self.executor.timeout) * (len(self._registry.get_hook_refs_for_hook(hook)) + 1)

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
        hook = str(getattr(hook_type, "value", hook_type))
        keys = {ref.name: global_context.request_id + ref.uuid for ref in self._registry.get_all_plugins()}
        given = {name: local_contexts[key] for name, key in keys.items() if key in local_contexts} if local_contexts else {}
        try:
            own = {name: objects.own_context(context) for name, context in given.items()}
            contexts = objects.pack_contexts(global_context.request_id, own)
        except (TypeError, ValueError, RecursionError) as error:
            raise objects.failure(f"the contexts of {hook} cannot be sent to cpexd: {error}") from error
        span = HookSpan(self.executor.observability, self._registry, hook, self.executor.timeout)
        try:
            answer = await self._daemon.invoke(
                hook,
                payload,
                global_context,
                budget=self._call_timeout,
                patience=self._patience(hook),
                extensions=extensions,
                contexts=contexts,
                violations_as_exceptions=violations_as_exceptions,
            )
        except (CpexdError, OSError) as error:
            raised = _raised(error, self._daemon.path)
            if not is_loss(error):
                span.end(objects.records(getattr(error, "executions", None)), None)
                await self._follow()
                raise raised from error
            with _without_daemon(str(raised)):
                return await super().invoke_hook(
                    hook, payload, global_context, local_contexts, violations_as_exceptions, extensions
                )
        await self._follow()
        result = objects.result(answer, self._accepted(hook, payload, answer), of_a_plugin=False)
        span.end(result.executions, result)
        return result, self._table(answer, global_context, keys, given, own)

    def _accepted(self, hook: str, payload: Any, answer: Answer) -> Any:
        modified = objects.modified_payload(hook, payload, answer)
        allow = self.executor.default_hook_policy == DefaultHookPolicy.ALLOW
        return objects.accepted(payload, modified, self.executor.hook_policies.get(hook), allow)

    @staticmethod
    def _table(
        answer: Answer,
        global_context: GlobalContext,
        keys: Mapping[str, str],
        given: Mapping[str, PluginContext],
        own: Mapping[str, Any],
    ) -> PluginContextTable | None:
        if answer.contexts is None:
            return None
        table: PluginContextTable = {}
        copy = {"state": dict(global_context.state), "metadata": dict(global_context.metadata)}
        for name, got in objects.unpack_contexts(answer.contexts).items():
            shared = global_context.model_copy(update=copy)
            context = given.get(name) or PluginContext(global_context=shared)
            context.global_context = shared
            objects.put_own(context, own.get(name), got)
            table[keys.get(name) or global_context.request_id + name] = context
        return table

    async def invoke_hook_for_plugin(self, *args: Any, **kwargs: Any) -> PluginResult:
        """As the manager's own, which calls the plugin that stands for the one in cpexd."""
        self._check()
        try:
            result = await super().invoke_hook_for_plugin(*args, **kwargs)
        except Exception:
            await self._follow()
            raise
        await self._follow()
        return result


class RemotePluginManager(RemoteTenantPluginManager):
    """In place of ``PluginManager``: as there, all instances of a process are one, and the first one's arguments count.

    For the rest see ``RemoteTenantPluginManager``.
    """

    _shared: dict[str, Any] = {}
    _making = threading.Lock()

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
        self.__dict__ = self._shared
        with self._making:
            if not self._shared:
                super().__init__(
                    config, timeout, observability, hook_policies, default_hook_policy, socket=socket, call_timeout=call_timeout
                )
                return
        executor = self.executor  # CPEX lets later instances give what the first one did not
        executor.hook_policies = executor.hook_policies or hook_policies or {}
        executor.observability = executor.observability or observability
        if default_hook_policy:
            executor.default_hook_policy = DefaultHookPolicy(default_hook_policy)

    @classmethod
    def reset(cls) -> None:
        """Lets the next instance be a first one."""
        with cls._making:
            cls._shared.clear()


@contextlib.contextmanager
def _without_daemon(sentence: str) -> Iterator[None]:
    logger.error("%s", sentence)
    token = _lost.set(sentence)
    try:
        yield
    finally:
        _lost.reset(token)


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
