# SPDX-License-Identifier: Apache-2.0
"""Manners of models: construction, assignment, copies, dumps, equality, validators, generics, subclasses of plugins."""

from __future__ import annotations

import copy
import pickle
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar

from cpex.framework import PluginConfig, PluginPayload, PluginResult, PluginViolation, ToolPreInvokePayload
from cpex.framework.models import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_serializer,
    field_validator,
    model_validator,
)
from harness import case, finish


class Plain(BaseModel):
    a: int = 3
    b: list[int] = []
    _p: int = 5
    _q = [7]
    KIND: ClassVar[str] = "plain"

    def double(self):
        return self.a * 2


class Open(BaseModel):
    model_config = {"extra": "allow"}
    a: int = 1


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


class Frozen(PluginPayload):
    name: str
    tags: tuple[str, ...] = ()


class Child(Frozen):
    extra_note: Optional[str] = None
    name: str = "child"


class Colour(str, Enum):
    RED = "red"


class Checked(PluginPayload):
    low: Annotated[int, Field(ge=0)] = 0
    high: int = Field(default=10, gt=0, le=100)
    word: str = Field(default="ab", min_length=2, max_length=4, pattern="^[a-z]+$")
    items: list[int] = Field(default_factory=list, max_length=2)
    odd: int = 1
    log: list[str] = Field(default_factory=list, exclude=True)
    secret: str = Field(default="s", repr=False)
    colour: Colour = Colour.RED

    @field_validator("odd")
    @classmethod
    def _odd(cls, value):
        if value % 2 == 0:
            raise ValueError("even")
        assert value < 100, "too big"
        return value

    @field_validator("word", mode="before")
    @classmethod
    def _word(cls, value):
        return value.strip() if isinstance(value, str) else value

    @field_validator("items", mode="wrap")
    @classmethod
    def _items(cls, value, handler):
        return handler([value] if isinstance(value, int) else value)

    @field_validator("high")
    @classmethod
    def _high(cls, value, info):
        if value < info.data.get("low", 0):
            raise ValueError(f"{info.field_name} below low")
        return value

    @field_serializer("odd")
    def _dump_odd(self, value):
        return f"<{value}>"

    @model_validator(mode="before")
    @classmethod
    def _before(cls, data):
        if isinstance(data, dict) and "both" in data:
            return {**data, "low": data["both"], "high": data["both"]}
        return data

    @model_validator(mode="after")
    def _after(self):
        if self.low == 13:
            raise ValueError("unlucky")
        return self


class Nested(BaseModel):
    one: Frozen
    many: list[Frozen] = Field(default_factory=list)
    by_name: dict[str, Frozen] = Field(default_factory=dict)
    maybe: Optional[Frozen] = None
    anything: Any = None


class Private(BaseModel):
    x: int
    _count: int = PrivateAttr(default=0)
    _made: list = PrivateAttr(default_factory=list)
    _bare: int

    @property
    def count(self):
        return self._count

    @count.setter
    def count(self, value):
        self._count = value


class Post(BaseModel):
    x: int
    _y: int = 0

    def model_post_init(self, context):
        self._y = self.x * 10


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T
    more: list[T] = Field(default_factory=list)


class OwnInit(PluginPayload):
    x: int
    y: int = 0

    def __init__(self, **data):
        super().__init__(y=7, **data)


class Sharing(BaseModel):
    part: Plain = Plain()
    tags: set[str] = {"a"}


class Configured(BaseModel, frozen=True):
    x: int = 1


class Assigned(BaseModel):
    model_config = ConfigDict(validate_assignment=True)
    x: int = 1


class Aliased(BaseModel):
    inner_name: int = Field(alias="outerName")


class TypedResult(PluginResult[ToolPreInvokePayload]):
    note: str = ""


FrozenResult = PluginResult[Frozen]


class Tree(BaseModel):
    value: int
    children: list[Tree] = Field(default_factory=list)


def then(model, change):
    change(model)
    return model


def set_to(name, value):
    return lambda model: setattr(model, name, value)


def fields_set(model):
    return sorted(model.model_fields_set)


def str_of_error(function):
    try:
        function()
    except ValueError as exc:
        assert str(exc) == repr(exc)
        return str(exc)


def is_refused(function, kind):
    try:
        function()
    except kind:
        return True


