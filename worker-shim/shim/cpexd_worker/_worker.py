# SPDX-License-Identifier: Apache-2.0
"""The worker: reads messages, calls the plugin, answers."""

import atexit
import os
import sys
from _functools import partial

from _cpexd import Connection, Oversize, Quick, Undecodable, decode, encode, encode_pieces, fork

from cpexd_worker import _errors, _load
from cpexd_worker._drive import Driver
from cpexd_worker._hook import Hook
from cpexd_worker._sdk import Sdk

_SOCKET = 3
_LIMIT = 1 << 30  # of a message, in bytes; the daemon's own limits are lower
_TEXT = 1000  # characters of a text that stands in for one that cannot be sent
_BATCH = 16  # messages read in one turn of the loop, so that a plugin's own tasks get theirs


# What an answer may hold for the next plugin of a chain to get what this one got. The daemon has the same rule (pool/step.c).
_HARMLESS = frozenset(("metadata", "retry_delay_ms", "contexts", "http_headers"))
_SCALARS = frozenset((str, int, float, bool, bytes, type(None)))
# So deep in lists what the daemon takes can be encoded, and nothing that is deeper (REQUEST_DEPTH_MAX there, DEPTH_MAX of the codec).
_WRAPPED = 29

_worker = None


def run(sdk_folder):
    """Serves until the daemon is done with this worker."""
    global _worker
    _worker = _Worker(_connect(), sdk_folder)
    _worker.serve()


def _connect():
    connection = Connection(_SOCKET, _LIMIT)
    os.register_at_fork(after_in_child=connection.close)
    return connection


def retire(reason):
    """Takes no more calls, and ends the process when those under way are answered: for a plugin that is of no use any more."""
    _worker.retire(reason)


class _Call:
    """A call under way."""

    __slots__ = ("task", "begun", "cancelled", "member", "chain")

    def __init__(self, member, chain=None):
        self.task = None
        self.begun = False
        self.cancelled = False
        self.member = member
        self.chain = chain


class _Chain:
    """Steps of one hook call: each is a call, which begins when the one before it has ended and has changed nothing."""

    __slots__ = ("ident", "params", "n", "next")

    def __init__(self, ident, params):
        self.ident = ident
        self.params = params
        self.n = len(params["steps"])
        self.next = 0

    def step(self, number):
        """The parameters of its `invoke`, with objects of their own."""
        params = self.params
        step = params["steps"][number]
        return params | step | {"context": decode(params["context"]), "extensions": decode(step["extensions"])}


class _Member:
    """A plugin of this worker."""

    __slots__ = ("cls", "plugin", "hooks", "missing")

    def __init__(self, cls):
        self.cls = cls
        self.plugin = None
        self.hooks = None
        self.missing = {}


