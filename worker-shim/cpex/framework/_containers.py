# SPDX-License-Identifier: Apache-2.0
"""Types made of other types: containers, optional values, unions, literals, enumerations.

Each function takes the class to make (`make` is `_types.Type`, handed in to keep the import one-way) and returns the
compiled type. Containers always give a new object: what the caller passed in is never shared at the top level.
"""

from __future__ import annotations

from ._invalid import Invalid, Line
from ._scalars import check_any, check_int, check_str


def _items(value, kind):
    """The items of anything that may stand for a list, tuple or set, or Invalid."""
    if isinstance(value, (str, bytes, bytearray, dict)) or _is_mapping(value):
        raise Invalid.one(kind, value)
    try:
        return iter(value)
    except TypeError:
        raise Invalid.one(kind, value) from None


def _is_mapping(value):
    """A non-dict mapping, recognized without importing collections.abc for plain values."""
    cls = type(value)
    if cls in (list, tuple, set, frozenset, str, int, float, bool, bytes, type(None)):
        return False
    from collections.abc import Mapping

    return isinstance(value, Mapping)


def _checked(items, check, info):
    """Every item checked; all complaints are collected, with the item's place."""
    result = []
    lines = []
    for place, item in enumerate(items):
        try:
            result.append(check(item, info))
        except Invalid as problem:
            lines += problem.under(place)
    if lines:
        raise Invalid(lines)
    return result


def _dump_items(inner, fallback):
    """How a sequence of a typed item is dumped; None when the items decide for themselves."""
    if inner.dump is None:
        return None

    def dump(value, how):
        if not isinstance(value, fallback):
            return how.any(value)
        return how.container(value, (inner.dump(item, how) for item in value))

    return dump


def list_of(inner, make):
    """list[inner]"""
    item_check = inner.check

    def check(value, info):
        if type(value) is not list:
            value = list(_items(value, "list_type"))
        if item_check is check_any:
            return value.copy()
        return _checked(value, item_check, info)

    rank = lambda value: 3 if type(value) is list else 1  # noqa: E731
    plain = (list,) if item_check is check_any else ()
    return make(f"list[{inner.name}]", check, rank, _dump_items(inner, list), plain=plain)


def sequence_of(inner, origin, make):
    """Sequence[inner] and its kin: the kind of sequence stays."""
    item_check = inner.check

    def check(value, info):
        if not isinstance(value, origin):
            raise Invalid.one("is_instance_of", value, {"class": origin.__name__})
        if isinstance(value, (str, bytes)):
            raise Invalid.one("sequence_str", value, {"type_name": type(value).__name__})
        items = _checked(_items(value, "list_type"), item_check, info)
        kind = type(value)
        return items if kind in (list, range) else kind(items)

    return make(f"sequence[{inner.name}]", check, None, None)


def tuple_of(inner, make):
    """tuple[inner, ...]"""
    item_check = inner.check

    def check(value, info):
        return tuple(_checked(_items(value, "tuple_type"), item_check, info))

    dump = _dump_items(inner, tuple)
    return make(f"tuple[{inner.name}, ...]", check, lambda value: 3 if type(value) is tuple else 1, dump)


def tuple_fixed(inner, make):
    """tuple[a, b]"""
    count = len(inner)

    def check(value, info):
        items = list(_items(value, "tuple_type"))
        if len(items) > count:
            ctx = {"field_type": "Tuple", "max_length": count, "s": "" if count == 1 else "s", "actual_length": "more"}
            raise Invalid.one("too_long", value, ctx)
        result = []
        lines = []
        for place, member in enumerate(inner):
            if place >= len(items):
                lines.append(Line("missing", (place,), value))
                continue
            try:
                result.append(member.check(items[place], info))
            except Invalid as problem:
                lines += problem.under(place)
        if lines:
            raise Invalid(lines)
        return tuple(result)

    name = ", ".join(member.name for member in inner)
    return make(f"tuple[{name}]", check, lambda value: 3 if type(value) is tuple else 1)


def set_of(inner, kind, make):
    """set[inner], frozenset[inner]"""
    item_check = inner.check
    complaint = "set_type" if kind is set else "frozen_set_type"

    def check(value, info):
        items = _checked(_items(value, complaint), item_check, info)
        try:
            return kind(items)
        except TypeError:
            bad = [Line("set_item_not_hashable", (n,), item) for n, item in enumerate(items) if not _hashable(item)]
            raise Invalid(bad) from None

    return make(f"{kind.__name__}[{inner.name}]", check, lambda value: 3 if type(value) is kind else 1)


def _hashable(value):
    try:
        hash(value)
    except TypeError:
        return False
    return True


_ONLY_STR = frozenset((str,))


def _as_dict(value):
    if isinstance(value, dict):
        return value
    if _is_mapping(value):
        return dict(value)
    raise Invalid.one("dict_type", value)


def dict_of(key, inner, make):
    """dict[key, inner]"""
    key_check = key.check
    item_check = inner.check
    any_key = key_check is check_any
    any_item = item_check is check_any

    def check(value, info):
        if type(value) is not dict:
            value = _as_dict(value)
        if any_item and (any_key or key_check is check_str and _ONLY_STR.issuperset(map(type, value))):
            return dict(value)
        return _checked_pairs(value, key_check, item_check, info)

    dump = None
    if inner.dump is not None:

        def dump(value, how):
            if not isinstance(value, dict):
                return how.any(value)
            return how.mapping((k, inner.dump(v, how)) for k, v in value.items())

    rank = lambda value: 3 if type(value) is dict else 1  # noqa: E731
    plain = (dict,) if any_item and (any_key or key_check is check_str) else ()
    return make(f"dict[{key.name},{inner.name}]", check, rank, dump, plain=plain)


