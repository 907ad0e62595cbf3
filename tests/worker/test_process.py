# SPDX-License-Identifier: Apache-2.0
"""The launcher, and what a worker is as a process."""

import os
import signal
import subprocess
import sys
import time

import pytest
from worker import EXT, LAUNCHER, ROOT, Failed, Worker, pack

HOOKS = ["tool_pre_invoke"]
FIXED = ["--shim", ROOT / "worker-shim/shim", "--ext", EXT, "--sdk", ROOT / "worker-shim"]


def process_of(worker):
    return worker.tool({"do": "process"})["metadata"]


def launch(*arguments, **popen):
    done = subprocess.run([LAUNCHER, *map(str, arguments)], capture_output=True, text=True, timeout=10, **popen)
    return done.returncode, done.stderr


def with_socket(*arguments):
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        return launch(*arguments, pass_fds=(3,), preexec_fn=lambda: os.dup2(theirs.fileno(), 3, inheritable=True))


# -- the launcher --------------------------------------------------------------------------------------------------------


def test_session_limits_signals_descriptors(any_python):
    options = ["--rlimit-as", 1 << 31, "--rlimit-nofile", 300, "--name", "pii"]
    spare = os.open("/dev/null", os.O_RDONLY)

    def ugly_inheritance():
        os.set_inheritable(spare, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.umask(0)

    worker = WorkerWith(ugly_inheritance, any_python, *options)
    os.close(spare)
    with worker:
        worker.init("sample.Sample", HOOKS)
        process = process_of(worker)
        assert process["sid"] == process["pid"] == worker.pid
        assert process["limits"] == {"RLIMIT_AS": 1 << 31, "RLIMIT_NOFILE": 300, "RLIMIT_CORE": 0}
        assert process["umask"] == 0o077
        assert process["fds"][:3] == [0, 1, 2]
        assert process["fds"][-1] == 256 and 4 in process["fds"] and len(process["fds"]) == 6  # the socket, the stacks, the one that lists
        assert process["sigint"] == signal.SIG_IGN and process["sigterm"] == signal.SIG_DFL and process["blocked"] == 0
        assert process["oom"] == min(1000, int(open("/proc/self/oom_score_adj").read()) + 300)
        assert process["stdin"] == ""
        os.kill(worker.pid, signal.SIGINT)
        assert worker.tool() == {}
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait() == -signal.SIGTERM


class WorkerWith(Worker):
    """A worker whose parent leaves it an odd inheritance."""

    def __init__(self, inheritance, *arguments, **more):
        popen = subprocess.Popen

        def spawn(*args, preexec_fn, **options):
            def both():
                preexec_fn()
                inheritance()

            return popen(*args, preexec_fn=both, close_fds=False, **{k: v for k, v in options.items() if k != "pass_fds"})

        subprocess.Popen = spawn
        try:
            super().__init__(*arguments, **more)
        finally:
            subprocess.Popen = popen


def test_environment(any_python):
    env = {
        "PYTHONPATH": "/nowhere", "PYTHONUSERBASE": "/nowhere", "VIRTUAL_ENV": "/other", "NOTIFY_SOCKET": "@x", "LISTEN_FDS": "1",
        "LISTEN_PID": "1", "JOURNAL_STREAM": "1:2", "WATCHDOG_USEC": "1", "HTTPS_PROXY": "http://proxy", "PYTHONHASHSEED": "5",
    }  # fmt: skip
    with Worker(any_python, env=env) as worker:
        worker.init("sample.Sample", HOOKS)
        seen = process_of(worker)["env"]
        assert {key for key in env if key in seen} == {"HTTPS_PROXY", "PYTHONHASHSEED"}


def test_a_low_limit_of_descriptors(any_python):
    with Worker(any_python, "--rlimit-nofile", 20) as worker:
        worker.init("sample.Sample", HOOKS)
        assert worker.tool() == {}


def test_a_limit_of_memory_is_an_error_of_the_call(any_python):
    with Worker(any_python, "--rlimit-as", 300 << 20) as worker:
        worker.init("sample.Sample", HOOKS)
        error = worker.fail("tool_pre_invoke", {"name": "t", "args": {"do": "large", "size": 1 << 30}})
        assert error["type"] == "MemoryError"
        assert worker.tool() == {}


def test_the_worker_dies_with_its_parent(any_python):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests/worker')!r})\n"
        f"from worker import Worker\nw = Worker({any_python!r}); w.init('sample.Sample', []); print(w.pid, flush=True)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}/stat") and open(f"/proc/{pid}/stat").read().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_parent_that_is_gone():
    status, text = with_socket("--python", sys.executable, *FIXED, "--parent", "1" if os.getpid() != 1 else "2")
    assert status == 121 and text == "cpexd-launch: the daemon, process 1, is gone\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--python, --shim, --ext and --sdk are required"),
        (["--python", "p", *FIXED, "more"], '"more" is one argument too many'),
        (["--python", "p", *FIXED, "--rlimit-as", "-1"], '--rlimit-as takes a number, not "-1"'),
        (["--python", "p", *FIXED, "--rlimit-as", "1G"], '--rlimit-as takes a number, not "1G"'),
        (["--fly"], "unrecognized option '--fly'"),
    ],
)
def test_wrong_command_lines(arguments, text):
    status, said = launch(*arguments)
    assert status == 120 and text in said