class _Worker:
    def __init__(self, connection, sdk_folder):
        self._connection = connection
        self._sdk_folder = sdk_folder
        self._driver = Driver()
        self._sdk = None
        self._members = {}
        self._output = None
        self._calls = {}
        self._answer_bytes = self._answer_values = _LIMIT
        self._stopping = False
        self._retiring = None
        self._zygote = None  # the request to become one

    # -- reading -----------------------------------------------------------------------------------------------------

    def serve(self):
        self._serve()
        if self._zygote is not None:
            self._fork()
            self._serve()
        self._driver.close()
        _leave()

    def _serve(self):
        driver = self._driver
        while driver.loop is None and not self._stopping:
            self._take(self._read())
        if not self._stopping:
            driver.wait_by(self._connection)
            driver.loop.add_reader(self._connection.fileno(), self._readable)
            driver.loop.call_soon(self._readable)  # what has been read already wakes nobody
        while not self._stopping:
            try:
                driver.loop.run_forever()  # a plugin may stop it, or end it by an exception of one of its tasks
            except BaseException as exc:
                print(f"a task of the plugin's ended with {_errors.traceback_of(exc)}", file=sys.stderr)

    def _fork(self):
        """Returns in a worker that was forked."""
        from cpexd_worker import _zygote

        ident, params = self._zygote
        obstacle = _zygote.become(self._driver, self._connection, self._sdk, params.get("hooks") or [])
        self._answer(ident, obstacle and _errors.protocol_error("zygote", obstacle), None if obstacle else {})
        if obstacle:
            self._read()  # until it is killed for that
        if obstacle or not fork(self._connection.fileno()):
            _leave()
        self._connection = _connect()
        self._stopping = False
        _zygote.renew()

    def retire(self, reason):
        if self._retiring is None:
            self._retiring = reason
            if self._driver.quick is not None:
                self._driver.quick.stop()
            if self._driver.loop is not None:
                self._driver.loop.remove_reader(self._connection.fileno())

    def _readable(self):
        for _ in range(_BATCH):
            if self._retiring is not None:
                return
            message = self._read(wait=False)
            if message is None:
                return
            self._take(message)
        self._driver.loop.call_soon(self._readable)

    def _read(self, wait=True):
        try:
            return self._connection.recv(wait, self._driver.quick)
        except Undecodable as exc:
            text, ident = exc.args
            if ident < 0:
                _leave(f"cpexd worker: a message from the daemon cannot be read: {text}")
            return [0, ident, None, [text]]  # _take() refuses it
        except EOFError:
            _leave()
        except (OSError, ValueError) as exc:
            _leave(f"cpexd worker: the connection to the daemon is broken: {exc}")

    def _take(self, message):
        if type(message) is tuple:
            self._go_on_with(*message)
            return
        ident, method, params = _envelope(message)
        if method == "invoke":
            self._start(ident, self._invoke, params)
        elif method == "chain":
            self._start_chain(ident, params)
        elif method == "cancel":
            self._cancel(params)
        elif method == "core":
            self._connection.wait_on(params.get("core"))
        elif method in ("load", "forked", "init"):
            self._start(ident, getattr(self, f"_{method}"), params, self._driver.base)
        elif method == "zygote":
            self._become_zygote(ident, params)
        elif method == "shutdown":
            self._start(ident, self._shutdown, params)
        elif method == "ping":
            self._answer(ident, None, {})
        elif method is None:
            self._answer(ident, _errors.protocol_error("bad_request", params), None)
        elif ident is not None:  # notifications that came later than this worker are hints
            self._answer(ident, _errors.protocol_error("unknown_method", f"a worker has no method {method!r}"), None)

    def _start(self, ident, method, params, context=None):
        call = self._calls[ident] = _Call(params.get("member", 0))
        if context is None:  # an empty one is false
            context = self._driver.base.copy()
        call.task = self._driver.start(self._run(ident, call, method, params), context)

    def _go_on_with(self, hook, message, arguments, before, coro, context, waits, value, exc):
        """A call that has begun as a quick one, and waits for something or has an outcome that is not plain."""
        ident, _, params = _envelope(message)
        call = self._calls[ident] = _Call(0)
        call.begun = True
        then = partial(self._ended, ident, hook, params, arguments, before)
        if waits:
            call.task = self._driver.go_on(coro, context, value, then)
        else:
            self._driver.end_quick()
            context.run(then, value, exc)

    def _ended(self, ident, hook, params, arguments, before, result, exc):
        try:
            if exc is not None:
                outcome = hook.raised(exc, params, arguments, before)
            else:
                outcome = hook.returned(result, params, arguments, before)
        except BaseException as again:
            outcome = _errors.exception_map(again, _errors.repr_of(again)), None
        self._finish(ident, *outcome)
        self._leave_if_retired()

    def _start_chain(self, ident, params):
        chain = _Chain(ident, params)
        for number in range(chain.n):
            self._calls[ident + number] = _Call(params["steps"][number]["member"], chain)
        self._go_on(chain)

    def _go_on(self, chain, _task=None):
        """Begins the next step, and those after it as long as they end at once."""
        while chain.next < chain.n:
            number, chain.next = chain.next, chain.next + 1
            ident = chain.ident + number
            call = self._calls[ident]
            call.task = self._driver.start(self._run(ident, call, self._invoke_step, number), self._driver.base.copy())
            if call.task is not None:
                call.task.add_done_callback(partial(self._go_on, chain))
                return

    def _end_chain(self, chain):
        for number in range(chain.next, chain.n):
            del self._calls[chain.ident + number]
        chain.next = chain.n

    async def _invoke_step(self, number, chain):
        try:
            params = chain.step(number)
        except (TypeError, ValueError) as exc:
            return _errors.protocol_error("bad_request", str(exc)), None
        return await self._invoke(params)

    async def _run(self, ident, call, method, params):
        call.begun = True
        if self._output is not None:
            self._output.member.set(call.member)
        try:
            if call.cancelled:
                error, result = _errors.exception_map(_cancelled_error(), "CancelledError()"), None
            else:
                error, result = await (method(params) if call.chain is None else method(params, call.chain))
        except BaseException as exc:
            error, result = _errors.exception_map(exc, _errors.repr_of(exc)), None
        if not self._finish(ident, error, result, call.chain is not None) and call.chain is not None:
            self._end_chain(call.chain)
        self._leave_if_retired()

    def _finish(self, ident, error, result, chained=False):
        self._calls.pop(ident, None)
        return self._answer(ident, error, result, chained)

    def _leave_if_retired(self):
        if self._retiring is not None and not self._calls:
            _leave(self._retiring)

    def _cancel(self, params):
        call = self._calls.get(params.get("msgid"))
        if call is None:
            return
        if call.begun and call.task is not None:
            call.task.cancel()
        else:
            call.cancelled = True

    # -- answering ---------------------------------------------------------------------------------------------------

    def _answer(self, ident, error, result, chained=False):
        """Returns whether a chain goes on behind it."""
        goes_on = error is None and result.keys() <= _HARMLESS
        try:
            message = encode_pieces([1, ident, error, result], self._answer_bytes)
            if goes_on and chained and not self._is_sure(message, result):
                goes_on = False
                message = encode_pieces([1, ident, error, result | {"continue_processing": True}], self._answer_bytes)
        except BaseException as exc:
            message = [encode([1, ident, *self._in_place_of(error, result, exc)])]
            goes_on = False
        try:
            self._connection.send(message)
        except (OSError, ValueError):
            _leave()  # the daemon is gone, or this is a forked child that came back from the hook
        return goes_on

    def _is_sure(self, message, result):
        """Returns whether the daemon is sure to take an answer that a chain goes on behind. It is a quick guess: a value has a byte at least."""
        delay, metadata = result.get("retry_delay_ms", 0), result.get("metadata", {})
        if sum(map(len, message)) > self._answer_values or type(delay) is not int or not -(1 << 63) <= delay < 1 << 63:
            return False
        if all(type(each) in _SCALARS for each in metadata.values()):
            return True
        for _ in range(_WRAPPED):
            metadata = [metadata]
        try:
            encode(metadata)
        except ValueError:
            return False
        return True

    def _in_place_of(self, error, result, exc):
        """(error, result) for an answer that cannot be sent. A denial stays one."""
        answer = error if result is None else result
        if answer.get("continue_processing") is False:
            _errors.note_lost("all but the violation", exc)
            return None, {"continue_processing": False, "violation": _bare_violation(answer.get("violation"))}
        if answer.get("type") == "PluginViolationError":
            _errors.note_lost("all but the violation", exc)
            message, violation = str(answer["message"])[:_TEXT], _bare_violation(answer.get("violation"))
            return {"code": "", "type": "PluginViolationError", "message": message, "violation": violation}, None
        return (self._oversize() if isinstance(exc, Oversize) else _unsendable(answer, exc)), None

    def _oversize(self):
        return {
            "code": "",
            "type": "PluginError",
            "message": f"the answer has more than {self._answer_bytes} bytes (frame_bytes)",
            "plugin_name": None,
            "details": {"limit": "frame_bytes", "maximum": self._answer_bytes},
            "cause": "oversize",
        }

    # -- methods -----------------------------------------------------------------------------------------------------

    async def _load(self, params):
        number = params.get("member", 0)
        if number in self._members:
            return _errors.protocol_error("bad_request", "load comes once"), None
        try:
            if params.get("members", 1) > 1 and self._output is None:
                self._mark_output(number)
            if self._sdk is None:
                os.chdir(params.get("folder") or ".")
                self._sdk = Sdk(self._sdk_folder)  # before a plugin's folder, which may have a `cpex` of its own in it, comes first
            _load.put_paths(params.get("paths") or [], params.get("more_paths") or [])
            if self._members:
                _load.check_module(params["class_name"], params.get("paths") or [])
            self._members[number] = _Member(_load.plugin_class(params["class_name"]))
        except BaseException as exc:
            return _errors.load_error(exc), None
        return None, {}

    def _mark_output(self, number):
        from cpexd_worker import _output

        _output.mark()
        _output.member.set(number)
        atexit.register(_output.end)
        self._output = _output

    async def _forked(self, params):
        """In the place of load, which the zygote has done."""
        from cpexd_worker import _zygote

        _zygote.move_to(params["folder"])
        return None, {}

    async def _init(self, params):
        member = self._members.get(params.get("member", 0))
        if member is None or member.hooks is not None:
            return _errors.protocol_error("bad_request", "init comes once, after load"), None
        member.hooks = {}
        self._answer_bytes = params.get("frame_bytes") or _LIMIT
        self._answer_values = params.get("values") or _LIMIT
        sdk = self._sdk
        try:
            plugin = member.cls(sdk.PluginConfig(**params["plugin"]))
            await plugin.initialize()
            member.plugin = plugin
        except BaseException as exc:
            return _errors.load_error(exc), None
        hooks, merged = params.get("hooks") or [], {}
        if params["plugin"].get("kind") == "external":  # what its server says of it counts
            hooks, merged = plugin.config.hooks, {"config": _load.entry_of(plugin.config)}
        for hook in hooks:
            try:
                member.hooks[hook] = Hook(sdk, plugin, hook)
            except Exception as exc:
                member.missing[hook] = _errors.text_of(exc) if type(exc) is not KeyError else _errors.repr_of(exc)
        version = ".".join(map(str, sys.version_info[:3]))
        return None, {"hooks": list(member.hooks), "missing": member.missing, "sdk": sdk.name, "python": version, **merged}

    async def _invoke(self, params):
        member = self._members.get(params.get("member", 0))
        hooks = member and member.hooks
        hook = hooks.get(params.get("hook")) if hooks else None
        if hook is not None:
            outcome = await hook.call(params)
            if hook.result_class is not None and not hook.is_looked_at:
                self._make_quick(hook)
            return outcome
        if member is None or member.plugin is None:
            return _errors.protocol_error("not_ready", "the plugin is not initialized"), None
        name = params.get("hook")
        return _errors.protocol_error("unknown_hook", member.missing.get(name) or f"the plugin serves no hook {name!r}"), None

    def _make_quick(self, hook):
        """Has further calls of a hook served by the extension, where they are plain."""
        hook.is_looked_at = True
        driver = self._driver
        if driver.loop is not None or self._output is not None:
            return
        try:
            known = hook.quick()
        except Exception:  # of a class that cannot be compiled, for one: this call has not needed it
            return
        if known is None:
            return
        if driver.quick is None:
            driver.quick = Quick(driver.base, self._answer_bytes, *self._sdk.contexts())
        driver.quick.add(*known)

    async def _shutdown(self, params):
        for _, member in sorted(self._members.items(), reverse=True):
            if member.plugin is None:
                continue
            try:
                await member.plugin.shutdown()
            except BaseException as exc:
                print(f"shutdown of the plugin failed: {_errors.traceback_of(exc)}", file=sys.stderr)
        self._stop()
        return None, {}

    def _become_zygote(self, ident, params):
        if not self._members or any(member.hooks is not None for member in self._members.values()):
            self._answer(ident, _errors.protocol_error("bad_request", "zygote comes once, after load"), None)
        else:
            self._zygote = ident, params
            self._stop()

    def _stop(self):
        self._stopping = True
        if self._driver.loop is not None:
            self._driver.loop.stop()


