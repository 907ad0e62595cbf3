# SPDX-License-Identifier: Apache-2.0
"""An upgrade: cpexd executes another program in its own place, and nobody who is connected notices."""

import os
import signal
import socket
import subprocess
import threading
import time

import msgpack
import pytest
from daemon import BUILD, SANITIZED, CallError, Host, eventually, has_faults, plugin

HOOK = "tool_pre_invoke"
COUNTING = """
    n = 0

    async def tool_pre_invoke(self, payload, context):
        self.n += 1
        args = payload.args
        if args.get("seconds"):
            await asyncio.sleep(args["seconds"])
        args["seen"] = args.get("seen", []) + [self.name]
        return Result(modified_payload=payload, metadata={self.name: {"pid": os.getpid(), "n": self.n}})
"""
NARROW = """
    async def tool_post_invoke(self, payload, context):
        await asyncio.sleep(payload.result["seconds"])
        return ToolPostInvokeResult(metadata={"it": "was narrow"})
"""
VERSION = subprocess.check_output([BUILD / "cpexd", "--version"], text=True).split()[1]
NEXT = VERSION[:-1] + ("2" if VERSION.endswith("1") else "1")
FORMAT = b"cpexd state 3"


def counting(name, **entry):
    return plugin(name, COUNTING, **entry)


def payload(**args):
    return {"name": "t", "args": args}


@pytest.fixture
def build(tmp_path):
    """A build folder whose cpexd can be replaced."""
    folder = tmp_path / "build-asan" if SANITIZED else tmp_path / "build"
    folder.mkdir()
    for name in ("cpexctl", "cpexd-launch", "cpexd-render.py", "cpexd-venv", "worker-shim"):
        (folder / name).symlink_to(BUILD / name)
    install(folder)
    return folder


def install(build, old=b"", new=b"", program=None):
    """Puts a cpexd there as a package does, in one step: `program`, or that of the build with some bytes changed."""
    code = (BUILD / "cpexd").read_bytes()
    assert old in code
    (build / "new").write_bytes(code.replace(old, new) if program is None else program)
    (build / "new").chmod(0o755)
    (build / "new").rename(build / "cpexd")


def upgraded(daemon):
    """By SIGUSR2, when it is over."""
    done = daemon.log().count("upgraded: ")
    daemon.signal(signal.SIGUSR2)
    eventually(lambda: daemon.log().count("upgraded: ") > done)


def test_nobody_notices(cpexd, build):
    """Idle hosts, workers with what they hold in memory, counters: all is as it was, but for the version."""
    daemon = cpexd([counting("a"), counting("b", isolation={"workers": {"min": 2}})], build=build)
    with daemon.host() as host, daemon.host() as idle:
        before = host.invoke(HOOK, payload())
        workers, since = daemon.worker_pids(), daemon.admin("status")["uptime_usec"]
        install(build, VERSION.encode(), NEXT.encode())
        answer = daemon.ctl("upgrade")
        assert answer.stdout == f"upgraded: cpexd {VERSION} → {NEXT}, 3 workers, 2 hosts, 0 calls carried\n", answer
        assert host.call("hello")["server"] == f"cpexd {NEXT}"
        after = host.invoke(HOOK, payload())
        assert after["metadata"]["a"] == {"pid": before["metadata"]["a"]["pid"], "n": 2}
        assert after["generation"] == before["generation"]
        assert after["executions"][0]["plugin_id"] == before["executions"][0]["plugin_id"]
        assert idle.call("ping") == {}
    status = daemon.admin("status")
    assert daemon.worker_pids() == workers
    assert status["pid"] == daemon.pid and status["uptime_usec"] > since
    assert status["calls"]["total"] == 2 and status["plugins"][0]["calls_total"] == 2


