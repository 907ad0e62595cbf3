# SPDX-License-Identifier: Apache-2.0
"""A zygote, and workers that are forked off it as cpexd does it (shim/fork.c)."""

import errno
import os
import signal
import socket
import struct
import time

import pytest
from worker import BUILD, PLUGINS, Failed, Worker

HOOKS = ["tool_pre_invoke"]
ENTRY = {"name": "sample", "kind": "isolated_venv", "hooks": HOOKS, "config": {}}


class Forked(Worker):
    """One that a zygote forks; `control` is the socket to its guard."""

    def __init__(self, zygote, parts=4):
        ours, theirs = socket.socketpair()
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.control.settimeout(10)
        self.output, output = os.pipe()
        self.stacks = os.memfd_create("stacks")
        socket.send_fds(zygote.socket, [b"f"], [theirs.fileno(), output, self.stacks, control.fileno()][:parts])
        theirs.close()
        control.close()
        os.close(output)
        self.talk_over(ours)

    def __exit__(self, *exc):
        self.socket.close()
        self.control.close()
        os.close(self.output)
        os.close(self.stacks)

    def hear(self):
        """(what the other side says, who), both empty at the end."""
        message, control, _, _ = self.control.recvmsg(200, 100)
        return message, struct.unpack("3i", control[0][2])[0] if control else None

    def ready(self, folder="/tmp"):
        message, self._pid = self.hear()
        assert message == b"p"
        self.call("forked", folder=folder)
        self.call("init", plugin=ENTRY, hooks=HOOKS, max_concurrent=8, generation=1)
        return self

    def status(self):
        message, guard = self.hear()
        assert message[:1] == b"s" and guard != self._pid
        assert self.control.recv(1) == b""
        return struct.unpack("i", message[1:])[0]


@pytest.fixture
def zygote(variant, tmp_path):
    with Worker(variant, "--profile", "default", "--tmp", tmp_path, "--read", PLUGINS, env={"TMPDIR": str(tmp_path)}) as it:
        it.call("load", class_name="sample.Sample", paths=[str(PLUGINS)])
        assert it.call("zygote", hooks=HOOKS) == {}
        yield it


def test_workers_serve_beside_each_other(zygote, tmp_path):
    with Forked(zygote) as one, Forked(zygote) as other:
        for each in one, other:
            each.ready(str(tmp_path))
            each.tool({"a": 1})
        assert len({one.pid, other.pid, zygote.pid}) == 3
        one.socket.close()
        assert os.WEXITSTATUS(one.status()) == 0
        other.tool({"a": 1})


def test_it_is_killed_when_it_is_given_up(zygote):
    with Forked(zygote) as worker:
        worker.ready().control.shutdown(socket.SHUT_WR)
        assert os.WTERMSIG(worker.status()) == signal.SIGKILL


def test_no_code_before_its_first_message(zygote):
    """It says who it is, and waits; then it may as well be killed."""
    with Forked(zygote) as worker:
        assert worker.hear()[0] == b"p"
        worker.control.shutdown(socket.SHUT_WR)
        assert os.WTERMSIG(struct.unpack("i", worker.hear()[0][1:])[0]) == signal.SIGKILL


def test_stacks(zygote):
    with Forked(zygote) as worker:
        worker.ready().control.send(b"x")
        deadline = time.monotonic() + 5
        while b"most recent call first" not in os.pread(worker.stacks, 4096, 0) and time.monotonic() < deadline:
            worker.tool()
        assert b"most recent call first" in os.pread(worker.stacks, 4096, 0)


@pytest.mark.parametrize("parts", [0, 3])
def test_what_is_no_request_ends_it(zygote, parts):
    if parts:
        with Forked(zygote, parts) as worker:
            assert worker.control.recv(1) == b""
    else:
        zygote.send("shutdown")
    assert zygote.wait() == 0


def test_all_end_with_it(zygote):
    with Forked(zygote) as one, Forked(zygote) as other:
        one.ready(), other.ready()
        os.kill(zygote.pid, signal.SIGKILL)
        assert one.control.recv(1) == other.control.recv(1) == b""


def test_a_low_limit_on_descriptors(any_python, tmp_path):
    with Worker(any_python, "--profile", "default", "--tmp", tmp_path, "--read", PLUGINS, "--rlimit-nofile", 16) as zygote:
        zygote.call("load", class_name="sample.Sample", paths=[str(PLUGINS)])
        zygote.call("zygote", hooks=HOOKS)
        with Forked(zygote) as worker:
            worker.ready().tool()


LAYERS = """
import ctypes, os, struct
from sample import Sample
call = ctypes.CDLL(None).syscall
fd = call(444, struct.pack("3Q", 1 << 13, 0, 0), 24, 0)
while call(446, fd, 0) == 0:  # the kernel has no more than 16 on top of each other
    pass
os.close(fd)
"""


