# SPDX-License-Identifier: Apache-2.0
"""The extension's part of the SDK's models: it may make a difference to nothing but time."""

import copy
import gc
import pickle
import random
import sys
import weakref

import pytest
from test_codec import _cpexd
from worker import ROOT

sys.modules.setdefault("_cpexd", _cpexd)
sys.path.append(str(ROOT / "worker-shim"))

from cpex.framework._fields import Field, field_validator  # noqa: E402
from cpex.framework._invalid import ValidationError  # noqa: E402
from cpex.framework._model import BaseModel, plan_of  # noqa: E402

Text = type("Text", (str,), {})
Map = type("Map", (dict,), {})


class Inner(BaseModel):
    n: int = 0


class InnerChild(Inner):
    more: str = ""


class Checked(BaseModel):
    n: int = 0

    @field_validator("n")
    @classmethod
    def double(cls, value):
        return value * 2


class Outer(BaseModel):
    text: str
    number: int | None = None
    ratio: float = 1.5
    flag: bool = False
    whatever: object = None
    table: dict[str, object] = Field(default_factory=dict)
    numbers: dict[str, int] = {}
    keyed: dict = {}
    items: list[object] = []
    names: list[str] = Field(default_factory=list)
    either: str | dict[str, object] | None = None
    both: int | str = 3
    inner: Inner | None = None
    checked: Checked | None = None


VALUES = ["", "a", "1", Text("t"), 0, 1, 7, -3, True, False, 1.0, 2.5, None, b"x", (), [], [1], ["a"], {}, {"k": 1}, {"k": "v"}, {1: 2}, {Text("k"): 1},
          Map(k=1), {"k": {"deep": [1, {"er": None}]}}, {1, 2}, Inner(n=4), InnerChild(n=5, more="m"), {"n": 6}, {"n": "x"}, Checked(n=2)]  # fmt: skip


@pytest.fixture
def without(monkeypatch):
    """Calls a function without the extension's part."""

    def call(function):
        plans = [plan_of(cls) if cls.__plan__ is None else cls.__plan__ for cls in (Outer, Inner, InnerChild, Checked)]
        with monkeypatch.context() as patch:
            for plan in plans:
                patch.setattr(plan, "plain", None)
                patch.setattr(plan, "plain_dumped", None)
            return function()

    return call


def outcome(function):
    try:
        model = function()
    except ValidationError as problem:
        return str(problem), None
    seen = [(name, type(value), value) for name, value in model.__dict__.items()]
    return seen, model.model_fields_set, model.__model_extra__, model.__model_private__, repr(model)


PLAIN = {"text": "t", "number": 3, "ratio": 2.5, "flag": True, "whatever": {1}, "table": {"k": 1}, "keyed": {"k": 1}, "items": [1], "either": {"k": 1},
         "both": "x", "inner": Inner(n=4)}  # fmt: skip


def some_data(rng):
    if rng.random() < 0.3:
        return {name: value for name, value in PLAIN.items() if name == "text" or rng.random() < 0.5}
    data = {name: rng.choice(VALUES) for name in Outer.model_fields if rng.random() < 0.4}
    if rng.random() < 0.9:
        data["text"] = rng.choice(["t", Text("t")])
    if rng.random() < 0.1:
        data["stranger"] = 1
    return data


def test_models_are_the_same_without_it(without):
    rng, plain = random.Random(5), 0
    for _ in range(5000):
        data = some_data(rng)
        before = copy.deepcopy(data)
        assert outcome(lambda: Outer(**data)) == without(lambda: outcome(lambda: Outer(**data))), before
        assert outcome(lambda: Outer.model_validate(data)) == without(lambda: outcome(lambda: Outer.model_validate(data))), before
        assert repr(data) == repr(before)
        plain += _cpexd.fill(Outer.__new__(Outer), Outer.__plan__.plain, data)
    assert plain > 1000


def test_dumps_are_the_same_without_it(without):
    rng = random.Random(6)
    for _ in range(3000):
        model = Outer.model_construct(**some_data(rng))
        dumped = model.model_dump(warnings=False)
        assert repr(dumped) == repr(without(lambda: model.model_dump(warnings=False)))


def test_containers_are_copies():
    table, items = {"deep": {}}, [1]
    model = Outer(text="t", table=table, items=items, whatever=items)
    assert model.table == table and model.table is not table and model.table["deep"] is table["deep"]
    assert model.items == items and model.items is not items and model.whatever is items
    assert Outer(text="t").items is not Outer(text="t").items and Outer(text="t").table is not Outer(text="t").table
    dumped = model.model_dump()
    assert dumped["table"]["deep"] is not table["deep"]