def test_calls_in_flight(cpexd, build):
    """Three plugins, each of which takes a while: the call goes on where it was, and has the time it would have had. Meanwhile there is one
    that times out, one that waits for a worker, one that nobody waits for, and one that its host cancels."""
    daemon = cpexd([counting("a"), counting("b"), counting("c"),
                    plugin("narrow", NARROW, isolation={"max_concurrent": 1, "timeout": 0.9, "workers": {"max": 1}}),
                    plugin("log", """
    async def prompt_pre_fetch(self, payload, context):
        await asyncio.sleep(1)
        print("seen", payload.prompt_id)
""", mode="fire_and_forget")], build=build)
    with daemon.host() as host:
        began = time.monotonic()
        chain = host.begin(HOOK, payload(seconds=0.6))
        cancelled = host.begin(HOOK, payload(seconds=5))
        late = host.begin("tool_post_invoke", {"name": "t", "result": {"seconds": 5}})
        host.invoke("prompt_pre_fetch", {"prompt_id": "p1"})
        time.sleep(0.3)
        waiting = host.begin("tool_post_invoke", {"name": "t", "result": {"seconds": 0.1}})
        assert "4 calls carried" in daemon.ctl("upgrade").stdout
        host.notify("cancel", msgid=cancelled)
        with pytest.raises(CallError) as error:
            host.response(cancelled)
        assert error.value.code == "cancelled"
        with pytest.raises(CallError) as error:
            host.end(late)
        assert error.value.cause == "timeout" and 0.88 < time.monotonic() - began < 2
        assert host.end(waiting)["metadata"] == {"it": "was narrow"}
        upgraded(daemon)
        answer = host.end(chain)
        assert answer["modified_payload"]["args"]["seen"] == ["a", "b", "c"]
        assert [each["status"] for each in answer["executions"]] == ["completed"] * 3
        assert all(0.55e9 < each["duration_ns"] < 2e9 for each in answer["executions"])
        assert 1.75 < time.monotonic() - began < 5
        daemon.wait_log("seen p1")
    daemon.expect("timeout|was killed because a call did not end|canceled")


def test_other_phases(cpexd, build):
    """The plugins of the concurrent phase run two at a time; the one that is to come has been told what to do already."""
    daemon = cpexd([counting("t", mode="transform"), counting("u", mode="audit"), counting("v", mode="audit")] +
                   [counting(name, mode="concurrent") for name in "abc"], build=build, top={"plugin_settings": {"execution_pool": 2}})
    with daemon.host() as host:
        args = {"seconds": 0.2, "text": "x" * 100_000}
        call = host.begin(HOOK, payload(**args))
        for _ in range(5):
            time.sleep(0.2)
            upgraded(daemon)
        answer = host.end(call)
        assert answer["modified_payload"]["args"] == args | {"seen": ["t"]}
        assert [each["plugin_name"] for each in answer["executions"]][:3] == ["t", "u", "v"]
        assert sorted(answer["metadata"]) == list("abctuv")


def test_under_load(cpexd, build):
    """32 callers, several upgrades: each call has its own answer, and nobody has to connect again."""
    daemon = cpexd([counting("a", isolation={"workers": {"min": 2, "max": 2}}), counting("b", isolation={"workers": {"max": 1}})],
                   build=build)
    ends = time.monotonic() + 2
    longest, failures, n = [0.0], [], [0]

    def call(number):
        try:
            with daemon.host() as host:
                while time.monotonic() < ends:
                    nonce = f"{number}-{n[0]}"
                    began = time.monotonic()
                    answer = host.invoke(HOOK, payload(nonce=nonce))
                    longest[0] = max(longest[0], time.monotonic() - began)
                    assert answer["modified_payload"]["args"] == {"nonce": nonce, "seen": ["a", "b"]}
                    n[0] += 1
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    workers = daemon.worker_pids()
    for each in callers:
        each.start()
    for _ in range(4):
        time.sleep(0.3)
        upgraded(daemon)
    for each in callers:
        each.join()
    assert not failures
    assert n[0] > 200 and longest[0] < 5
    assert daemon.worker_pids() == workers
    assert daemon.admin("status")["calls"] == {"active": 0, "total": n[0], "failed": 0}
    print(f"{n[0]} calls, the longest {longest[0] * 1000:.1f} ms")


