# SPDX-License-Identifier: Apache-2.0
"""One hook of the plugin: the request's data becomes objects, the method is awaited, its result becomes the answer.

What CPEX's executor does with a result decides what counts as an error here, down to the order in which it looks at the
attributes: a hook that returns None fails with CPEX's AttributeError, after its changes of the shared state have been taken.

shim/quick.c does the same for calls that are plain, and those of it that turn out not to be come back to `raised` and `returned`.
"""

from types import FunctionType

from _cpexd import decode, encode

from cpexd_worker import _errors, _load

_EMPTY = b"\x80"
_CO_COROUTINE = 0x80  # inspect's


class Hook:
    def __init__(self, sdk, plugin, hook):
        self._sdk = sdk
        self._plugin = plugin
        self._hook = hook
        self._method, parameters = _load.find_method(plugin, hook, LookupError)
        self._takes_extensions = parameters == 3
        self._payload_class = None
        self.result_class = None  # of a call that has been answered
        self.is_looked_at = False

    async def call(self, params):
        """(error, None) or (None, answer), both as protocol.md has them."""
        try:
            arguments = self._arguments(params)
        except Exception as exc:
            return self._without_secrets(_errors.invalid_request(exc), params), None
        before = _encoded(arguments[1])
        try:
            result = await self._method(*arguments)
        except BaseException as exc:
            return self.raised(exc, params, arguments, before)
        return self.returned(result, params, arguments, before)

    def raised(self, exc, params, arguments, before):
        context = arguments[1]
        error = self._without_secrets(_errors.plugin_error(self._sdk, exc), params)
        try:
            _put_changes(error, context, before)  # for a direct call, whose caller's context this is
        except Exception as lost:
            _errors.note_lost("the shared state", lost)
        _put_contexts(error, context, lossy=True)
        return error, None

    def returned(self, result, params, arguments, before):
        context = arguments[1]
        shared, lost = {}, None
        try:
            _put_changes(shared, context, before)
        except Exception as exc:
            lost = exc
        try:
            answer = self._answer(result, arguments[0])
            denies = answer.get("continue_processing") is False
            if lost is not None and not denies:
                raise lost
        except Exception as exc:
            # CPEX has merged the state by the time it notices that a result is none.
            error = self._without_secrets(_errors.exception_map(exc, _errors.repr_of(exc)), params) | shared | {"stage": "result"}
            _put_contexts(error, context, lossy=True)
            return error, None
        if lost is not None:
            _errors.note_lost("the shared state", lost)
        answer |= shared
        _put_contexts(answer, context, lossy=denies)
        self.result_class = type(result)
        return None, answer

    def quick(self):
        """What Quick.add() is to know of the hook once a call has been served, None where calls are not plain."""
        cls, result = self._class(), self.result_class
        plain = self._sdk.plain(cls)
        if plain is None or self._takes_extensions or not _is_read_plainly(result):
            return None
        function = getattr(self._method, "__func__", None)
        if not isinstance(function, FunctionType) or not function.__code__.co_flags & _CO_COROUTINE:
            return None
        return self._hook.encode(), self, self._method, cls, *plain, result

    def _without_secrets(self, error, params):
        from cpexd_worker import _secrets

        try:
            return _secrets.hide(error, _secrets.of_call(params, self._class()))
        except Exception:  # such as details that contain themselves, which will not be sent either
            return error

    # -- the request -------------------------------------------------------------------------------------------------

    def _arguments(self, params):
        payload = self._payload(params)
        context = self._context(params)
        extensions = params.get("extensions")
        if extensions is not None:  # wrong ones are the host's error, whoever is to see them
            extensions = self._sdk.extensions(extensions)
        return (payload, context, extensions) if self._takes_extensions else (payload, context)

    def _payload(self, params):
        data = decode(params["payload"])
        kind = params.get("payload_type")
        if kind == "":
            return data
        cls = self._class() if kind is None else self._sdk.class_named(kind)
        if data is None:
            data = {}
        if cls is None:
            return data
        return _unchecked(cls, data) if params.get("unchecked") else cls.model_validate(data)

    def _class(self):
        """The class registered for the hook, which the plugin may do late; None: payloads are plain data."""
        if self._payload_class is None:
            self._payload_class = self._sdk.registry.get_payload_type(self._hook) or _load.decorated_payload_type(self._method)
        return self._payload_class

    def _context(self, params):
        sdk = self._sdk
        given = params["context"]
        shared = sdk.GlobalContext(**{key: given[key] for key in given if given[key] is not None})
        own = params.get("contexts")
        if own is None:
            return sdk.PluginContext(global_context=shared)
        own = decode(own)
        return sdk.PluginContext(global_context=shared, state=own.get("state") or {}, metadata=own.get("metadata") or {})

    # -- the answer --------------------------------------------------------------------------------------------------

    def _answer(self, result, given):
        """Only what is not neutral."""
        answer = {}
        metadata = result.metadata
        if metadata:
            answer["metadata"] = dict(metadata.items())
        violation = result.violation
        if violation:
            violation.plugin_name = self._plugin.name
            answer["violation"] = _errors.violation_map(violation)
        if not result.continue_processing:
            answer["continue_processing"] = False
        if result.modified_payload is not None:
            self._put_payload(answer, result.modified_payload, given)
        if result.retry_delay_ms:
            answer["retry_delay_ms"] = result.retry_delay_ms
        if result.modified_extensions is not None:
            answer["modified_extensions"] = result.modified_extensions
        if result.http_headers is not None:
            answer["http_headers"] = result.http_headers
        if result.denial_metadata is not None:
            answer["denial_metadata"] = result.denial_metadata
        return answer

    def _put_payload(self, answer, payload, given):
        cls = type(payload)
        how = _relation(payload, given)
        if how is not None:
            answer["payload_is"] = how
        if hasattr(cls, "model_dump"):
            # Pydantic warns of fields that a plugin filled with other types; the next plugin gets them all the same.
            answer["modified_payload"] = encode(payload.model_dump(warnings=False))
            if cls is not self._class():
                answer["payload_type"] = self._sdk.class_name(cls)
        else:
            answer["modified_payload"] = encode(payload)
            if self._class() is not None:
                answer["payload_type"] = ""