def _checked_pairs(value, key_check, item_check, info):
    result = {}
    lines = []
    for key, item in value.items():
        place = key if isinstance(key, str) else int(key) if isinstance(key, int) else str(key)
        try:
            good = key_check(key, info)
        except Invalid as problem:
            lines += [line.under("[key]").under(place) for line in problem.lines]
            good = None
        try:
            result[good] = item_check(item, info)
        except Invalid as problem:
            lines += problem.under(place)
    if lines:
        raise Invalid(lines)
    return result


def nullable(inner, make):
    """inner | None"""
    inner_check = inner.check
    inner_dump = inner.dump

    def check(value, info):
        return None if value is None else inner_check(value, info)

    dump = None
    if inner_dump is not None:

        def dump(value, how):
            return None if value is None else inner_dump(value, how)

    def rank(value):
        return 3 if value is None else inner.rank(value)

    return make(f"nullable[{inner.name}]", check, rank, dump, inner.model, (type(None), *inner.plain))


def union_of(members, make):
    """A union tries its members from the best fit to the worst; between models, the one that uses most fields wins."""
    models = [member for member in members if member.model is not None]

    def check(value, info):
        lines = {}
        best = None
        for member in sorted(members, key=lambda member: -member.rank(value)):
            try:
                found = member.check(value, info)
            except Invalid as problem:
                lines[member.name] = problem.under(member.name)
                continue
            if len(models) < 2 or member.model is None or member.rank(value) == 3:
                return found if best is None else best
            if best is None or len(found.model_fields_set) > len(best.model_fields_set):
                best = found
        if best is not None:
            return best
        raise Invalid([line for member in members for line in lines[member.name]])

    def rank(value):
        return max(member.rank(value) for member in members)

    dump = None
    if models:

        def dump(value, how):
            for member in members:
                if member.dump is not None and member.rank(value) == 3:
                    return member.dump(value, how)
            return how.any(value)

    plain = tuple(kind for member in members for kind in member.plain)
    if not all(member.plain for member in members) or len(set(plain)) < len(plain) or object in plain or models:
        plain = ()
    return make(f"union[{','.join(member.name for member in members)}]", check, rank, dump, plain=plain)


def tagged_union(find_tag, members, make):
    """A union where `find_tag(value)` names the member."""
    known = ", ".join(repr(tag) for tag in members)
    finder = f"{find_tag.__name__}()"

    def check(value, info):
        tag = find_tag(value)
        if tag is None:
            raise Invalid.one("union_tag_not_found", value, {"discriminator": finder})
        member = members.get(tag) if _hashable(tag) else None
        if member is None:
            ctx = {"discriminator": finder, "tag": str(tag), "expected_tags": known}
            raise Invalid.one("union_tag_invalid", value, ctx)
        try:
            return member.check(value, info)
        except Invalid as problem:
            raise Invalid(problem.under(tag)) from None

    def dump(value, how):
        return how.any(value)

    return make("tagged-union", check, None, dump)


def _expected(values):
    """'a', 'b' or 'c'"""
    shown = [repr(value) for value in values]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def literal(values, make):
    """Literal[...]: exactly one of these; a member of a string enumeration stands for its value too."""
    expected = _expected(values)
    by_type = {(type(value), value): value for value in values}
    by_value = {}
    for value in values:
        plain = getattr(value, "value", value)
        by_value.setdefault(plain, value)

    def check(value, info):
        try:
            found = by_type.get((type(value), value), by_type)
            if found is by_type:
                found = by_value[getattr(value, "value", value)]
                if isinstance(value, str) != isinstance(getattr(found, "value", found), str):
                    raise KeyError(value)
            return found
        except (KeyError, TypeError):
            raise Invalid.one("literal_error", value, {"expected": expected}) from None

    def rank(value):
        try:
            check(value, None)
        except Invalid:
            return 1
        return 3

    return make(f"literal[{','.join(repr(value) for value in values)}]", check, rank)


def enumeration(cls, make):
    """A member, or the value of one."""
    expected = _expected([member.value for member in cls])
    by_value = cls._value2member_map_
    coerce = check_int if issubclass(cls, int) else None

    def check(value, info):
        if isinstance(value, cls):
            return value
        found = _member(by_value, value)
        if found is None and coerce is not None and not isinstance(value, int):
            try:
                found = _member(by_value, coerce(value, info))
            except Invalid:
                found = None
        if found is None:
            found = _asked(cls, value)
        if found is None:
            raise Invalid.one("enum", value, {"expected": expected})
        return found

    return make(cls.__name__, check, lambda value: 3 if isinstance(value, cls) else 1)


def _member(by_value, value):
    try:
        return by_value.get(value)
    except TypeError:
        return None


def _asked(cls, value):
    """The member that the class's own `_missing_` finds, when it has one."""
    if "_missing_" not in cls.__dict__:
        return None
    try:
        return cls(value)
    except ValueError:
        return None
