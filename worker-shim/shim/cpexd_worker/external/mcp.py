# SPDX-License-Identifier: Apache-2.0
"""MCP, over streamable HTTP (TCP, TLS or a Unix socket) or standard input and output.

Two things of upstream's client are left unused. Its connection lives in anyio's cancel scopes, which only the task that has entered them may
leave, and which cancel that task when the connection breaks: so a task of its own keeps each connection from its beginning to its end. And it
answers every error of the protocol with a new connection and the same call again; here only a server that has forgotten the session, and so
has not run the call, gets it again.
"""

import asyncio
import sys

from cpex.framework.errors import PluginError
from cpex.framework.external.mcp.client import ExternalPlugin
from cpex.framework.models import PluginErrorModel
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

from cpexd_worker._worker import retire


class _Failed(PluginError):
    """The call has no answer. `forgotten`: the server does not know the session; `lost`: there is no connection any more."""

    def __init__(self, name, error):
        super().__init__(PluginErrorModel(message=f"the call of the plugin's server failed: {error}", plugin_name=name))
        self.forgotten = error.error.code == INVALID_REQUEST and "session" in error.error.message.lower()
        self.lost = error.error.code == CONNECTION_CLOSED


class _Connection(ExternalPlugin):
    """Upstream's client, for one connection."""

    async def open(self):
        opened = asyncio.get_running_loop().create_future()
        self._unneeded = asyncio.Event()
        self._keeper = asyncio.create_task(self._keep(opened))
        try:
            await opened
        except BaseException:
            self._keeper.cancel()
            raise
        return self

    async def close(self):
        self._unneeded.set()
        await asyncio.wait([self._keeper])

    async def _keep(self, opened):
        failed = None
        try:
            await self.initialize()
            if not opened.done():
                opened.set_result(None)
            await self._unneeded.wait()
        except BaseException as exc:
            failed = exc
        try:
            await self.shutdown()
        except BaseException as exc:  # a transport that broke has cancelled this task, and says only here why
            failed = failed if isinstance(failed, PluginError) else exc
        if not opened.done():
            opened.set_exception(self._unreachable(failed))

    def _unreachable(self, failed):
        while isinstance(failed, BaseExceptionGroup):
            failed = failed.exceptions[0]
        if isinstance(failed, PluginError):
            return failed
        return PluginError(PluginErrorModel(message=f"the plugin's server cannot be reached: {failed!r}", plugin_name=self.name))

    async def _reconnect_session(self):
        """Upstream's answer to the error that is being handled, which may be one that the plugin has raised and only sounds like it."""
        error = sys.exception()
        raise _Failed(self.name, error) if isinstance(error, MCPError) else error


class Client:
    def __init__(self, config):
        self.name = config.name
        self._given = config
        self._connection = None
        self._renewing = asyncio.Lock()

    @property
    def config(self):
        return self._connection.config

    async def initialize(self):
        self._connection = await _Connection(self._given).open()

    async def shutdown(self):
        await self._connection.close()

    async def invoke_hook(self, hook, payload, context):
        connection = self._connection
        try:
            return await self._invoke(connection, hook, payload, context)
        except _Failed as failed:
            if not failed.forgotten:
                raise
        async with self._renewing:
            if self._connection is connection:
                self._connection = await _Connection(self._given).open()
                await connection.close()
        return await self._invoke(self._connection, hook, payload, context)

    async def _invoke(self, connection, hook, payload, context):
        try:
            return await connection.invoke_hook(hook, payload, context)
        except _Failed as failed:
            if failed.lost:
                retire(f"the connection to the plugin's server is lost: {failed}")
            raise