def details_of_error(function):
    try:
        function()
    except ValueError as exc:
        return [(e["type"], e["input"], sorted(e.get("ctx", {}).items(), key=str)) for e in exc.errors()], exc.title


# construction
case("defaults", lambda: Plain())
case("defaults are not shared", lambda: Plain().b is Plain().b)
case("arguments are copied", lambda: (lambda v: Plain(b=v).b is v)([1]))
case("positional", lambda: Plain(1))
case("unknown ignored", lambda: Plain(zz=1))
case("class attribute of a field", lambda: Plain.a)
case("class variable", lambda: Plain.KIND)
case("class variable assigned", lambda: is_refused(lambda: then(Plain(), set_to("KIND", 1)), AttributeError))
case("method", lambda: Plain(a="4").double())
case("private", lambda: (Plain()._p, Plain()._q, Plain()._q is Plain()._q))
case("fields", lambda: list(Plain.model_fields))
case("field info", lambda: (Plain.model_fields["a"].default, Plain.model_fields["a"].is_required()))
case("required", lambda: Closed.model_fields["a"].is_required())
case("extra allow", lambda: Open(x=1, y={"a": 1}))
case("extra values", lambda: (Open(x=1).x, Open(x=1).model_extra, fields_set(Open(x=1))))
case("extra missing", lambda: Open().nope)
case("extra assigned", lambda: then(Open(), set_to("z", 3)))
case("extra iterated", lambda: dict(Open(x=1)))
case("extra copied", lambda: Open(x=1).model_copy(update={"x": 2, "w": 3, "a": 9}))
case("extra forbidden", lambda: Closed(b=1, c=2))
case("extra forbidden with key", lambda: Closed.model_validate({1: 2, "a": 1}))
case("not a mapping", lambda: Closed.model_validate([]))
case("none", lambda: Closed.model_validate(None))
case("instance validates as itself", lambda: (lambda m: Closed.model_validate(m) is m)(Closed(a=1)))
case("from json", lambda: Closed.model_validate_json('{"a": "5"}'))
case("from json bytes", lambda: Closed.model_validate_json(b'{"a": 5}'))
case("from bad json", lambda: details_of_error(lambda: Closed.model_validate_json("{"))[0][0][:2])
case("construct", lambda: (Plain.model_construct(a="zz", q=1), fields_set(Plain.model_construct(a="zz"))))
case("construct extra", lambda: Open.model_construct(k=1))
case("construct incomplete", lambda: Closed.model_construct())
case("forward reference to itself", lambda: Tree(value=1, children=[{"value": 2, "children": [{"value": "x"}]}]))
case("several errors", lambda: Nested(one={"name": 1}, many=[{}, {"name": "x", "tags": 1}], by_name={"k": 5}))

case("own constructor", lambda: (OwnInit(x="1"), OwnInit.model_validate({"x": 2})))
case("own constructor error", lambda: OwnInit.model_validate({"x": "z"}))
case(
    "own constructor nested",
    lambda: Open(x=1).model_copy() and PluginResult[OwnInit](modified_payload={"x": 1}).modified_payload,
)
case("model as default", lambda: (Sharing().part is Sharing().part, Sharing().tags is Sharing().tags))

# attributes
case("frozen", lambda: then(Frozen(name="a"), set_to("name", "b")))
case("frozen unknown", lambda: then(Frozen(name="a"), set_to("zz", "b")))
case("frozen delete", lambda: delattr(Frozen(name="a"), "name"))
case("frozen by keyword", lambda: then(Configured(), set_to("x", 2)))
case("assign", lambda: (lambda m: (m, fields_set(m)))(then(Plain(), set_to("a", "text"))))
case("assign unknown", lambda: then(Plain(), set_to("zz", 1)))
case("assign checked", lambda: then(Assigned(), set_to("x", "5")))
case("assign checked badly", lambda: then(Assigned(), set_to("x", "no")))
case("assign private", lambda: then(Plain(), set_to("_p", 9))._p)
case("assign undeclared private", lambda: then(Plain(), set_to("_zz", 9))._zz)
case("property setter", lambda: then(Private(x=1), set_to("count", 4)).count)
case("private without default", lambda: Private(x=1)._bare)
case("delete", lambda: then(Plain(), lambda m: delattr(m, "a")))
case("deleted", lambda: then(Plain(), lambda m: delattr(m, "a")).a)
case("unknown attribute", lambda: Plain().nope)
case("post init", lambda: Post(x=2)._y)
case("post init copied", lambda: Post(x=2).model_copy(update={"x": 3})._y)

