# SPDX-License-Identifier: Apache-2.0
"""Upstream's protocol on a Unix socket. Its messages have no ids: the next answer on a connection is taken for that of the last request.

Upstream's client keeps one connection, also after a call on it was given up, and from then on each call gets the answer of the one before it.
It also sends a request again when the connection broke, though the server may have run it. So here each call in flight has a connection of its
own, which is used again only after its answer has been read, and a request is sent once.
"""

import asyncio

from cpex.framework.errors import PluginError
from cpex.framework.external.grpc.proto.plugin_service_pb2 import InvokeHookResponse
from cpex.framework.external.unix.client import UnixSocketExternalPlugin
from cpex.framework.external.unix.protocol import ProtocolError, read_message, write_message_async
from cpex.framework.models import PluginErrorModel
from google.protobuf.message import DecodeError


class Client(UnixSocketExternalPlugin):
    def __init__(self, config):
        super().__init__(config)
        self._free = []

    async def initialize(self):
        await super().initialize()
        await self._disconnect()  # the answer to its question may be still to come

    async def shutdown(self):
        for _, writer in self._free:
            writer.close()

    async def _send_request(self, request):
        reader, writer = self._take_free() or await self._open()
        try:
            await write_message_async(writer, request.SerializeToString())
            response = InvokeHookResponse.FromString(await read_message(reader, self._timeout))
        except TimeoutError:
            writer.close()
            raise self._error(f"Request timed out after {self._timeout}s") from None
        except (OSError, EOFError, ProtocolError, DecodeError) as exc:
            writer.close()
            raise self._error(f"Request failed: {exc}") from exc
        except BaseException:
            writer.close()
            raise
        self._free.append((reader, writer))
        return response

    def _take_free(self):
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _open(self):
        attempts = max(1, self._reconnect_attempts)
        for attempt in range(1, attempts + 1):
            try:
                return await asyncio.open_unix_connection(self._socket_path)
            except OSError as exc:
                error = exc
            if attempt < attempts:
                await asyncio.sleep(self._reconnect_delay * attempt)
        raise self._error(f"Failed to connect to {self._socket_path}: {error}")

    def _error(self, message):
        return PluginError(PluginErrorModel(message=message, plugin_name=self.name))