def test_halves(cpexd, build):
    """A request of which half has come, and an answer that its host reads slowly."""
    daemon = cpexd([counting("a")], build=build)
    big = payload(text="x" * 900_000)
    request = msgpack.packb([0, 7, "invoke", [{"hook": HOOK, "payload": msgpack.packb(big), "context": {"request_id": "r"}}]])
    with daemon.host() as host, daemon.host() as slow:
        host.socket.sendall(request[:300_000])
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.socket.sendall(request)
        eventually(lambda: daemon.status("a")["calls_total"] == 1 and daemon.admin("status")["calls"]["active"] == 0)
        upgraded(daemon)
        host.socket.sendall(request[300_000:600_000])
        upgraded(daemon)
        host.socket.sendall(request[600_000:])
        for each in (host, slow):
            assert each.end(7)["modified_payload"]["args"]["text"] == big["args"]["text"]


SCRIPT = b"#!/bin/sh\n"


def test_refused(cpexd, build):
    """A program that cannot take over is found out before, and the running one goes on."""
    daemon = cpexd([counting("a")], build=build)
    daemon.expect("the upgrade is refused")
    with daemon.host() as host:
        def refused(why):
            calls = host.invoke(HOOK, payload())["metadata"]["a"]["n"]
            answer = daemon.ctl("upgrade")
            assert answer.returncode == 1 and why in answer.stderr, answer
            assert why in daemon.log()
            assert host.invoke(HOOK, payload())["metadata"]["a"]["n"] == calls + 1

        (build / "cpexd").chmod(0o644)
        refused("Permission denied")
        (build / "cpexd").unlink()
        refused("No such file or directory")
        for program, why in [(b"no program", "Exec format error"),
                             (SCRIPT + b"echo 'not today' >&2; exit 1\n", "cannot take over: not today"),
                             (SCRIPT + b"exit 0\n", "does not say that it takes over"),
                             (SCRIPT + b"kill -9 $$\n", "was killed by signal 9")]:
            install(build, program=program)
            refused(why)
        install(build, FORMAT, b"cpexd state 9")
        refused('cannot take over: the state of the running cpexd is of another form than "cpexd state 9"')
        install(build)
        (daemon.folder / "plugins/a_plugin").rename(daemon.folder / "gone")
        refused('cannot take over: plugins.yaml:')
        (daemon.folder / "gone").rename(daemon.folder / "plugins/a_plugin")
        install(build)
        assert daemon.ctl("upgrade").returncode == 0
        assert host.invoke(HOOK, payload())["metadata"]["a"]["n"] == 17


@pytest.mark.skipif(SANITIZED, reason="it mostly waits")
def test_one_that_hangs_is_given_up(cpexd, build):
    daemon = cpexd([counting("a")], build=build)
    install(build, program=SCRIPT + b"exec sleep 60\n")
    with daemon.host() as host:
        asked = [threading.Thread(target=lambda: answers.append(daemon.ctl("upgrade"))) for _ in range(2)]
        answers = []
        for each in asked:
            each.start()
        for _ in range(3):
            host.invoke(HOOK, payload())
        for each in asked:
            each.join()
    assert all(each.returncode == 1 and "did not say within 5 s" in each.stderr for each in answers)
    daemon.expect("the upgrade is refused")


def test_the_configuration_is_what_was_applied(cpexd, build):
    """A file that was edited since takes effect by a reload, before the upgrade or after it, never by it."""
    daemon = cpexd([counting("a")], build=build)
    daemon.write([counting("a"), counting("b")])
    with daemon.host() as host:
        upgraded(daemon)
        assert host.call("hooks") == {"generation": 1, "hooks": {HOOK: ["a"]}}
        before = host.invoke(HOOK, payload())["metadata"]["a"]["pid"]
        assert daemon.admin("reload")["changed"] == {"added": ["b"], "removed": [], "restarted": [], "kept": ["a"]}
        upgraded(daemon)
        after = host.invoke(HOOK, payload())
        assert after["generation"] == 2 and after["metadata"]["a"]["pid"] == before
        (daemon.folder / "plugins.yaml").write_text("plugins: [")
        upgraded(daemon)
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("the new configuration is refused")
        assert host.invoke(HOOK, payload())["generation"] == 2
    daemon.expect("plugins.yaml|refused")