def _envelope(message):
    """(id, method, parameters) of a request; the id of a notification is None."""
    try:
        if message[0] == 2:
            ident, (_, method, params) = None, message
        else:
            kind, ident, method, params = message
            if kind != 0:
                raise ValueError
        return ident, method, params[0] if params else {}
    except (TypeError, ValueError, LookupError):
        _leave("cpexd worker: the daemon sent what is no request")


def _cancelled_error():
    return sys.modules["asyncio"].CancelledError()


def _bare_violation(violation):
    """What of a violation can always be sent: its texts."""
    return violation and {key: str(violation.get(key))[:_TEXT] for key in ("reason", "description", "code")} | {"details": {}}


def _unsendable(answer, exc):
    """The error in place of an answer that holds what cannot be sent; says where it stands."""
    for key, value in answer.items():
        try:
            encode(value)
        except BaseException as again:
            return _errors.exception_map(again, f"{type(again).__name__}({f'{key}: {again}'!r})")
    return _errors.exception_map(exc, _errors.repr_of(exc))


def _leave(message=None):
    """Ends the process at once, but for what the plugin has registered with atexit: nobody waits for it, and its threads could hold up
    an orderly end for ever."""
    if message is not None:
        print(message, file=sys.stderr)
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    os._exit(0 if message is None else 1)