# copies
case("copy", lambda: (lambda m: (m.model_copy() == m, m.model_copy() is m, m.model_copy().b is m.b))(Plain(b=[1])))
case("deep copy", lambda: (lambda m: m.model_copy(deep=True).b is m.b)(Plain(b=[1])))
case("copy.copy", lambda: (lambda m: copy.copy(m).b is m.b)(Plain(b=[1])))
case("copy.deepcopy", lambda: (lambda m: copy.deepcopy(m).b is m.b)(Plain(b=[1])))
case("copy unchecked", lambda: Plain().model_copy(update={"a": "x", "zz": 1}))
case("copy unknown is kept", lambda: Plain().model_copy(update={"zz": 1}).zz)
case("copy marks", lambda: fields_set(Plain(b=[]).model_copy(update={"a": 1})))
case("copy frozen", lambda: Frozen(name="a").model_copy(update={"name": "b"}))
case("copy keeps private", lambda: then(Private(x=1), set_to("count", 4)).model_copy().count)
case("pickle", lambda: pickle.loads(pickle.dumps(Nested(one=Frozen(name="a"), anything={1: 2}))))
case("pickle private", lambda: pickle.loads(pickle.dumps(then(Private(x=1), set_to("count", 4)))).count)
case("pickle result", lambda: pickle.loads(pickle.dumps(FrozenResult(modified_payload=Frozen(name="a")))))
case("pickled result type", lambda: type(pickle.loads(pickle.dumps(FrozenResult()))) is FrozenResult)

# equality, hash, text
case("equal", lambda: Plain(a=1) == Plain(a=1, b=[]))
case(
    "not equal", lambda: (Plain(a=1) == Plain(a=2), Plain() == Open(), Plain() == {"a": 3, "b": []}, Plain() != Plain())
)
case("equal extra", lambda: (Open(x=1) == Open(x=1), Open(x=1) == Open(x=2)))
case("equal private", lambda: Private(x=1) == then(Private(x=1), set_to("count", 4)))
case("equal child", lambda: Frozen(name="child") == Child())
case("hash", lambda: hash(Frozen(name="a")) == hash(Frozen(name="a")))
case("hash in set", lambda: len({Frozen(name="a"), Frozen(name="a"), Frozen(name="b")}))
case("hash of unhashable", lambda: hash(ToolPreInvokePayload(name="a", args={})))
case("hash of unfrozen", lambda: hash(Plain()))
case("repr", lambda: Nested(one=Frozen(name="a"), anything=Plain()))
case("str", lambda: str(Nested(one=Frozen(name="a"), anything=Colour.RED)))
case("repr hides", lambda: Checked())
case("class repr", lambda: (Frozen, PluginPayload, PluginConfig, PluginViolation))
case("iteration", lambda: list(Plain()))
case("child fields", lambda: (list(Child.model_fields), Child()))
case("child of frozen is frozen", lambda: then(Child(), set_to("name", "b")))

