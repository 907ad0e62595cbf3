# SPDX-License-Identifier: Apache-2.0
"""Secrets reach the hook that they are for and no other place.

A secret comes in by each way there is, marked with a canary of its own, and everything happens to it that can happen to a call. Then
all places where it has no business are searched for it. That the search finds a leak is tested with a plugin that leaks.
"""

import base64
import binascii
import contextlib
import json
import os
import pathlib
import re
import resource
import secrets
import signal
import subprocess
import sys
import urllib.parse

import msgpack
import pytest
from daemon import SPOIL, CallError, Daemon, eventually, plugin
from test_venv import wheel

FRAME_BYTES = 65536
WAYS = ("token", "payload_header", "extension_header", "extension", "environment", "state", "context", "argument")


class Canary:
    """A secret with quotes and a backslash in it, known by what no escaping changes, in halves since messages are cut."""

    def __init__(self, way):
        self.core = secrets.token_hex(24)
        odd = "" if way == "environment" else "\\'\"\n"  # it stands in the middle of a JSON text
        self.text = f"{way}{odd}{self.core}"

    def forms(self):
        for half in (self.core[:24], self.core[24:]):
            data = half.encode()
            yield data
            yield binascii.hexlify(data)
            for shift in range(3):  # base64 looks different at each of three places in a text
                code = base64.b64encode(b"\0" * shift + data)
                yield code[4 if shift else 0 : len(code) - 4]


CANARIES = {way: Canary(way) for way in WAYS}


def canaries_in(data):
    """The ways whose canary stands in some bytes, in whatever form."""
    plain = urllib.parse.unquote_to_bytes(data)
    return sorted({way for way in WAYS for form in CANARIES[way].forms() if form in data or form in plain})


def text_of(way):
    return CANARIES[way].text


# ---- What happens

KEEPER = SPOIL + """
    async def initialize(self):
        self.key = self.config.config["api_key"]
        if self.config.config.get("broken"):
            PluginErrorModel(message={"key": self.key}, plugin_name="p")

    async def act(self, what, secret, result, context):
        context.state["mine"] = CONTEXT
        context.global_context.state["shared"] = context.global_context.state.get("shared")
        if what == "await":
            await asyncio.sleep(30)
        elif what == "hang":
            while True:
                pass
        elif what == "crash":
            os._exit(7)
        elif what == "abort":
            os.abort()
        elif what == "raise":
            raise ValueError(f"cannot read {secret!r}", secret, {"nested": [secret]})
        elif what == "chain":
            try:
                raise KeyError(secret)
            except KeyError as error:
                raise PluginError(PluginErrorModel(message=secret, plugin_name="keeper", details={"token": secret})) from error
        elif what == "deny":
            raise PluginViolationError(secret, PluginViolation(reason=secret, description="d", code="C", details={"t": secret}))
        elif what == "invalid":
            ToolPreInvokePayload.model_validate({"args": {"token": secret}})
        elif what == "junk":
            return {"token": secret}
        elif what == "answer":
            self.spoil(lambda real, message: real([1, message[1], None, secret]))
        elif what == "field":
            self.spoil(lambda real, message: real([1, message[1], None, {"metadata": secret}]))
        elif what == "framing":
            self.spoil(lambda real, message: b"\\xc1" + secret.encode())
        elif what == "foreign":
            self.spoil(lambda real, message: real([1, 4711, {"message": secret}, None]) + real(message))
        elif what == "long":
            return result(metadata={"text": secret * 2000})
        elif what == "unsendable":
            return result(metadata={"secret": secret, "lock": sys})
        return result()

    async def identity_resolve(self, payload, context, extensions):
        assert "mine" not in context.state or context.state["mine"] == CONTEXT
        return await self.act(payload.source, payload.raw_token.get_secret_value(), Result, context)

    async def token_delegate(self, payload, context):
        return await self.act(payload.target_type, payload.bearer_token.get_secret_value(), Result, context)

    async def http_auth_resolve_user(self, payload, context):
        return await self.act(payload.client_host, payload.credentials["credentials"], Result, context)

    async def tool_pre_invoke(self, payload, context, extensions):
        secret = {"header": lambda: payload.headers["Authorization"][7:], "extension": lambda: extensions.http.headers["x-api-key"]}
        return await self.act(payload.args["do"], secret[payload.name](), Result, context)
"""