def test_it_waits_for_a_reload(cpexd, build):
    """And for the calls of the configuration before."""
    daemon = cpexd([counting("a")], build=build)
    with daemon.host() as host:
        call = host.begin(HOOK, payload(seconds=1))
        daemon.write([counting("a", config={"x": 1})])
        daemon.signal(signal.SIGHUP)
        daemon.wait_log("reloading")
        assert "upgraded" in daemon.ctl("upgrade").stdout
        assert host.end(call)["generation"] == 1
        assert host.invoke(HOOK, payload())["generation"] == 2


def test_workers_go_on_to_be_looked_after(cpexd, build):
    """They are replaced when they die, stopped when there are too many, and what they print is logged, the half of a line included."""
    daemon = cpexd([plugin("p", """
    async def tool_pre_invoke(self, payload, context):
        print(payload.name, end="", flush=True)
        if payload.name == "die":
            os._exit(3)
        await asyncio.sleep(payload.args["seconds"])
        return Result(metadata={"pid": os.getpid()})
""", isolation={"workers": {"min": 1, "max": 2, "idle": 1}, "max_concurrent": 1})], build=build)
    with daemon.host() as host:
        calls = [host.begin(HOOK, {"name": "half ", "args": {"seconds": 1}}) for _ in range(2)]
        pids = {host.end(each)["metadata"]["pid"] for each in calls}
        assert len(pids) == 2
        upgraded(daemon)
        eventually(lambda: len(daemon.workers("p")) == 1)
        with pytest.raises(CallError):
            host.invoke(HOOK, {"name": "die", "args": {}})
        daemon.wait_log("half die")
        eventually(lambda: daemon.workers("p") and not set(daemon.workers("p")) & pids)
        assert daemon.status("p")["restarts"] == 1
        worker = daemon.workers("p")[0]
        call = host.begin(HOOK, {"name": "x", "args": {"seconds": 5}})
        eventually(lambda: daemon.status("p")["workers"][0]["calls_active"])
        os.kill(worker, signal.SIGSTOP)  # it dies in the very moment
        daemon.signal(signal.SIGUSR2)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(CallError) as error:
            host.response(call)
        assert error.value.cause == "crash"
    daemon.expect("it will be replaced|crash")


def test_many(cpexd, build):
    """One after the other: nothing leaks, nothing grows."""
    daemon = cpexd([counting("a"), counting("b")], build=build, settings={"metrics": {"path": "metrics.sock"}})
    with daemon.host() as host:
        for i in range(12):
            if i == 2:
                descriptors, rss = daemon.descriptors(), daemon.rss_kib()
            host.invoke(HOOK, payload())
            upgraded(daemon)
        assert daemon.descriptors() == descriptors
        assert SANITIZED or daemon.rss_kib() < rss + 2000
        assert host.invoke(HOOK, payload())["metadata"]["a"]["n"] == 13
    with socket.socket(socket.AF_UNIX) as metrics:
        metrics.connect(str(daemon.folder / "metrics.sock"))
        metrics.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"cpexd_calls_total 13\n" in b"".join(iter(lambda: metrics.recv(65536), b""))


def test_who_follows_the_log_and_the_decisions(cpexd, build):
    """The one has what comes next, the others are all in the file."""
    daemon = cpexd([plugin("p", """
    async def tool_pre_invoke(self, payload, context):
        print("line", payload.name)
        return Result()
""")], build=build, settings={"decisions": {"path": "decisions", "which": "all"}})
    decisions = daemon.folder / "decisions"
    with Host(daemon.control) as admin, daemon.host() as host:
        host.invoke(HOOK, {"name": "1", "args": {}})
        eventually(decisions.exists)
        seen = admin.call("logs", plugin="p")
        follows = admin.request("logs", plugin="p", after=seen["next"], follow=True)
        host.invoke(HOOK, {"name": "2", "args": {}})
        assert [each["message"] for each in admin.response(follows)["lines"]] == ["line 2"]
        follows = admin.request("logs", plugin="p", after=seen["next"] + 1, follow=True)
        for name in "345":
            upgraded(daemon)
            host.invoke(HOOK, {"name": name, "args": {}})
            if name == "3":
                assert [each["message"] for each in admin.response(follows)["lines"]] == ["line 3"]
    eventually(lambda: len(decisions.read_text().splitlines()) == 5)
    daemon.at_start = daemon.footprint()  # the file is open by now