_LOOKED_AT = (
    "metadata", "violation", "continue_processing", "modified_payload", "retry_delay_ms", "modified_extensions", "http_headers", "denial_metadata",
)  # fmt: skip


def _is_read_plainly(cls):
    """Whether the attributes of a result that are looked at are the values in its dictionary, and nothing else."""
    return cls.__getattribute__ is object.__getattribute__ and not any(name in vars(base) for base in cls.__mro__ for name in _LOOKED_AT)


_STAND_INS = ("", {}, [], 0)
_SCALARS = frozenset((type(None), bool, int, float, str, bytes))


def _unchecked(cls, data):
    """What an earlier plugin has made of a payload: CPEX hands on its object and looks at none of its fields.

    A field that does not fit is held as it came. Something that fits takes its place while the others become what their types make
    of them.
    """
    fitting, held, bad = data, {}, set()
    for stand_in in (None, *_STAND_INS):
        if bad:
            fitting = fitting | dict.fromkeys(bad, stand_in)
        try:
            payload = cls.model_validate(fitting)
            break
        except ValueError as exc:
            if "root" in cls.model_fields:
                return cls.model_construct(data)
            errors = getattr(exc, "errors", None)
            bad = {error["loc"][0] for error in errors() if error["loc"]} if callable(errors) else set()
            if not bad or not isinstance(data, dict) or not bad <= data.keys():
                return cls.model_construct(**data) if isinstance(data, dict) else data
            held |= {field: data[field] for field in bad}
    else:
        return cls.model_construct(**data)
    if isinstance(data, dict):
        # "1" in place of a number fits, too, but is not what the plugin has put there.
        for field in data.keys() & cls.model_fields.keys() - held.keys():
            now, came = type(getattr(payload, field)), type(data[field])
            if now is not came and now in _SCALARS and came in _SCALARS:
                held[field] = data[field]
    return payload.model_copy(update=held) if held else payload


def _relation(payload, given):
    """What CPEX's executor would see in these two objects, and nobody can see in their data."""
    fields = getattr(type(given), "model_fields", None)
    if payload is given:
        return None if fields and "root" in fields else "given"  # CPEX hands out copies of a RootModel
    return "child" if fields and type(payload) is not type(given) and isinstance(payload, type(given)) else None


def _encoded(context):
    """The shared state as the hook finds it."""
    shared = context.global_context
    return encode(shared.state) if shared.state else _EMPTY, encode(shared.metadata) if shared.metadata else _EMPTY


def _put_changes(answer, context, before):
    shared = context.global_context
    if not shared:
        return
    _put_changed(answer, "state", before[0], shared.state)
    _put_changed(answer, "global_metadata", before[1], shared.metadata)


def _put_changed(answer, key, before, after):
    if before == _EMPTY and after == {}:
        return
    if not isinstance(after, dict):
        after = dict(after)  # raises what CPEX's dict.update() would
    if encode(after) != before:
        answer[key] = after


def _put_contexts(answer, context, lossy):
    """The plugin's own context, which lives on in every outcome. `lossy`: a denial or an error counts without it, too."""
    if not (context.state or context.metadata):
        return
    try:
        answer["contexts"] = encode({"state": context.state, "metadata": context.metadata})
    except Exception as exc:
        if not lossy:
            raise
        _errors.note_lost("the plugin's context", exc)
