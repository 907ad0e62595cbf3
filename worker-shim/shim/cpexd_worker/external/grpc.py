# SPDX-License-Identifier: Apache-2.0
"""gRPC. Its channel finds a server again by itself, but with pauses of up to two minutes, which the pool undercuts."""

from cpex.framework.errors import PluginError
from cpex.framework.external.grpc.client import GrpcExternalPlugin
from grpc import ChannelConnectivity

from cpexd_worker._worker import retire


class Client(GrpcExternalPlugin):
    async def invoke_hook(self, hook, payload, context):
        try:
            return await super().invoke_hook(hook, payload, context)
        except PluginError as failed:
            if self._channel.get_state() is ChannelConnectivity.TRANSIENT_FAILURE:
                retire(f"the plugin's server cannot be reached: {failed}")
            raise