def test_nothing_happens_unless_all_is_plain():
    model, plain = Outer.__new__(Outer), plan_of(Outer).plain
    assert _cpexd.fill(model, plain, {"text": "t", "number": "1"}) is False
    assert _cpexd.fill(model, plain, {"text": "t", "stranger": 1}) is False
    assert _cpexd.fill(model, plain, Map(text="t")) is False
    assert not model.__dict__


def test_a_model_that_nothing_has_filled():
    model = Outer.__new__(Outer)
    assert model.__model_set__ is model.__model_extra__ is model.__model_private__ is None
    with pytest.raises(AttributeError, match="'Outer' object has no attribute 'text'"):
        model.text
    assert copy.copy(model).__dict__ == {}


def test_what_is_no_keyword_is_refused():
    for cls in (Outer, Checked):
        with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
            cls({})
        with pytest.raises(TypeError, match="keywords must be strings"):
            cls(**{1: 2})


class Open(BaseModel):
    model_config = {"extra": "allow"}
    n: int = 0
    _kept: list = []


def test_a_copy_has_parts_of_its_own():
    model = Open(n=1, more=[2])
    model._kept = [3]
    other = copy.copy(model)
    assert other == model and other.model_fields_set == {"n", "more"} and other.model_extra == {"more": [2]} and other._kept is model._kept
    other.n, other.more, other._kept, other.added = 4, 5, 6, 7
    assert (model.n, model.more, model._kept, model.model_extra) == (1, [2], [3], {"more": [2]})
    assert model.model_fields_set == {"n", "more"}


def test_models_leave_nothing_behind():
    class Witness:
        pass

    def use():
        model = Open(n=1, more=Witness())
        seen.append(weakref.ref(model.more))
        model.itself = model
        for again in (copy.copy(model), Open(n=2), Inner(n=3), Checked(n=4)):
            again.__init__(n=5)
        assert pickle.loads(pickle.dumps(Inner(n=6))) == Inner(n=6)

    seen = []
    use()
    gc.collect()
    before = [sys.getrefcount(cls) for cls in (Open, Inner, Checked)]
    for _ in range(100):
        use()
    gc.collect()
    assert [sys.getrefcount(cls) for cls in (Open, Inner, Checked)] == before
    assert len(seen) == 101 and not any(each() for each in seen)


def test_what_refers_to_itself_is_left_to_the_sdk():
    loop = []
    loop.append(loop)
    assert _cpexd.dump({"a": loop}, ("a",)) is None
    assert _cpexd.dump({"a": {"b": [1, None, 2.5, "x", True]}, "c": 1}, ("a", "missing")) == {"a": {"b": [1, None, 2.5, "x", True]}}


@pytest.mark.parametrize("what", [list, dict])
def test_a_container_that_shrinks_meanwhile(what):
    """Python 3.11 collects garbage whenever something is made, and runs the plugin's code then."""
    value = [{"k": i} for i in range(5000)] if what is list else {i: {"k": i} for i in range(5000)}

    class Garbage:
        def __del__(self):
            value.clear()

    gc.disable()
    garbage = Garbage()
    garbage.itself = garbage
    del garbage
    before = gc.get_threshold()
    gc.set_threshold(50)
    gc.enable()
    try:
        found = _cpexd.dump({"a": value}, ("a",))
    finally:
        gc.set_threshold(*before)
    assert found is None or len(found["a"]) in range(5001)


@pytest.mark.parametrize("arguments", [(), (1,), (None, [], {}), (None, (), {}, 1)])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        _cpexd.fill(*arguments)
    with pytest.raises(TypeError):
        _cpexd.dump(*arguments)


def test_nothing_leaks():
    def work():
        for data in ({"text": "t", "table": {"k": [1]}, "items": [1]}, {"text": "t", "number": "1"}, {"text": "t", "stranger": 1}):
            Outer(**data).model_dump()

    def objects():
        gc.collect()
        return len(gc.get_objects())

    watched = [object(), "a text of its own", {"k": object()}]
    work()
    before, counts = objects(), [sys.getrefcount(each) for each in watched]
    for _ in range(200):
        work()
        Outer(text=watched[1], whatever=watched[0], table=watched[2])
        _cpexd.dump({"a": watched[1], "b": watched[0]}, ("a", "b"))
    assert objects() - before < 50
    assert [sys.getrefcount(each) for each in watched] == counts
