# SPDX-License-Identifier: Apache-2.0
"""What messages and prompt results look like, for type hints and isinstance checks."""

from typing import Any, Optional, Protocol, Sequence, runtime_checkable


@runtime_checkable
class MessageLike(Protocol):
    """A message: who, and what."""

    role: str
    content: Any


@runtime_checkable
class PromptResultLike(Protocol):
    """A rendered prompt."""

    messages: Sequence[MessageLike]
    description: Optional[str]
