# SPDX-License-Identifier: Apache-2.0
"""The agent behind a call, and the conversation it is part of."""

from __future__ import annotations

from .._fields import ConfigDict, Field
from .._model import BaseModel


class ConversationContext(BaseModel):
    """The latest turns of a conversation and what came before in short."""

    model_config = ConfigDict(frozen=True)

    history: list[BaseModel] = Field(default_factory=list, max_length=100)
    summary: str | None = None
    topics: list[str] = Field(default_factory=list)


class AgentExtension(BaseModel):
    """Which agent, in which session and turn, for which request of the user."""

    model_config = ConfigDict(frozen=True)

    input: str | None = None
    session_id: str | None = None
    conversation_id: str | None = None
    turn: int | None = None
    agent_id: str | None = None
    parent_agent_id: str | None = None
    conversation: ConversationContext | None = None
