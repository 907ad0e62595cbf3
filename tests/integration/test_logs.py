# SPDX-License-Identifier: Apache-2.0
"""`cpexctl logs`: what plugins print and the daemon says of them, from the daemon's memory."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest
from daemon import CallError, Host, eventually, plugin

HOOK = "tool_pre_invoke"

# The tool's name is what is done, with its argument.
TALKER = """
    async def tool_pre_invoke(self, payload, context):
        if payload.name == "say":
            print(payload.args["text"], flush=True)
        elif payload.name == "bytes":
            os.write(1, bytes.fromhex(payload.args["text"]) + b"\\n")
        elif payload.name == "lines":
            os.write(1, b"".join(b"line %d %s\\n" % (i, b"x" * 60) for i in range(payload.args["n"])))
        elif payload.name == "raise":
            raise ValueError("told to")
        return Result()
"""


def call(do, **args):
    return {"name": do, "args": args}


def messages(answer):
    return [line["message"] for line in answer["lines"]]


def wait_for(daemon, name, text):
    """The line of the plugin with that text, once it is there."""
    def look():
        return next((line for line in daemon.admin("logs", plugin=name)["lines"] if text in line["message"]), None)

    return eventually(look)


def say_until_it_is_logged(daemon, text):
    """Of a worker that has printed too much lines are dropped until the second is over."""
    def say():
        daemon.invoke(HOOK, call("say", text=text))
        time.sleep(0.2)
        return any(text in message for message in messages(daemon.admin("logs", plugin="talker")))

    eventually(say)


@pytest.fixture
def daemon(cpexd):
    return cpexd([plugin("talker", TALKER), plugin("other", TALKER, priority=2, conditions=[{"tools": ["nobody"]}])])


def test_lines_are_attributed(daemon):
    daemon.expect("told to")
    daemon.invoke(HOOK, call("say", text="hello there"))
    with pytest.raises(CallError):
        daemon.invoke(HOOK, call("raise"), {"request_id": "r-42"})
    line = wait_for(daemon, "talker", "hello there")
    assert line.pop("time_usec") / 1e6 == pytest.approx(time.time(), abs=30)
    assert line == {"level": "info", "plugin": "talker", "worker": daemon.workers("talker")[0], "generation": 1, "request_id": None,
                    "message": "hello there"}
    line = wait_for(daemon, "talker", "told to")
    assert (line["level"], line["request_id"], line["worker"], line["generation"]) == ("warning", "r-42", None, 1)
    assert all(line["plugin"] == "other" for line in daemon.admin("logs", plugin="other")["lines"])
    of_all = daemon.admin("logs")["lines"]
    assert {line["plugin"] for line in of_all} == {"talker", "other", None}
    assert [line["time_usec"] for line in of_all] == sorted(line["time_usec"] for line in of_all)
    assert any("ready: 2 plugins" in line["message"] for line in of_all if not line["plugin"])
    out = daemon.ctl("logs", "talker").stdout
    assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} talker\[{daemon.workers('talker')[0]}\]: hello there$", out, re.MULTILINE)
    assert re.search(r" talker: warning: tool_pre_invoke: exception: .*told to.* \(request r-42\)$", out, re.MULTILINE)
    assert out.count("(request r-42)") == 1 and "Traceback" in out.partition("(request r-42)")[2]
    with pytest.raises(CallError):
        daemon.invoke(HOOK, call("raise"), {"request_id": "r-43"})
    assert daemon.ctl("logs", "talker").stdout.count("(request r-43)") == 1


def test_how_many_and_whose(daemon):
    daemon.invoke(HOOK, call("lines", n=20))
    wait_for(daemon, "talker", "line 19 ")
    assert [m.split()[1] for m in messages(daemon.admin("logs", plugin="talker", lines=3))] == ["17", "18", "19"]
    assert daemon.admin("logs", plugin="talker", lines=0)["lines"] == []
    assert daemon.ctl("logs", "-n", "2", "talker").stdout.count("\n") == 2
    assert json.loads(daemon.ctl("logs", "--json", "--count", "1", "talker").stdout)["lines"][0]["message"].startswith("line 19 ")
    answer = daemon.ctl("logs", "nobody")
    assert answer.returncode == 2 and 'no plugin is called "nobody"' in answer.stderr
    for wrong in {"lines": "5"}, {"after": -1}, {"follow": 1}, {"follow": True}, {"plugin": 5}, {"plugin": "a\0b"}:
        with pytest.raises(CallError) as error:
            daemon.admin("logs", **wrong)
        assert error.value.code == "bad_request" and next(iter(wrong)) in error.value.message


def test_no_byte_of_a_plugin_reaches_the_terminal(daemon):
    hostile = b"\x1b]0;owned\x07\x1b[2J\r\x00\x9b2J\xff\xc3(\xe2\x80\xae \xc2\x9b31m tail"
    daemon.invoke(HOOK, call("bytes", text=hostile.hex()))
    wait_for(daemon, "talker", "tail")
    done = subprocess.run([daemon.build / "cpexctl", "--socket", daemon.socket, "logs", "talker"], capture_output=True, timeout=30)
    text = done.stdout.decode()
    assert not done.stderr and "tail" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert r"\x1b]0;owned\x07\x1b[2J\x0d??2J?" in text.replace("\ufffd", "?")
    for line in daemon.ctl("logs", "--json").stdout.splitlines():
        assert json.loads(line) and not re.search(r"[\x00-\x1f\x7f-\x9f]", line)


def test_each_plugin_has_its_own_room(cpexd):
    daemon = cpexd([plugin("talker", TALKER), plugin("quiet", TALKER, priority=2)], settings={"log": {"level": "error", "keep": "8K"}}, ready=False)
    eventually(lambda: daemon.socket.exists() and daemon.admin("status")["state"] == "running", 60)
    daemon.at_start = daemon.footprint()
    for _ in range(4):
        daemon.invoke(HOOK, call("lines", n=45), plugin="talker")
    daemon.invoke(HOOK, call("say", text="the last word"), plugin="talker")
    wait_for(daemon, "talker", "the last word")
    answer = daemon.admin("logs", plugin="talker")
    assert 20 < len(answer["lines"]) < 100 and sum(len(m) for m in messages(answer)) < 8192
    assert any("ready after" in m for m in messages(daemon.admin("logs", plugin="quiet"))), "level info is kept whatever log.level is"
    assert "the last word" not in daemon.log()
    from_the_start = daemon.admin("logs", plugin="talker", after=0)
    assert from_the_start["lines"] == answer["lines"] and from_the_start["next"] == answer["next"]
    assert from_the_start["lost"] == answer["next"] - len(answer["lines"]) > 80
    everything = daemon.admin("logs", after=0)
    assert everything["lost"] == everything["next"] - len(everything["lines"]) > 80


def test_lines_outlive_what_they_are_about(daemon, cpexd):
    daemon.expect("refused|broken on purpose|failed to initialize|another attempt")
    daemon.invoke(HOOK, call("say", text="before the reload"))
    broken = plugin("broken", 'async def initialize(self):\n    raise ValueError("broken on purpose")' + TALKER.replace("\n    ", "\n"))
    daemon.write([plugin("other", TALKER), broken])
    done = daemon.ctl("reload")
    assert done.returncode == 1 and "broken on purpose" in done.stderr
    wait_for(daemon, "broken", "broken on purpose")
    daemon.write([plugin("other", TALKER)])
    assert daemon.ctl("reload").returncode == 0
    assert wait_for(daemon, "talker", "before the reload")["generation"] == 1


@contextlib.contextmanager
def following(daemon, *args):
    process = subprocess.Popen([daemon.build / "cpexctl", "--socket", daemon.socket, "logs", "-f", *args], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_follow(daemon):
    daemon.invoke(HOOK, call("say", text="from before"))
    wait_for(daemon, "talker", "from before")
    with following(daemon, "talker", "--json") as one, following(daemon, "-n", "1") as two:
        assert any("from before" in one.stdout.readline() for _ in range(20))
        assert two.stdout.readline()
        for i in range(3):
            daemon.invoke(HOOK, call("say", text=f"number {i}"))
            assert json.loads(one.stdout.readline())["message"] == f"number {i}"
            assert f": number {i}\n" in two.stdout.readline()


def test_a_follower_is_told_of_the_end(daemon):
    with following(daemon, "-n", "1", "talker") as one:
        assert one.stdout.readline()
        daemon.stop()
        assert one.wait(10) == 2


def test_a_slow_follower_costs_nobody_anything_and_is_told(cpexd):
    daemon = cpexd([plugin("talker", TALKER)], settings={"log": {"keep": "16K"}})
    daemon.expect("an administrator was disconnected|more lines of output were not logged")
    before = daemon.rss_kib()
    with following(daemon, "-n", "1", "talker") as slow, Host(daemon.control) as deaf:
        assert slow.stdout.readline()
        slow.send_signal(signal.SIGSTOP)
        for _ in range(16):  # it never reads an answer
            deaf.request("logs", after=0, follow=True)
        slowest = 0
        for _ in range(20):
            began = time.monotonic()
            daemon.invoke(HOOK, call("lines", n=100))
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        say_until_it_is_logged(daemon, "the end")
        assert slowest < 2 and daemon.rss_kib() - before < 8 << 10
        slow.send_signal(signal.SIGCONT)
        text = ""
        while "the end" not in text:
            text += slow.stdout.readline()
    [lost] = map(int, re.findall(r"^\[(\d+) lines before this one were lost\]$", text, re.MULTILINE))
    assert lost > 50 and "line 99 " in text


def test_more_than_one_may_wait_for(daemon):
    with Host(daemon.control) as admin:
        after = admin.call("logs", plugin="other")["next"]
        ids = [admin.request("logs", plugin="other", after=after, follow=True) for _ in range(17)]
        with pytest.raises(CallError) as error:
            admin.response(ids[-1])
        assert error.value.code == "limit"
        os.kill(daemon.workers("other")[0], signal.SIGKILL)
        daemon.expect("killed by signal 9")
        for each in ids[:-1]:
            assert "killed by signal 9" in admin.response(each)["lines"][0]["message"]


@pytest.mark.parametrize(("n", "told"), [(201, "1 more line of output was not logged"), (203, "3 more lines of output were not logged")])
def test_lines_that_are_too_many_are_counted(cpexd, n, told):
    daemon = cpexd([plugin("talker", TALKER)])
    daemon.expect(told)
    daemon.invoke(HOOK, call("lines", n=n))
    eventually(lambda: "line 199 " in daemon.log())
    time.sleep(1.1)
    say_until_it_is_logged(daemon, "again")
    assert told in daemon.log()
