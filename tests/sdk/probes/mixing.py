# SPDX-License-Identifier: Apache-2.0
"""A plugin that brings pydantic along and mixes it with the SDK's classes."""

from typing import Annotated, Any

import pydantic
from cpex.framework import PluginPayload, PluginResult, ToolPostInvokePayload
from harness import case, finish


class Own(pydantic.BaseModel):
    x: int


class Mixed(PluginPayload):
    own: Own
    n: int = pydantic.Field(default=3, ge=1, description="a number")
    items: Annotated[list[int], pydantic.Field(max_length=2)] = pydantic.Field(default_factory=list)
    secret: pydantic.SecretStr = pydantic.SecretStr("x")
    anything: Any = None
    _private: int = pydantic.PrivateAttr(default=4)

    @pydantic.field_validator("n")
    @classmethod
    def _check_n(cls, value):
        if value == 13:
            raise ValueError("unlucky")
        return value

    @pydantic.model_validator(mode="after")
    def _check_all(self):
        if self.n == 14:
            raise ValueError("fourteen")
        return self


OWN = Own(x=1)
case("from dict", lambda: Mixed(own={"x": "1"}))
case("from model", lambda: Mixed(own=OWN).own is OWN)
case("error inside", lambda: Mixed(own={"x": "z"}, n=0))
case("limits", lambda: Mixed(own=OWN, items=[1, 2, 3]))
case("field validator", lambda: Mixed(own=OWN, n=13))
case("model validator", lambda: Mixed(own=OWN, n=14))
case("private", lambda: Mixed(own=OWN)._private)
case("secret", lambda: Mixed(own=OWN, secret="a").secret.get_secret_value())
case("dump", lambda: Mixed(own=OWN, anything=[OWN]).model_dump(exclude={"secret"}))
case("dump json", lambda: Mixed(own=OWN, anything=[OWN]).model_dump_json())
case("copy", lambda: Mixed(own=OWN).model_copy(update={"n": 5}))
case("equal", lambda: Mixed(own=OWN) == Mixed(own=Own(x=1)))
case("as a value", lambda: ToolPostInvokePayload(name="t", result=OWN).model_dump())
case("as a value json", lambda: ToolPostInvokePayload(name="t", result={"a": [OWN]}).model_dump_json())
case("as a payload", lambda: PluginResult(modified_payload=OWN).model_dump()["modified_payload"])

finish()
