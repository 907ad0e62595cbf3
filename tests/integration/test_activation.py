# SPDX-License-Identifier: Apache-2.0
"""The sockets that a service manager has opened: the daemon takes them, and leaves them where they are."""

import socket
import subprocess

import pytest

from daemon import Host, eventually, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "ls", "args": {}}


def says(text):
    return plugin("says", f"""
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={{"said": {text!r}, "env": sorted(os.environ)}})
    """)


def listening(path, kind=socket.SOCK_STREAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    if kind == socket.SOCK_STREAM:
        made.listen(64)
    return made


@pytest.fixture
def manager(cpexd, tmp_path):
    """A daemon with both sockets from the manager, which are at the configured paths, and those sockets by their names."""
    sockets = {name: listening(tmp_path / name) for name in ("host", "control")}
    settings = {"socket": {"path": str(tmp_path / "host")}, "control": {"path": str(tmp_path / "control")}}
    daemon = cpexd([says("x")], sockets=sockets, settings=settings)
    yield daemon, sockets
    for name, each in sockets.items():
        each.close()
        (tmp_path / name).unlink(missing_ok=True)


def close(sockets):
    """The gate wants no socket to be left."""
    for each in sockets.values():
        path = each.getsockname()
        each.close()
        subprocess.run(["rm", path], check=True)


def test_both_are_used_and_left_alone(manager, tmp_path):
    daemon, sockets = manager
    assert daemon.invoke(HOOK, CALL)["metadata"]["said"] == "x"
    assert daemon.admin("ping") == {}
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_socket() or "lock" in entry.name) == ["control", "host"]
    assert not [each for each in daemon.invoke(HOOK, CALL)["metadata"]["env"] if each.startswith("LISTEN_")]
    assert daemon.stop() == 0
    assert daemon.socket.exists() and daemon.control.exists()
    with Host(daemon.socket):
        pass  # it waits for the next daemon, and is not refused
    close(sockets)


def test_a_crash_costs_a_reconnect(manager):
    daemon, sockets = manager
    with daemon.host() as host:
        assert host.invoke(HOOK, CALL)["metadata"]["said"] == "x"
        daemon.process.kill()
        daemon.process.wait()
        with pytest.raises((EOFError, ConnectionError)):
            host.invoke(HOOK, CALL)
    with daemon.host() as host:
        waiting = host.begin(HOOK, CALL)
        daemon.start(sockets=sockets)
        assert host.end(waiting)["metadata"]["said"] == "x"
    assert daemon.stop() == 0
    close(sockets)


def test_by_address(cpexd, tmp_path):
    sockets = {"cpexd.socket": listening(tmp_path / "b"), "else": listening(tmp_path / "a")}
    daemon = cpexd([says("x")], sockets=sockets, settings={"socket": {"path": str(tmp_path / "a")}, "control": {"path": str(tmp_path / "b")}})
    assert daemon.invoke(HOOK, CALL)["metadata"]["said"] == "x"
    assert daemon.admin("ping") == {}
    assert daemon.stop() == 0
    close(sockets)


def test_a_name_counts_before_the_address(cpexd, tmp_path):
    sockets = {"host": listening(tmp_path / "elsewhere")}
    daemon = cpexd([says("x")], sockets=sockets)
    daemon.expect("is configured, but the service manager listens on .*/elsewhere, and that counts")
    daemon.wait_log("is configured, but")
    assert not daemon.socket.exists()
    with Host(tmp_path / "elsewhere") as host:
        assert host.invoke(HOOK, CALL)["metadata"]["said"] == "x"
    assert daemon.admin("ping") == {}, "the control socket is our own"
    assert daemon.stop() == 0
    close(sockets)


def test_what_is_no_listening_stream_socket_is_not_used(cpexd, tmp_path):
    sockets = {"host": listening(tmp_path / "datagrams", socket.SOCK_DGRAM), "control": socket.create_server(("127.0.0.1", 0))}
    daemon = cpexd([says("x")], sockets=sockets)
    daemon.expect("is not used: it has to be a listening Unix stream socket")
    eventually(lambda: daemon.log().count("is not used") == 2)
    assert daemon.invoke(HOOK, CALL)["metadata"]["said"] == "x"
    assert daemon.admin("ping") == {}
