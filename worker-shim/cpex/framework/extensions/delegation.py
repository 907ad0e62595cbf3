# SPDX-License-Identifier: Apache-2.0
"""On whose behalf a call is made: the chain of delegations."""

from __future__ import annotations

from .. import _lazily
from .._fields import ConfigDict, Field
from .._model import BaseModel

__getattr__ = _lazily(__name__)


def _now():
    from datetime import UTC, datetime

    return datetime.now(UTC)


class DelegationHop(BaseModel):
    """One step: who acts, for what audience, with what scopes."""

    model_config = ConfigDict(frozen=True)

    subject_id: str
    subject_type: str
    audience: str | None = None
    scopes_granted: tuple[str, ...] = ()
    timestamp: datetime = Field(default_factory=_now)  # noqa: F821 - found through the module's __getattr__
    ttl_seconds: int | None = None
    strategy: str | None = None
    from_cache: bool = False


class DelegationExtension(BaseModel):
    """The chain, oldest step first."""

    model_config = ConfigDict(frozen=True)

    chain: tuple[DelegationHop, ...] = ()
    depth: int = 0
    origin_subject_id: str | None = None
    actor_subject_id: str | None = None
    delegated: bool = False
    age_seconds: float = 0.0

    def with_new_hop(self, hop):
        """The chain with one more step."""
        chain = (*self.chain, hop)
        age = (_now() - self.chain[0].timestamp).total_seconds() if self.chain else 0.0
        return DelegationExtension(
            chain=chain,
            depth=len(chain),
            origin_subject_id=self.origin_subject_id or hop.subject_id,
            actor_subject_id=hop.subject_id,
            delegated=True,
            age_seconds=age,
        )