STRANGER = """
    async def tool_post_invoke(self, payload, context, extensions):
        seen = [payload.model_dump(), self.config.model_dump(), dict(os.environ), extensions and extensions.model_dump()]
        return ToolPostInvokeResult(metadata={"seen": repr(seen)})
"""

ACTIONS = ("nothing", "raise", "chain", "deny", "junk", "invalid", "answer", "field", "foreign", "long", "unsendable")
SLOW = ("framing", "crash", "abort", "await", "hang")  # they cost a worker or a timeout


def keeper(name="keeper", body=KEEPER, **entry):
    preamble = plugin("x", "")["code"].split("\n\nclass")[0] + f"\nCONTEXT = {text_of('context')!r}\n"
    config = {"api_key": "{{ env.CPEXD_CANARY }}"} | entry.pop("config", {})
    isolation = {"timeout": 0.3, "startup_timeout": 10} | entry.pop("isolation", {})
    return plugin(name, body, preamble=preamble, config=config, isolation=isolation, capabilities=["read_headers"], **entry)


def stranger():
    return plugin("stranger", STRANGER, capabilities=["read_agent"])


@pytest.fixture
def start(cpexd):
    def start(plugins, **options):
        settings = {"limits": {"frame_bytes": FRAME_BYTES}} | options.pop("settings", {})
        env = {"CPEXD_CANARY": text_of("environment")}
        daemon = cpexd(plugins, settings=settings, env=env, **options)
        daemon.expect(r'plugin "(keeper|leak\S*)"')
        return daemon

    return start


def extensions():
    headers = {"x-api-key": text_of("extension_header"), "Cookie": text_of("extension_header")}
    return {"http": {"headers": headers}, "agent": {"input": text_of("extension")}}


def calls(what):
    """One of each hook with a secret, to which `what` happens."""
    context = {"state": {"shared": text_of("state")}}
    yield "identity_resolve", {"raw_token": msgpack.ExtType(1, text_of("token").encode()), "source": what}, context
    yield "identity_resolve", {"raw_token": text_of("token"), "source": what, "headers": {"Authorization": text_of("payload_header")}}, context
    yield "token_delegate", {"target_name": "t", "target_type": what, "bearer_token": text_of("token")}, context
    credentials = {"scheme": "Bearer", "credentials": text_of("payload_header")}
    yield "http_auth_resolve_user", {"credentials": credentials, "headers": {}, "client_host": what}, context
    headers = {"Authorization": f"Bearer {text_of('payload_header')}"}
    for name in ("header", "extension"):
        yield "tool_pre_invoke", {"name": name, "args": {"do": what, "more": text_of("argument")}, "headers": headers}, context


def error_of(error):
    """An error or an answer without what a call always hands on to the next."""
    return {key: value for key, value in error.items() if key not in ("state", "global_metadata", "contexts")}


def errors_of(daemon, requests):
    """The errors that calls end with; after each the plugin gets back what it had in its context."""
    found = []
    for hook, payload, context in requests:
        with daemon.host() as host:
            try:
                answer = host.invoke(hook, payload, context, extensions=extensions())
                if answer["contexts"]:
                    host.invoke("identity_resolve", {"raw_token": "x", "source": "nothing"}, contexts=answer["contexts"])
            except CallError as error:
                found.append(error_of(error.error))
    return found


def bad_requests(daemon):
    """Calls that are refused for what they hold."""
    token = text_of("token")
    yield from errors_of(daemon, [
        ("identity_resolve", {"raw_token": [token]}, {}),
        ("identity_resolve", {"raw_token": token, "client_port": "eighty"}, {}),
        ("token_delegate", {"bearer_token": token}, {}),
        ("token_delegate", {"pad": "x" * 30, "bearer_token": token}, {}),
        ("tool_pre_invoke", {"args": {}, "headers": {"Authorization": token, "n": 1}}, {}),
    ])
    with daemon.host() as host:
        for params in ({"hook": token, "payload": token}, {"hook": "identity_resolve", "payload": b"\xa1", "context": token},
                       {"hook": "identity_resolve", "payload": msgpack.packb(token), "context": {"request_id": "r"}, "plugin": token}):
            with pytest.raises(CallError) as refused:
                host.response(host.request("invoke", **params))
            yield error_of(refused.value.error)
    daemon.expect("disconnected")
    for odd in (b"\xc1", msgpack.packb({token: token}), msgpack.packb([token]), msgpack.packb([0, 1, token, [token * 2000]])):
        with daemon.host() as host, pytest.raises((EOFError, ConnectionError)):
            host.socket.sendall(msgpack.packb([2, token, [{token: token}]]) + odd)
            host.message()


