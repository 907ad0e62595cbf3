# SPDX-License-Identifier: Apache-2.0
"""Waits 50 ms, as for a service that it asks."""

import asyncio

from cpex.framework import Plugin, PluginContext, PromptPrehookPayload, PromptPrehookResult


class WaiterPlugin(Plugin):
    async def prompt_pre_fetch(self, payload: PromptPrehookPayload, context: PluginContext) -> PromptPrehookResult:
        await asyncio.sleep(0.05)
        return PromptPrehookResult()
