# SPDX-License-Identifier: Apache-2.0
"""`cpexctl top`: figures of the moment, and a terminal that is as it was afterwards."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest
from daemon import meanwhile, plugin

HOOK = "tool_pre_invoke"
BODY = """
    async def tool_pre_invoke(self, payload, context):
        await asyncio.sleep(float(payload.name))
        if payload.args:
            raise ValueError("told to")
        return Result()
"""
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


@pytest.fixture
def daemon(cpexd):
    daemon = cpexd([plugin("steady", BODY, on_error="ignore"), plugin("idle", BODY, conditions=[{"tools": ["nobody"]}])])
    daemon.expect("told to")
    return daemon


@contextlib.contextmanager
def calls(daemon, name, args):
    """One after the other, as long as the body lasts."""
    with daemon.host() as host, meanwhile(lambda: host.invoke(HOOK, {"name": name, "args": args})):
        yield


def rows(text):
    """{plugin: {column: text}} of each look."""
    for look in text.strip().split("\n\ncpexd "):
        lines = look.splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("PLUGIN"))
        names = re.split(r"  +", lines[at].strip())
        yield {(cells := re.split(r"  +", line.strip()))[0]: dict(zip(names, cells, strict=True)) for line in lines[at + 1:] if line.strip()}


def milliseconds(text):
    number, unit = text.split()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def test_figures_of_the_moment(daemon):
    with calls(daemon, "0.002", {}):
        time.sleep(0.3)
    with calls(daemon, "0.06", {"fail": True}):
        done = daemon.ctl("top", "-n", "2", "--interval", "0.7")
    assert done.returncode == 0 and not done.stderr and "\x1b" not in done.stdout, done
    looks = list(rows(done.stdout))
    assert len(looks) == 2
    for look in looks:
        steady, idle = look["steady"], look["idle"]
        assert 3 < float(steady["CALLS/S"]) < 20 and 3 < float(steady["ERRORS/S"]) < 20
        assert 50 <= milliseconds(steady["P50"]) <= milliseconds(steady["P95"]) <= milliseconds(steady["P99"]) <= 250
        assert (steady["STATUS"], steady["WORKERS"], steady["RESTARTS"]) == ("ready", "1/1", "0")
        assert 4 < float(steady["MEMORY"].split()[0]) < 500
        assert (idle["CALLS/S"], idle["P50"], idle["P99"], idle["ACTIVE"]) == ("0.0", "-", "-", "0")
    status = [json.loads(line) for line in daemon.ctl("top", "--json", "-n", "1", "--interval", "0.1").stdout.splitlines()]
    assert len(status) == 1
    [steady] = [each for each in status[0]["plugins"] if each["name"] == "steady"]
    assert len(steady["histogram"]) == len(status[0]["histogram_usec"]) and sum(steady["histogram"]) == steady["calls_total"]


class Terminal:
    """cpexctl top on one."""

    def __init__(self, daemon):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (8, 60))
        self.before = termios.tcgetattr(self.slave)
        command = [daemon.build / "cpexctl", "--socket", daemon.socket, "top", "--interval", "0.2"]
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=subprocess.PIPE, start_new_session=True,
                                        env=os.environ | {"NO_COLOR": "1"})
        self.text = ""

    def until(self, pattern, seconds=10):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text, re.DOTALL):
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], self.text
            self.text += os.read(self.master, 65536).decode()

    def ended(self):
        """The exit status, after a check that nothing is left of it on the terminal."""
        self.until(re.escape(LEAVE))
        status = self.process.wait(10)
        assert termios.tcgetattr(self.slave) == self.before
        assert self.text.count(ENTER) == self.text.count(LEAVE) == 1 and self.text.endswith(LEAVE)
        assert self.text.rindex("\x1b[?25h") > self.text.rindex("\x1b[?25l") and self.text.rindex("\x1b[?7h") > self.text.rindex("\x1b[?7l")
        return status

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(daemon):
    terminal = Terminal(daemon)
    terminal.until("PLUGIN.*PLUGIN.*steady")
    yield terminal
    terminal.close()


@pytest.mark.parametrize("key", ["q", "Q"])
def test_a_key_ends_it(terminal, key):
    assert not termios.tcgetattr(terminal.slave)[3] & (termios.ECHO | termios.ICANON)
    os.write(terminal.master, b"x" + key.encode())
    assert terminal.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(terminal, number):
    terminal.process.send_signal(signal.SIGTSTP)  # leaves nobody with half a terminal
    terminal.process.send_signal(number)
    assert terminal.ended() == 0


def test_the_end_of_the_daemon_ends_it(daemon, terminal):
    daemon.stop()
    assert terminal.ended() == 2
    assert b"cpexctl: " in terminal.process.stderr.read()


def test_no_more_lines_than_there_is_room_for(terminal):
    frames = terminal.text.split("\x1b[H")[1:-1]
    assert frames and all(frame.count("\n") <= 7 for frame in frames)