# ---- Where it must not be


def files_below(folder):
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes() + path.name.encode()


def processes_of(daemon):
    for pid in daemon.worker_pids():
        for what in ("cmdline", "environ", "comm"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that cannot start does not stay
                yield f"{what} of worker {pid}", pathlib.Path(f"/proc/{pid}/{what}").read_bytes()
    for what in ("cmdline", "comm"):  # its environ is where the templates' values come from
        yield f"{what} of cpexd", pathlib.Path(f"/proc/{daemon.pid}/{what}").read_bytes()


def control_of(daemon):
    for method in ("status", "plugins", "hooks", "venv.list"):
        yield f"control {method}", msgpack.packb(daemon.admin(method))
    for args in (["status"], ["status", "--json"], ["plugins"], ["plugins", "--json"], ["hooks"], ["venv", "list"], ["venv", "list", "--json"],
                 ["check", daemon.folder / "plugins.yaml"], ["reload"]):
        done = daemon.ctl(*args)
        yield f"cpexctl {' '.join(map(str, args))}", (done.stdout + done.stderr).encode()


def invocations_of(daemon):
    """What cpexctl shows of calls: whoever calls it with a secret may be looked over the shoulder."""
    for what in ("nothing", "raise", "deny"):
        for form in ([], ["--json"]):
            payload = daemon.folder / "payload"
            payload.write_text(json.dumps({"raw_token": text_of("token"), "source": what}))
            done = daemon.ctl("invoke", "identity_resolve", "--payload", f"@{payload}", *form)
            payload.unlink()
            assert done.returncode == (0 if what == "nothing" else 2), done
            shown = json.dumps(error_of(json.loads(done.stdout))) if form else done.stdout
            yield f"cpexctl invoke {what}", (shown + done.stderr).encode()


def sweep(places):
    """{place: the ways whose canary is there}"""
    return {name: found for name, data in places if (found := canaries_in(data))}


# ---- Tests


def test_no_secret_leaks(start, tmp_path):
    cache = tmp_path / "cache"
    broken = keeper("leak", config={"broken": True}, hooks=["prompt_pre_fetch"])  # cannot start, and says why
    daemon = start([keeper(), broken, stranger()], cache=cache)
    errors = []
    for what in ACTIONS:
        errors += errors_of(daemon, calls(what))
    for what in SLOW:
        errors += errors_of(daemon, list(calls(what))[::3])
    errors += errors_of(daemon, [("prompt_pre_fetch", {"prompt_id": "p"}, {})])
    assert "cannot start" in daemon.log() and "PluginErrorModel" in errors[-1]["message"]
    errors += bad_requests(daemon)
    assert len(errors) > 60
    found = sweep((f"error {error}", msgpack.packb(error)) for error in errors)
    found |= sweep(control_of(daemon)) | sweep(invocations_of(daemon)) | sweep(processes_of(daemon))

    daemon.expect("plugins.yaml|configuration is refused")
    for entry in ('"config": {"key": "{{ env.CPEXD_CANARY }}"}, "kind": 7', '"mode": "{{ env.CPEXD_CANARY }}"', '"priority": "{{ env.CPEXD_CANARY }}"',
                  '"kind": "{% if env.CPEXD_CANARY %}{{ env.CPEXD_CANARY }}{% endif %}"', '"kind": "{{ env.CPEXD_CANARY | nosuch }}"'):
        (daemon.folder / "plugins.yaml").write_text('{"plugins": [{"name": "x", %s}]}' % entry)
        refused = daemon.ctl("reload")
        assert refused.returncode != 0
        found |= sweep([(f"refused {entry}", (refused.stdout + refused.stderr).encode())])
    found |= sweep([("log", daemon.log().encode())])
    found |= sweep(files_below(cache)) | sweep(files_below(daemon.folder))
    code = str(daemon.folder / "plugins")
    assert {name: ways for name, ways in found.items() if not name.startswith(code)} == {}  # the canary of the context stands in the code


def test_it_reaches_only_whom_it_is_for(start):
    daemon = start([keeper(), stranger()])
    errors_of(daemon, calls("nothing"))
    answer = daemon.invoke("tool_post_invoke", {"name": "t", "result": 1}, extensions=extensions())
    assert canaries_in(answer["metadata"]["seen"].encode()) == ["extension"]  # read_agent opens that slot
    answer = daemon.invoke("identity_resolve", {"raw_token": text_of("token"), "source": "nothing"}, {"state": {"shared": text_of("state")}})
    assert answer["state"] == {"shared": text_of("state")}
    assert canaries_in(answer["contexts"]) == ["context"]


def test_indexes_with_passwords(start, tmp_path):
    wheel(tmp_path, "one", "1.0", {"one.py": ""})
    canary = CANARIES["argument"].core
    requirements = f"--extra-index-url https://u:{canary}@localhost:9/{canary}/simple\n--no-index\n--find-links {tmp_path}\none\n"
    daemon = start([plugin("with-one", STRANGER, requirements=requirements)], cache=tmp_path / "cache")
    (description,) = (tmp_path / "cache").glob("venvs/*/cpexd-venv.json")
    assert "--extra-index-url https://****@localhost:9, " in description.read_text()
    places = [*files_below(tmp_path / "cache"), *control_of(daemon), *processes_of(daemon), ("log", daemon.log().encode())]
    assert sweep(places) == {}


LEAK = """
    async def tool_pre_invoke(self, payload, context):
        import base64, binascii
        token = payload.args["token"]
        text = {
            "plain": token, "repr": repr(repr(token)), "cut": repr(token)[:-20], "base64": base64.b64encode(b"x" + token.encode()).decode(),
            "hex": binascii.hexlify(token.encode()).decode(), "nothing": "",
        }[payload.name]
        if payload.args["to"] == "log":
            print(text)
        elif payload.args["to"] == "error":
            raise ValueError(text)
        else:
            with open(f"{os.environ['TMPDIR']}/left", "w") as file:
                file.write(text)
        return Result()
"""


@pytest.mark.parametrize("form", ["plain", "repr", "cut", "base64", "hex", "nothing"])
def test_the_search_finds_what_leaks(start, form):
    daemon = start([plugin("leaky", LEAK, isolation={"sandbox": {"profile": "off"}})])
    daemon.expect("leaky")
    found = [] if form == "nothing" else ["argument"]
    args = {"token": text_of("argument")}
    for to in ("log", "file"):
        daemon.invoke("tool_pre_invoke", {"name": form, "args": args | {"to": to}})
    with pytest.raises(CallError) as error:
        daemon.invoke("tool_pre_invoke", {"name": form, "args": args | {"to": "error"}})
    if form != "nothing":
        daemon.wait_log(r"info: plugin \"leaky\" worker \d+: \S")
    assert canaries_in(daemon.log().encode()) == found
    assert canaries_in(msgpack.packb(error_of(error.value.error))) == found
    assert sweep(files_below(daemon.temp)) == ({str(daemon.temp / "left"): found} if found else {})
    (daemon.temp / "left").unlink()


def test_the_search_looks_into_processes(start):
    daemon = start([keeper(isolation={"env": ["CPEXD_*"]})])
    pid = daemon.worker_pids()[0]
    assert sweep(processes_of(daemon)) == {f"environ of worker {pid}": ["environment"]}


def test_a_worker_inherits_what_it_needs(start):
    environ = """
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata=dict(os.environ))
    """
    daemon = start([plugin("few", environ, isolation={"env": []}), plugin("all", environ, isolation={"env": ["*"]})])
    few, many = (daemon.invoke("tool_pre_invoke", {"name": "t"}, plugin=name)["metadata"] for name in ("few", "all"))
    assert few.keys() < many.keys() and few["PATH"] == os.environ["PATH"] and few["TMPDIR"].startswith(f"{daemon.temp}/cpexd-tmp-")
    assert "CPEXD_CANARY" in many and not few.keys() & {"CPEXD_CANARY", "CPEXD_TEST"}
    daemon.write([plugin("few", environ, isolation={"env": ["CPEXD_CAN*"]}), plugin("all", environ, isolation={"env": ["*"]})])
    pid = daemon.workers("all")
    assert daemon.ctl("reload").returncode == 0
    assert "CPEXD_CANARY" in daemon.invoke("tool_pre_invoke", {"name": "t"}, plugin="few")["metadata"]
    assert daemon.workers("all") == pid


def test_headers_are_stripped_where_that_is_wanted(cpexd):
    mirror = plugin("mirror", """
        async def tool_pre_invoke(self, payload, context, extensions):
            http = extensions.http.model_copy(update={"headers": extensions.http.headers | {"authorization": "Bearer new", "x-b": "2"}})
            return Result(metadata={"seen": extensions.http.headers}, modified_extensions=extensions.model_copy(update={"http": http}))
    """, capabilities=["write_headers"])
    headers = {"Authorization": "Bearer x", "COOKIE": "a=b", "set-cookie": "c", "X-Api-Key": "k", "X-A": "1"}
    for strip in (False, True):
        daemon = cpexd([mirror], settings={"strip_sensitive_headers": strip})
        answer = daemon.invoke("tool_pre_invoke", {"name": "t", "headers": headers}, extensions={"http": {"headers": headers}})
        seen, returned = answer["metadata"]["seen"], answer["modified_extensions"]["http"]["headers"]
        assert seen == ({"X-A": "1"} if strip else headers)
        assert returned == seen | {"x-b": "2"} | ({} if strip else {"authorization": "Bearer new"})


# ---- Memory

NOSY = """
    async def tool_pre_invoke(self, payload, context):
        import subprocess
        mine = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
        found = {}
        try:
            for pid in (*payload.args["pids"], mine.pid):
                for what in ("environ", "maps", "mem", "fd/1"):
                    try:
                        if what == "fd/1":
                            os.readlink(f"/proc/{pid}/{what}")
                        else:
                            with open(f"/proc/{pid}/{what}", "rb") as file:
                                file.read(0 if what == "mem" else 1)
                        found.setdefault("mine" if pid == mine.pid else "theirs", []).append(what)
                    except PermissionError:
                        pass
        finally:
            mine.kill()
            mine.wait()
        return Result(metadata=found)
"""


def test_neighbours_cannot_look_into_each_other(start):
    # Root looks into everything. Without these capabilities it is as any user is with processes of its own.
    wrapper = ["setpriv", "--bounding-set", "-sys_ptrace,-perfmon,-sys_admin"] if os.getuid() == 0 else []
    daemon = start([keeper(), plugin("nosy", NOSY, isolation={"sandbox": {"profile": "off"}})], wrapper=wrapper)
    pids = [daemon.pid, *daemon.workers("keeper")]
    answer = daemon.invoke("tool_pre_invoke", {"name": "t", "args": {"pids": pids}}, plugin="nosy")
    assert answer["metadata"] == {"mine": ["environ", "maps", "mem", "fd/1"]}


def dumped(pid):
    """Waits for a child, which stays to be waited for. Returns whether the kernel has made a core of it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_code == os.CLD_DUMPED


def test_nobody_leaves_a_core_file(tmp_path):
    unlimited = ["prlimit", "--core=unlimited:unlimited"]
    control = tmp_path / "control"
    control.mkdir()
    process = subprocess.Popen([*unlimited, sys.executable, "-c", f"canary = {text_of('argument')!r}; import os; os.abort()"], cwd=control,
                               stderr=subprocess.DEVNULL)
    if not dumped(process.pid):
        process.wait()
        pytest.skip("the kernel makes no core here of anybody")
    process.wait()
    into_files = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()[0] not in "|/@"
    if into_files:
        assert list(sweep(files_below(control)).values()) == [["argument"]]

    folder = tmp_path / "d"
    folder.mkdir()
    daemon = Daemon(folder, tmp_path / "cache", [keeper()], env={"CPEXD_CANARY": text_of("environment")}, wrapper=unlimited)
    try:
        daemon.start()
        limits = pathlib.Path(f"/proc/{daemon.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        with pytest.raises(CallError):
            daemon.invoke("identity_resolve", {"raw_token": text_of("token"), "source": "abort"})
        daemon.wait_log("killed by signal 6")
        eventually(lambda: daemon.workers("keeper"))
        daemon.signal(signal.SIGABRT)
        assert not dumped(daemon.pid)
    finally:
        daemon.kill()
    code = str(folder / "plugins")
    assert [name for name in sweep([*files_below(folder), *files_below(tmp_path / "cache")]) if not name.startswith(code)] == []
