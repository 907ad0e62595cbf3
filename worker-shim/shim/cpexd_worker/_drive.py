# SPDX-License-Identifier: Apache-2.0
"""Runs coroutines, at the price of asyncio only for plugins that use it.

While nobody has imported asyncio, no coroutine can wait for anything, so `start` runs it to its end by hand. The moment
somebody imports asyncio, be it in the middle of a hook, a loop exists and counts as running, and the coroutine under way
becomes the current task of that loop; where it first waits it goes on there (`_rest`). From then on every coroutine is a
task from the beginning; Python 3.12 runs its first step at once, so that a hook that never waits costs no turn of the loop.

Whoever calls `start` passes coroutines that handle their own exceptions. The extension runs others itself (shim/quick.h), by hand, too, and hands over
what waits.
"""

import sys
from _frozen_importlib_external import PathFinder
from _thread import get_ident
from contextvars import copy_context
from types import coroutine

_CLOSE_SECONDS = 1  # for tasks that do not let go of their cancellation
_EAGER = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class Driver:
    def __init__(self):
        self.loop = None
        self.quick = None  # runs coroutines, too
        self.base = copy_context()  # what initialize() sets in it, every call finds in its copy
        self._thread = get_ident()
        self._segment = None
        if "asyncio" in sys.modules:
            self.adopt()
        else:
            sys.meta_path.insert(0, _Watch(self._imported))

    def start(self, coro, context):
        """Runs `coro` up to where it waits. Return: the task that it is from there on, None when it is done."""
        if self.loop is None and "asyncio" in sys.modules:
            self.adopt()  # a thread of the plugin's has imported it
        if self.loop is None:
            return self._by_hand(coro, context)
        task = sys.modules["asyncio"].Task(coro, loop=self.loop, context=context, **_EAGER)
        return None if task.done() else task

    def adopt(self):
        """Asyncio is here: makes the loop. It may still be on its way in another thread, for which the import waits."""
        import asyncio

        if self.quick is not None:
            self.quick.stop()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        _keep_child_watcher(asyncio)

    def wait_by(self, connection):
        """Waits on the loop where the connection says."""
        selector = getattr(self.loop, "_selector", None)  # without, the scheduler decides
        if selector is None:
            return
        select = selector.select

        def select_there(timeout=None):
            if timeout == 0 or not connection.hold():
                return select(timeout)
            try:
                return select(timeout)
            finally:
                connection.release()

        selector.select = select_there

    def drop(self):
        """Gives the loop up, as if asyncio had not been imported yet. Return: why that is not possible, None if it was."""
        if self.loop is None:
            return None
        import asyncio
        import gc
        import weakref

        loop, self.loop = weakref.ref(self.loop), None
        if asyncio.all_tasks(loop()) or getattr(loop(), "_scheduled", None):
            return "it has tasks on the event loop"
        loop().close()
        asyncio.set_event_loop(None)
        gc.collect()
        return None if loop() is None else "it holds on to the event loop"

    def close(self):
        """Ends what the plugin left on the loop, as asyncio.run() does."""
        if self.loop is None:
            return
        asyncio = sys.modules["asyncio"]
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_SECONDS))
            self.loop.run_until_complete(asyncio.wait_for(self.loop.shutdown_asyncgens(), _CLOSE_SECONDS))
        except BaseException as exc:
            print(f"while the plugin's tasks were ended: {exc!r}", file=sys.stderr)

    def _imported(self):
        # Another thread may do so at any time; then this one makes the loop before its next call.
        if get_ident() != self._thread or self.loop is not None:
            return
        self.adopt()
        if self._segment is None and self.quick is not None and (running := self.quick.running()):
            self._segment = _Segment(*running)
        if self._segment is not None:
            self._segment.enter(self.loop)

    def _by_hand(self, coro, context):
        segment = self._segment = _Segment(coro, context)
        try:
            segment.run()
        finally:
            self._segment = None
        return segment.leave()

    def end_quick(self):
        """A coroutine that `quick` has run is at its end."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.end()

    def go_on(self, coro, context, waits_for, then):
        """Goes on with a coroutine that `quick` has run up to where it waits: then(result, exception) is its end. Return: as start() does."""
        segment, self._segment = self._segment, None
        if segment is not None:
            return segment.wait(waits_for, then)
        return self.start(_to_the_end(_rest_of(coro, waits_for), then), context)


async def _to_the_end(rest, then):
    try:
        result = await rest
    except BaseException as exc:
        then(None, exc)
    else:
        then(result, None)


@coroutine
def _rest_of(coro, waits_for):
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as exc:
                waits_for = coro.throw(exc)
            else:
                waits_for = coro.send(value)
    except StopIteration as stop:
        return stop.value


def _keep_child_watcher(asyncio):
    """Plugins install other policies, uvloop's for one. The loop that runs stays, and asks the new policy for what it needs to start
    processes and what that policy does not have. From Python 3.14 on no loop asks."""
    find = getattr(asyncio.events, "get_child_watcher", None)
    if find is None:
        return
    policy = asyncio.get_event_loop_policy()

    def get_child_watcher():
        try:
            return find()
        except NotImplementedError:
            return policy.get_child_watcher()

    asyncio.events.get_child_watcher = get_child_watcher


class _Segment:
    """A coroutine that runs by hand, up to its end or to where it waits on a loop that came while it ran."""

    def __init__(self, coro, context):
        self._coro = coro
        self._context = context
        self._task = None
        self._waits_for = None
        self._generators = None
        self._ended = False
        self._then = None

    def run(self):
        step, value = self._coro.send, None
        try:
            while True:
                waits_for = self._context.run(step, value)
                if self._task is not None:
                    self._waits_for = waits_for
                    return
                step, value = self._coro.send, None
                if waits_for is not None:  # no future of asyncio's, so nothing would ever wake it
                    step, value = self._coro.throw, RuntimeError(f"Task got bad yield: {waits_for!r}")
        except StopIteration:
            self._ended = True

    def enter(self, loop):
        """The loop has come: inside the coroutine it runs, with the coroutine as its current task."""
        asyncio = sys.modules["asyncio"]
        rest = self._become_task()
        rest.send(None)
        self._task = asyncio.Task(rest, loop=loop, context=self._context)
        asyncio._set_running_loop(loop)
        asyncio.tasks._enter_task(loop, self._task)
        # So that the loop ends the asynchronous generators that are begun from here on.
        self._generators = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook)

    def end(self):
        self._ended = True
        self.leave()

    def wait(self, waits_for, then):
        self._waits_for, self._then = waits_for, then
        return self.leave()

    def leave(self):
        if self._task is None:
            return None
        asyncio = sys.modules["asyncio"]
        sys.set_asyncgen_hooks(*self._generators)
        asyncio.tasks._leave_task(self._task.get_loop(), self._task)
        asyncio._set_running_loop(None)
        return None if self._ended else self._task

    async def _become_task(self):
        await _to_the_end(self._rest(), self._at_end)

    def _at_end(self, result, exc):
        if self._then is not None:
            self._then(result, exc)

    @coroutine
    def _rest(self):
        """The task's own coroutine: goes on where run() stopped. It is begun, and waits here, while run() still runs."""
        try:
            yield
            value, thrown = (yield self._waits_for) if not self._ended else None, None
        except BaseException as exc:
            value, thrown = None, exc
        try:
            while not self._ended:
                step = self._coro.send(value) if thrown is None else self._coro.throw(thrown)
                try:
                    value, thrown = (yield step), None
                except BaseException as exc:
                    value, thrown = None, exc
        except StopIteration as stop:
            return stop.value


class _Watch:
    """Stands first on sys.meta_path until asyncio has been imported, then tells."""

    def __init__(self, imported):
        self._imported = imported
        self._loader = None

    def find_spec(self, name, path=None, target=None):
        if name != "asyncio":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            sys.meta_path.remove(self)
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported()