def test_no_socket_no_python_no_runner(tmp_path):
    status, text = launch("--python", sys.executable, *FIXED, stdin=subprocess.DEVNULL)
    assert status == 121 and "descriptor 3 is not a socket" in text
    status, text = with_socket("--python", tmp_path / "python", *FIXED)
    assert status == 127 and f"cannot run {tmp_path}/python: No such file" in text
    status, text = with_socket("--python", tmp_path, *FIXED)
    assert status == 126 and "Permission denied" in text
    status, text = with_socket("--python", sys.executable, "--shim", tmp_path, "--ext", EXT, "--sdk", tmp_path)
    assert status == 121 and "is cpexd installed completely?" in text
    status, text = with_socket("--python", sys.executable, *FIXED, "--rlimit-nofile", str(1 << 40))
    assert status == 121 and "cannot limit open files to 1099511627776" in text


# -- the process ---------------------------------------------------------------------------------------------------------


def test_what_a_plugin_prints_is_not_protocol(worker):
    worker.init("sample.Sample", HOOKS)
    assert worker.tool({"do": "print"}) == {}
    text = worker.read_output("to stderr\n")
    assert "printed \\udc80\n" in text and "written\n" in text


def test_descriptor_3_is_not_the_socket(worker):
    worker.init("sample.Sample", HOOKS)
    error = worker.fail("tool_pre_invoke", {"name": "t", "args": {"do": "print", "to_3": True}})
    assert error["type"] == "OSError"  # a bad descriptor, or something of the plugin's own that takes no such write
    assert worker.tool() == {}


def test_a_forked_child_cannot_answer(worker):
    worker.init("sample.Sample", HOOKS)
    assert worker.tool({"do": "fork"})["metadata"] == {"status": 0}
    assert worker.tool() == {}


def test_threads_of_the_plugin_run_while_the_worker_waits(worker):
    worker.init("sample.Sample", HOOKS)
    assert worker.tool({"do": "thread"}) == {}
    for _ in range(200):
        assert worker.tool() == {}


def test_the_venv_of_the_interpreter_is_active(any_python, tmp_path):
    subprocess.run([any_python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    (site,) = (tmp_path / "venv/lib").glob("python3.*/site-packages")
    (site / "only_here.py").write_text("from sample import Sample\n")
    # Neither the runner's names nor the SDK's may shadow what a venv has.
    (site / "cpex").mkdir()
    with Worker(tmp_path / "venv/bin/python") as worker:
        assert worker.init("only_here.Sample", HOOKS)["hooks"] == HOOKS
        assert worker.tool({"do": "process"})["metadata"]["pid"] == worker.pid


def test_starting_is_quick(any_python):
    times = []
    for _ in range(5):
        begun = time.monotonic()
        with Worker(any_python) as worker:
            worker.init("sample.Sample", HOOKS)
            times.append(time.monotonic() - begun)
    assert min(times) < 0.5, times


def test_memory_and_descriptors_stay(any_python):
    def resident():
        with open(f"/proc/{worker.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    request = pack(
        [0, 1, "invoke", [{"hook": "tool_pre_invoke", "payload": pack({"name": "t", "args": {"do": "state"}}), "context": {
            "request_id": "r", "state": {"a": [1, "two", b"three"]}}, "contexts": pack({"state": {"k": 1}})}]]
    )  # fmt: skip
    with Worker(any_python) as worker:
        worker.init("sample.Sample", HOOKS)

        def calls(n):
            for i in range(n):
                worker.socket.sendall(request)
                worker.receive()
                if i % 50 == 0:
                    worker.fail("tool_pre_invoke", {"name": "t", "args": {"do": "none"}})
                    worker.fail("tool_pre_invoke", {f"key{i}": 1})

        calls(2000)
        before, fds = resident(), len(os.listdir(f"/proc/{worker.pid}/fd"))
        calls(10000)
        assert resident() - before < 1 << 20
        assert len(os.listdir(f"/proc/{worker.pid}/fd")) == fds


def test_the_build_is_of_the_stable_abi():
    def output_of(*command):
        return subprocess.run([*command, EXT / "_cpexd.abi3.so"], capture_output=True, text=True, check=True).stdout

    symbols = output_of("nm", "-D", "--undefined-only")
    assert "PyModule_Create2" in symbols and " _PyLong" not in symbols and "msgpack" not in symbols
    assert "python" not in output_of("ldd")


def test_a_worker_that_cannot_start_says_why(any_python):
    with Worker(any_python, "--rlimit-as", 1 << 20) as worker:
        with pytest.raises((EOFError, Failed, ConnectionError)):
            worker.init("sample.Sample", HOOKS)
        assert worker.wait() != 0


def test_what_is_gone_need_not_be_removed(tmp_path):
    folder = tmp_path / "folder"
    assert launch("--remove-content", folder) == (0, "")
    folder.write_text("no folder")
    status, said = launch("--remove-content", folder)
    assert status != 0 and "Not a directory" in said