def test_signals_that_come_meanwhile(cpexd, build):
    daemon = cpexd([counting("a")], build=build)
    for _ in range(5):
        daemon.signal(signal.SIGUSR2)
        daemon.signal(signal.SIGHUP)
        time.sleep(0.02)
    eventually(lambda: daemon.log().count("upgraded: ") >= 1 and daemon.admin("status")["state"] == "running")
    daemon.signal(signal.SIGUSR2)
    assert daemon.stop() == 0


def test_a_socket_of_the_service_manager(cpexd, build, tmp_path):
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "given.sock"))
        given.listen()
        daemon = cpexd([counting("a")], build=build, sockets={"host": given})
        daemon.expect("is configured, but the service manager listens")
        daemon.socket = tmp_path / "given.sock"
        with daemon.host() as host:
            upgraded(daemon)
            host.invoke(HOOK, payload())
        daemon.invoke(HOOK, payload())
        daemon.stop()
        assert (tmp_path / "given.sock").exists()
        (tmp_path / "given.sock").unlink()


def test_plugin_servers(cpexd, build, tmp_path):
    """Two daemons, one the plugin server of the other. Either is upgraded with a call in flight, and the connection between them stays."""
    behind = cpexd([counting("far")], build=build)
    remote = {"entry": {"name": "remote", "kind": "external", "hooks": [HOOK], "isolation": {"socket": str(behind.socket)}},
              "package": "remote", "code": "", "requirements": ""}
    front = cpexd([counting("near"), remote], build=build)
    with front.host() as host:
        call = host.begin(HOOK, payload(seconds=0.3))
        time.sleep(0.45)
        upgraded(front)
        upgraded(behind)
        assert host.end(call)["modified_payload"]["args"]["seen"] == ["near", "far"]
        assert behind.admin("status")["hosts"] == 1
        assert front.status("remote")["restarts"] == 0
        front.stop()
        eventually(lambda: behind.admin("status")["hosts"] == 0)


@pytest.mark.faults
@pytest.mark.skipif(not has_faults(BUILD), reason="this cpexd cannot fail on purpose")
class TestFaults:
    def test_reads_and_writes_of_one_byte(self, cpexd, build):
        """Whatever is half read or half written in the moment."""
        daemon = cpexd([counting("a"), counting("b")], build=build)
        daemon.faults("read=/2,write=/2,seed=3")
        with daemon.host() as host:
            for i in range(6):
                calls = [host.begin(HOOK, payload(nonce=f"{i} {n} " + "x" * 500)) for n in range(8)]
                upgraded(daemon)
                for n, call in enumerate(calls):
                    assert host.end(call)["modified_payload"]["args"]["nonce"].startswith(f"{i} {n} ")
        daemon.faults("")

    def test_no_memory(self, cpexd, build):
        """Whichever allocation fails, of the running program or of the rehearsal: the upgrade is refused, and another goes well."""
        daemon = cpexd([counting("a")], build=build)
        daemon.expect("")
        refused = 0
        with daemon.host() as host:
            call = host.begin(HOOK, payload(seconds=0.5))
            host.call("ping")
            for n in range(1, 400, 13):
                daemon.faults(f"alloc={n}")
                try:
                    daemon.admin("upgrade")
                except CallError as error:
                    refused += error.code == "upgrade"
                except (OSError, EOFError):
                    pass
                assert host.call("ping") == {}
            daemon.faults("")
            assert refused > 5
            upgraded(daemon)
            assert host.end(call)["modified_payload"]["args"]["seen"] == ["a"]