def test_where_signals_are_not_held_back_nothing_is_forked(any_python, tmp_path):
    (tmp_path / "layers.py").write_text(LAYERS)
    with Worker(any_python, "--profile", "default", "--tmp", tmp_path, "--read", PLUGINS) as zygote:
        zygote.call("load", class_name="layers.Sample", paths=[str(PLUGINS), str(tmp_path)])
        zygote.call("zygote", hooks=HOOKS)
        with Forked(zygote) as worker:
            assert worker.hear()[0].startswith(b"ethis system does not keep a plugin's signals to itself")
            assert worker.control.recv(1) == b""


def test_where_no_process_can_be_started(any_python, tmp_path):
    with Worker(any_python, "--profile", "strict", "--tmp", tmp_path, "--read", PLUGINS) as zygote:
        zygote.call("load", class_name="sample.Sample", paths=[str(PLUGINS)])
        zygote.call("zygote", hooks=HOOKS)
        with Forked(zygote) as worker:
            assert worker.hear()[0] == b"eOperation not permitted"
            assert worker.control.recv(1) == b""


# ---- What fails on purpose (failing.c)

HELD, GUARDED = b"ethis system does not keep a plugin's signals to itself", b"ethis system does not keep a worker from its guard"
LATER = {number: b"a" + os.strerror(number).encode() for number in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)}
ENDED = b"s\0\1\0\0"  # by status 1
FAILURES = [
    # in the zygote, once
    ("_Fork", 1, errno.EAGAIN, [LATER[errno.EAGAIN]]),
    ("_Fork", 1, errno.EPERM, [b"eOperation not permitted"]),
    ("opendir", 1, errno.EMFILE, [LATER[errno.EMFILE]]),
    ("fcntl64", 2, errno.EMFILE, [LATER[errno.EMFILE]]),
    # in the guard
    ("signalfd", 1, errno.ENFILE, [LATER[errno.ENFILE]]),
    ("signalfd", 1, errno.ENOSYS, [HELD]),
    ("setsid", 1, errno.EPERM, [HELD]),
    ("prctl", 3, errno.EINVAL, [HELD]),
    ("open64", 1, errno.ENFILE, [LATER[errno.ENFILE]]),
    *(("syscall", n, errno.ENOMEM, [LATER[errno.ENOMEM]]) for n in (1, 2, 3)),
    *(("syscall", n, errno.ENOSYS, [HELD]) for n in (1, 2, 3)),
    ("kill", 1, errno.ESRCH, []),  # the zygote has ended
    ("fork", 1, errno.EAGAIN, [LATER[errno.EAGAIN]]),
    ("fork", 1, errno.ENOMEM, [LATER[errno.ENOMEM]]),
    # in the worker
    ("setsid", 2, errno.EPERM, [ENDED]),
    ("prctl", 4, errno.EINVAL, [ENDED]),
    ("open64", 2, errno.EMFILE, [LATER[errno.EMFILE], ENDED]),
    *(("syscall", n, errno.ENOMEM, [LATER[errno.ENOMEM], ENDED]) for n in (4, 5, 6)),
    *(("syscall", n, errno.EPERM, [GUARDED, ENDED]) for n in (4, 5, 6)),
    ("kill", 2, errno.ESRCH, [ENDED]),  # its guard has ended
    ("prctl", 5, errno.EINVAL, None),
    ("dup3", 1, errno.EBUSY, [b"p", ENDED]),
    ("syscall", 7, errno.EINVAL, [b"p", ENDED]),
]


@pytest.mark.parametrize(("function", "n", "error", "told"), FAILURES, ids=[f"{each[0]}-{each[1]}-{errno.errorcode[each[2]]}" for each in FAILURES])
def test_a_fork_that_fails_on_purpose(any_python, tmp_path, function, n, error, told):
    """Whatever it is, somebody says so (`told`; None: it does not matter), nobody is left waiting, and the zygote takes the next request."""
    library = BUILD / "tests/libfailing.so"
    env = {"LD_PRELOAD": str(library), "CPEXD_FAILING": f"{function}:{n}:{error}"}
    options = ["--profile", "default", "--tmp", tmp_path, "--read", PLUGINS, "--read", library]
    with Worker(any_python, *options, env=env) as zygote:
        zygote.call("load", class_name="sample.Sample", paths=[str(PLUGINS)])
        assert zygote.call("zygote", hooks=HOOKS) == {}
        for expected in told, None if function in ("_Fork", "opendir", "fcntl64") else told:
            with Forked(zygote) as worker:
                if expected is None:
                    worker.ready().tool()
                    continue
                messages = []
                while message := worker.hear()[0]:
                    messages.append(message)
                assert len(messages) == len(expected) and all(map(bytes.startswith, messages, expected)), messages


def test_a_class_that_nobody_has_loaded(any_python):
    with Worker(any_python) as worker, pytest.raises(Failed):
        worker.call("zygote", hooks=HOOKS)