# dumps
NESTED = Nested(one=Child(extra_note="n"), many=[{"name": "m"}], by_name={"k": Frozen(name="v")}, anything=Child())
case("dump", lambda: NESTED.model_dump())
case("dump json mode", lambda: NESTED.model_dump(mode="json"))
case("dump json", lambda: NESTED.model_dump_json())
case("dump json indented", lambda: Closed(a=1).model_dump_json(indent=2))
case("dump include", lambda: NESTED.model_dump(include={"one", "maybe"}))
case("dump include nested", lambda: NESTED.model_dump(include={"one": {"name"}, "many": {0: {"name"}}}))
case("dump include all", lambda: NESTED.model_dump(include={"many": {"__all__": {"tags"}}}))
case("dump exclude", lambda: NESTED.model_dump(exclude={"one", "anything"}))
case("dump exclude nested", lambda: NESTED.model_dump(exclude={"one": {"name"}, "many": {-1}, "by_name": True}))
case("dump exclude none", lambda: Nested(one=Frozen(name="a"), anything={"x": None}).model_dump(exclude_none=True))
case("dump exclude unset", lambda: NESTED.model_dump(exclude_unset=True))
case("dump exclude defaults", lambda: NESTED.model_dump(exclude_defaults=True))
case("dump excluded field", lambda: Checked().model_dump())
case("dump serializer json", lambda: Checked().model_dump_json())
case("dump extra", lambda: Open(x=Plain(), y=[Plain()]).model_dump())
case("dump kinds", lambda: Open(t=(1, Plain()), f=frozenset({1}), e=Colour.RED, b=b"x", d={1: Plain()}).model_dump())
case("dump kinds json", lambda: Open(t=(1, Plain()), f={1}, e=Colour.RED, b=b"x", d={1: 2, None: 3}).model_dump_json())
case("dump text", lambda: Open(t='ä"\u2028\x00', n=float("nan")).model_dump_json())
case("dump unknown", lambda: type(Open(t=object()).model_dump()["t"]))
case("dump unknown json", lambda: Open(t=object()).model_dump_json().nope)
case("dump wrongly typed", lambda: then(Plain(), set_to("b", {"x": {1, 2}})).model_dump())
case("dump by alias", lambda: Aliased(outerName=1).model_dump(by_alias=True))
case("alias", lambda: (Aliased(outerName=1), Aliased(outerName=1).model_dump()))
case("alias missing", lambda: Aliased(inner_name=1))
case("round trip", lambda: Nested.model_validate_json(NESTED.model_dump_json(exclude={"anything"})).many)

# validators and limits
case("limits", lambda: Checked(low=-1, high=0, word="A", items=[1, 2, 3]))
case("limits above", lambda: Checked(high=101, word="abcde"))
case("pattern", lambda: Checked(word="AB"))
case("validator", lambda: Checked(odd=2))
case("assertion", lambda: Checked(odd=101))
case("before", lambda: Checked(word=" abc ").word)
case("wrap", lambda: Checked(items=5).items)
case("info", lambda: Checked(low=5, high=4))
case("model before", lambda: Checked(both=7))
case("model after", lambda: Checked(low=13, high=14))
case("model after validated", lambda: Checked.model_validate({"low": 13, "high": 14}))
case("enum", lambda: Checked(colour="blue"))
case("error text", lambda: str_of_error(lambda: Checked(low="x", high=[1] * 40, word=None)))
case("error text root", lambda: str_of_error(lambda: Closed.model_validate("x" * 60)))
case("error details", lambda: details_of_error(lambda: Checked(high=0, odd=2, items=[1, 2, 3], colour="c")))


# generics
case("generic", lambda: Box[int](content="1", more=["2"]))
case("generic error", lambda: Box[int](content="x", more=["y"]))
case("generic open", lambda: Box(content="x", more=[1]))
case("generic cached", lambda: Box[int] is Box[int])
case("generic subclass", lambda: issubclass(Box[int], Box))
case("generic names", lambda: [c.__name__ for c in (Box[int], PluginResult[dict], PluginResult[Optional[str]])])
case("generic qualified", lambda: (PluginResult[Frozen].__qualname__, PluginResult[Frozen].__module__))
case("generic too many", lambda: Box[int, str])
case("generic twice", lambda: Box[int][str])
case("not generic", lambda: Plain[int])
case("result typed", lambda: PluginResult[Frozen](modified_payload={"name": "x"}).modified_payload)
case("result typed error", lambda: PluginResult[Frozen](modified_payload={"name": 1}))
case("result other payload", lambda: PluginResult[Frozen](modified_payload=ToolPreInvokePayload(name="x")))
case("result child payload", lambda: PluginResult[Frozen](modified_payload=Child()).modified_payload)
case("result child dump", lambda: PluginResult[Frozen](modified_payload=Child()).model_dump()["modified_payload"])
case("result plain dump", lambda: PluginResult(modified_payload=Child()).model_dump()["modified_payload"])
case("result untyped", lambda: PluginResult(modified_payload=["anything"]).modified_payload)
case("result equality", lambda: PluginResult[Frozen]() == PluginResult())
case("result subclass", lambda: TypedResult(modified_payload={"name": "x"}, note=b"n"))
case("result tasks", lambda: PluginResult(background_tasks=[1]))
case(
    "result extensions",
    lambda: PluginResult(modified_extensions={"http": {"headers": {"a": "b"}}}).modified_extensions.http,
)

finish()
