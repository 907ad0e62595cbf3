# SPDX-License-Identifier: Apache-2.0
"""Packages that want out while they are installed: what they do succeeds without the sandbox, and fails in the one that installers get."""

import hashlib
import io
import json
import os
import pathlib
import platform
import socket
import subprocess
import sys
import tarfile
import textwrap

import pytest
from daemon import LISTENER, SYSTEM_CALL, eventually, plugin
from test_venv import PROGRAM, Cache, alive
from wheels import wheel

if platform.machine() != "x86_64":
    pytest.skip("the attacks name system calls by the numbers of x86-64", allow_module_level=True)

# The build backend of a source package. What became of the attacks is told by the package that it builds.
BACKEND = SYSTEM_CALL + """
import contextlib, json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, threading, time, zipfile
KNOW, ATTACKS = json.loads({know!r}), json.loads({attacks!r})
tmp = tempfile.mkdtemp()

def run(code):
    scope = globals() | KNOW
    try:
        exec(code, scope)
        return bool(scope["did"])
    except BaseException as exc:
        return repr(exc)

def build_wheel(folder, settings=None, metadata=None):
    outcome = {{name: run(code) for name, code in ATTACKS.items()}}
    with zipfile.ZipFile(f"{{folder}}/evil-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("evil.py", f"outcome = {{json.dumps(outcome)!r}}")
        archive.writestr("evil-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\n")
        archive.writestr("evil-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("evil-1.0.dist-info/RECORD", "")
    return "evil-1.0-py3-none-any.whl"
"""

# `did` is whether it worked.
ATTACKS = {
    "read a file of the user": "did = open(secret).read()",
    "list a folder of the user": "did = os.listdir(home)",
    "read the machine's passwords": "did = open('/etc/shadow').read()",
    "follow a symbolic link": "os.symlink(secret, tmp + '/link'); did = open(tmp + '/link').read()",
    "link to a file": "os.link(secret, tmp + '/hard'); did = open(tmp + '/hard').read()",
    "by a child process": "did = subprocess.run(['cat', secret], capture_output=True).stdout",
    "write to the shell's start": "did = open(home + '/.bashrc', 'a').write('x')",
    "leave a file": "did = open(home + '/new', 'w').write('x')",
    "delete a file": "os.unlink(home + '/victim'); did = True",
    "truncate a file": "os.truncate(home + '/.profile', 0); did = True",
    "add to another plugin's venv": "did = open(neighbour + '/evil.pth', 'w').write('import os')",
    "put a venv into the cache": "os.mkdir(venvs + '/' + 64 * 'a'); did = True",
    "poison the installer's cache": "os.makedirs(home + '/.cache/pip/wheels'); did = True",
    "change the requirements": "did = open(requirements, 'a').write('# x')",
    "read what lies beside the requirements": "did = open(os.path.dirname(requirements) + '/cpexd.yaml').read()",
    "let everybody write to a file": "os.chmod(home + '/.profile', 0o666); did = os.stat(home + '/.profile').st_mode & 0o666 == 0o666",
    "let everybody read a file": "os.chmod(private, 0o644); did = os.stat(private).st_mode & 0o044",
    "take the owner's right to a file": "os.chmod(home + '/.bashrc', 0); did = not os.stat(home + '/.bashrc').st_mode & 0o400",
    "date a file back": "os.utime(home + '/.bashrc', (1, 1)); did = os.stat(home + '/.bashrc').st_mtime == 1",
    "date a file back that is open": "fd = os.open(readable, 0); before = os.stat(readable).st_mtime; os.utime(fd, (1, 1)); "
                                     "did = os.stat(readable).st_mtime == 1; os.utime(fd, (before, before))",
    "mark a file by a link": "os.symlink(private, tmp + '/open'); os.chmod(tmp + '/open', 0o644); did = os.stat(private).st_mode & 0o044",
    "mark a file by a way up": "os.chmod(tmp + '/..' * 20 + private, 0o644); did = os.stat(private).st_mode & 0o044",
    "mark a file from its folder": "os.chdir(home)\ntry: os.chmod('private', 0o644)\nfinally: os.chdir(tmp)\ndid = os.stat(private).st_mode & 0o044",
    "mark a file by an open folder": "fd = os.open(home, os.O_PATH); os.chmod('private', 0o644, dir_fd=fd); did = os.stat(private).st_mode & 0o044",
    "mark a file that takes another's place": """
os.mkdir(tmp + '/real'); open(tmp + '/real/private', 'w').close(); os.symlink(home, tmp + '/linked'); over = []
def swap():
    while not over: libc.renameat2(-100, tmp.encode() + b'/real', -100, tmp.encode() + b'/linked', 2)
thread = threading.Thread(target=swap); thread.start()
for _ in range(3000):
    with contextlib.suppress(OSError): os.chmod(tmp + '/real/private', 0o644)
over.append(1); thread.join(); did = os.stat(private).st_mode & 0o044
""",
    "mark a file whose name takes another's place": """
open(tmp + '/mine', 'w').close(); over = []
texts = [each.encode().ljust(200, b'\\0') for each in (tmp + '/mine', private)]; path = ctypes.create_string_buffer(texts[0])
def swap():
    while not over:
        for each in texts: ctypes.memmove(path, each, 200)
thread = threading.Thread(target=swap); thread.start()
for _ in range(3000): libc.chmod(path, 0o644)
over.append(1); thread.join(); did = os.stat(private).st_mode & 0o044
""",
    "make a program of another user": "open(tmp + '/s', 'w').close(); os.chmod(tmp + '/s', 0o4755); did = os.stat(tmp + '/s').st_mode & 0o4000",
    "give a file away": "os.chown(home + '/.profile', 1, 1); did = os.stat(home + '/.profile').st_uid == 1",
    "have the daemon's variables": "did = os.environ['SECRET_TOKEN']",
    "have the variables of who runs it": "did = b'SECRET_TOKEN' in pathlib.Path(f'/proc/{builder()}/environ').read_bytes()",
    "signal a process": "os.kill(victim, 18); did = True",
    "signal the builder": "os.kill(builder(), 18); did = True",
    "trace a process": "call(101, 0x4206, victim, 0, 0); did = True",
    "administer cpexd": "socket.socket(socket.AF_UNIX).connect(control); did = True",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + unique); did = True",
    "ask the kernel by netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); did = True",
    "keep a key": "did = call(248, ctypes.c_char_p(b'user'), ctypes.c_char_p(unique.encode()), ctypes.c_char_p(b'x'), 1, -2)",
    "submit by io_uring": "os.close(call(425, 1, ctypes.create_string_buffer(256))); did = True",
    "make a user namespace": "did = subprocess.run(['unshare', '--user', 'true'], stderr=subprocess.DEVNULL).returncode == 0",
    "have capabilities": "did = any(line.startswith('CapEff') and int(line.split()[1], 16) for line in open('/proc/self/status'))",
}
OF_ROOT = {"read the machine's passwords", "give a file away", "have capabilities"}

# Builds do such things, and may.
WORK = {
    "run what it has compiled": "open(tmp + '/p', 'w').write('#!/bin/sh\\nexit 0\\n'); os.chmod(tmp + '/p', 0o755); did = subprocess.run([tmp + '/p']).returncode == 0",
    "copy with times and modes": "open(tmp + '/a', 'w').close(); os.utime(tmp + '/a', (1, 1)); shutil.copy2(tmp + '/a', tmp + '/b'); did = os.stat(tmp + '/b').st_mtime == 1",
    "mark what is open": "fd = os.open(tmp + '/o', os.O_CREAT); os.fchmod(fd, 0o700); os.utime(fd, (2, 2)); did = (os.fstat(fd).st_mode & 0o777, os.fstat(fd).st_mtime) == (0o700, 2)",
    "mark by an open folder": "fd = os.open(tmp, 0); os.chmod('o', 0o750, dir_fd=fd); did = os.fstat(os.open(tmp + '/o', 0)).st_mode & 0o777 == 0o750",
    "mark from its folder": "os.chdir(tmp); os.chmod('o', 0o711); os.utime('o'); did = os.stat('o').st_mode & 0o777 == 0o711 and os.stat('o').st_mtime > 1000",
    "mark as libc does": "fd = os.open(tmp + '/o', os.O_PATH); os.chmod(f'/proc/self/fd/{fd}', 0o705); did = os.stat(tmp + '/o').st_mode & 0o777 == 0o705",
    "date a link": "os.symlink('o', tmp + '/l'); os.utime(tmp + '/l', (3, 3), follow_symlinks=False); did = os.lstat(tmp + '/l').st_mtime == 3 != os.stat(tmp + '/l').st_mtime",
    "date as of old": "path = ctypes.c_char_p((tmp + '/o').encode()); call(132, path, (ctypes.c_long * 2)(4, 5)); did = os.stat(tmp + '/o').st_mtime == 5; "
                      "call(235, path, (ctypes.c_long * 4)(6, 0, 7, 500000)); did = did and os.stat(tmp + '/o').st_mtime == 7.5",
    "hear what is wrong": "did = libc.chmod(None, 0o644) == -1 and ctypes.get_errno() == 14 and libc.chmod(b'', 0) == -1 and ctypes.get_errno() == 2 "
                          "and libc.chmod(b'x' * 5000, 0) == -1 and ctypes.get_errno() == 36",
    "keep others out": "os.chmod(tmp + '/o', 0o666); did = os.stat(tmp + '/o').st_mode & 0o777 == 0o644",
    "connect by TCP": "socket.create_connection(('127.0.0.1', tcp)).close(); did = True",
    "keep things at home": "pathlib.Path('~/.cache/x').expanduser().mkdir(parents=True); did = True",
}

BUILDER = """
def builder():
    pid = os.getpid()
    while pid > 1:
        pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
        if b'--cache' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\\0') and b'build' in pathlib.Path(f'/proc/{pid}/cmdline').read_bytes():
            return pid
"""


def source_package(folder, backend):
    """A source package with the backend in it, so that nothing is needed to build it."""
    path = folder / "evil-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (("pyproject.toml", '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'),
                           ("backend.py", backend), ("PKG-INFO", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")):
            info = tarfile.TarInfo(f"evil-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "plugin").mkdir()
    cache = Cache(tmp_path)
    cache.file = "plugin/requirements.txt"
    return cache


def outcomes(cache, attacks, *options, **know):
    """What the attacks of a package have done, by their names."""
    source_package(cache.wheels, BACKEND.format(know=json.dumps(know), attacks=json.dumps(attacks)) + BUILDER)
    result = cache.good(cache.requirements("evil\n", cache.file), *options)
    return json.loads(result.run("-c", "import evil; print(evil.outcome)"))


def test_attacks(cache, tmp_path):
    home = tmp_path / "home"
    neighbour = pathlib.Path(cache.good().python).parents[1]
    (tmp_path / "plugin/cpexd.yaml").write_text("secret")
    unique = f"cpexd-install-{os.getpid()}"
    victim = subprocess.Popen(["sleep", "1000"])
    sockets = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    for each, name in zip(sockets[1:], (str(tmp_path / "control.sock"), "\0" + unique)):
        each.bind(name)
        each.listen(1000)
    know = {"home": str(home), "secret": str(home / "secret"), "neighbour": str(neighbour), "venvs": str(cache.dir / "venvs"), "unique": unique,
            "requirements": str(tmp_path / cache.file), "victim": victim.pid, "control": str(tmp_path / "control.sock"),
            "tcp": sockets[0].getsockname()[1], "private": str(home / "private"), "readable": str(tmp_path / cache.file)}
    cache.environment |= {"SECRET_TOKEN": "hunter2", "HOME": str(home)}

    def attack(*options):
        home.mkdir()
        for name in ("secret", ".bashrc", ".profile", "victim"):
            (home / name).write_text("secret")
        (home / "private").touch(0o600)
        did = outcomes(cache, ATTACKS | WORK, *options, **know)
        for each in sorted(home.rglob("*"), reverse=True):
            each.rmdir() if each.is_dir() else each.unlink()
        home.rmdir()
        return did

    try:
        boxed = attack()
        assert {name for name in ATTACKS if boxed[name] is True} == set(), boxed
        assert {name: boxed[name] for name in WORK} == dict.fromkeys(WORK, True)
        subprocess.run(["chmod", "-R", "u+w", cache.dir])
        (neighbour / "evil.pth").unlink(missing_ok=True)
        cache.dir = tmp_path / "another"
        free = attack("--no-sandbox")
        failed = {name: free[name] for name in ATTACKS if free[name] is not True and not (name in OF_ROOT and os.getuid() != 0)}
        assert {name for name, why in failed.items() if "Errno 1]" not in str(why) and "Errno 38" not in str(why)} <= {
            "submit by io_uring", "make a user namespace", "trace a process"}, failed
        assert len(failed) <= 4, failed
    finally:
        victim.kill()
        victim.wait()
        for each in sockets:
            each.close()


def test_what_is_denied_is_logged(cache):
    attacks = {name: ATTACKS[name] for name in ("keep a key", "administer cpexd", "trace a process")} | {"copy with times and modes": WORK["copy with times and modes"]}
    know = {"unique": "x", "control": "/none", "victim": os.getpid()}
    source_package(cache.wheels, BACKEND.format(know=json.dumps(know), attacks=json.dumps(attacks)) + BUILDER)
    log = cache.good(cache.requirements("evil\n", cache.file)).log
    said = [line.partition(": the sandbox has denied ")[2] for line in log.splitlines() if "the sandbox has denied" in line]
    allows = "; nothing less than venv.sandbox: false in cpexd.yaml allows it, which is no sandbox"
    assert sorted(said) == [each + allows for each in ("add_key", "ptrace", "socket(AF_UNIX)")], log


@pytest.mark.parametrize("options", [(), ("--only-binary",), ("--installer", "pip")], ids=str)
def test_who_does_nothing_wrong_is_not_told_of(cache, options):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    assert "has denied" not in cache.good(cache.requirements("one\n", cache.file), *options).log


def test_with_another_listener_above_modes_are_only_limited(cache):
    """There the guard cannot be asked; the filter looks at the modes, and the files are anybody's."""
    attacks = {name: ATTACKS[name] for name in ("let everybody write to a file", "make a program of another user")} | {
        name: WORK[name] for name in ("run what it has compiled", "copy with times and modes")}
    (cache.folder / "home").mkdir()
    (cache.folder / "home/.profile").touch(0o600)
    source_package(cache.wheels, BACKEND.format(know=json.dumps({"home": str(cache.folder / "home")}), attacks=json.dumps(attacks)))
    result = cache.good(cache.requirements("evil\n", cache.file), wrapper=[sys.executable, "-c", LISTENER])
    assert list(json.loads(result.run("-c", "import evil; print(evil.outcome)")).values()) == [False, False, True, True]


def test_a_wheelhouse_needs_no_network(cache):
    del cache.environment["PIP_NO_INDEX"], cache.environment["PIP_FIND_LINKS"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        did = outcomes(cache, {"connect": WORK["connect by TCP"]}, "--wheelhouse", str(cache.wheels), tcp=server.getsockname()[1])
    assert "Operation not permitted" in did["connect"]


def test_only_binary_runs_no_code(cache):
    """Whatever the requirements say, which come with the plugin."""
    told = cache.folder / "told"
    source_package(cache.wheels, f"open({str(told)!r}, 'w').close()")
    for text in ("--no-binary :all:\nevil\n", f"{cache.wheels}/evil-1.0.tar.gz\n"):
        cache.bad(cache.requirements(text, cache.file), "--only-binary", "--read", str(cache.wheels))
        assert not told.exists()
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    assert cache.good(cache.requirements("one\n", cache.file), "--only-binary").built


def test_require_hashes(cache):
    path = wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    assert "hash" in cache.bad(cache.requirements("one==1.0\n", cache.file), "--require-hashes").error.lower()
    good = subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout.split()[0]
    assert cache.good(cache.requirements(f"one==1.0 --hash=sha256:{good}\n", cache.file), "--require-hashes").built
    without = cache.good(cache.requirements("one==1.0\n", cache.file))
    assert cache.bad(cache.requirements("one==1.0\n", cache.file), "--require-hashes") and without.built, "a venv made without hashes does not count"


def test_requirements_name_only_what_lies_beside_them(cache):
    elsewhere = cache.folder / "elsewhere"
    elsewhere.mkdir()
    wheel(elsewhere, "one", "1.0", {"one.py": ""})
    (elsewhere / "more.txt").write_text("one\n")
    for text in (f"--find-links {elsewhere}\none\n", f"{elsewhere}/one-1.0-py3-none-any.whl\n", f"-r {elsewhere}/more.txt\n", "-r ../elsewhere/more.txt\n",
                 f"-e {elsewhere}\n", "../elsewhere/one-1.0-py3-none-any.whl\n"):
        error = cache.bad(cache.requirements(text, cache.file)).error
        assert "is not below" in error and "add it to venv.read in cpexd.yaml" in error, error
    (cache.folder / "plugin/link").symlink_to(elsewhere)
    assert "is not below" in cache.bad(cache.requirements("link/one-1.0-py3-none-any.whl\n", cache.file)).error
    assert cache.good(cache.requirements("link/one-1.0-py3-none-any.whl\n", cache.file), "--read", str(elsewhere)).built


def test_variables_in_requirements_have_to_be_given(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    cache.environment |= {"NAME": "one", "AWS_SECRET_ACCESS_KEY": "hunter2", "PIP_RETRIES": "0"}
    stolen = cache.bad(cache.requirements("nope @ http://127.0.0.1:9/${AWS_SECRET_ACCESS_KEY}\n", cache.file))
    assert "hunter2" not in stolen.error + stolen.log
    cache.bad(cache.requirements("./${NAME}-1.0-py3-none-any.whl\n", cache.file))
    wheel(cache.folder / "plugin", "one", "1.0", {"one.py": ""})
    # What such a line names cannot be told beforehand, so that the folder has to be given, too.
    assert cache.good(cache.requirements("./${NAME}-1.0-py3-none-any.whl\n", cache.file), "--env", "NAME", "--read", str(cache.folder / "plugin")).built


def test_a_path_file_runs_in_the_box_and_changes_nothing(cache):
    """Python runs the lines of a .pth when it starts, as it does when the new venv is tried out."""
    told = cache.folder / "told"
    code = f"import os, sys; open({str(told)!r}, 'w').close()\n"
    inside = "import os, sys; open(os.path.join(sys.prefix, 'inside'), 'w').close()\n"
    wheel(cache.wheels, "path", "1.0", {"path.pth": code, "inside.pth": inside})
    result = cache.good(cache.requirements("path\n", cache.file))
    assert not told.exists() and not (pathlib.Path(result.python).parents[1] / "inside").exists()
    assert "Error processing line 1" in result.log and "Permission denied" in result.log
    cache.dir = cache.folder / "another"
    cache.good(cache.requirements("path\n", cache.file), "--no-sandbox")
    assert told.exists()


@pytest.mark.parametrize("name", ["../../../../../evil", "/evil", "../evil"])
def test_names_that_lead_out_of_the_venv(cache, name):
    name = str(cache.folder / "evil") if name == "/evil" else name
    wheel(cache.wheels, "out", "1.0", {name: "x", "out.py": ""})
    cache.build(cache.requirements("out\n", cache.file))
    assert not list(cache.folder.glob("evil")) and not list(cache.folder.glob("cache/evil")) and not list(cache.folder.glob("cache/venvs/evil"))


@pytest.mark.parametrize("where, text", [("data/pyvenv.cfg", "home = /home/ann/bin\n"), ("scripts/python", "#!/bin/sh\n"), ("scripts/python3", "#!/bin/sh\n")])
def test_who_changes_the_venv_itself_is_refused(cache, where, text):
    wheel(cache.wheels, "own", "1.0", {"own.py": "", f"own-1.0.data/{where}": text})
    assert "a package has changed" in cache.bad(cache.requirements("own\n", cache.file)).error


# What would have the launcher take the whole file system for the interpreter's: another program behind a link that bin/python leads to, and a
# line of pyvenv.cfg behind a NUL.
OPENINGS = {
    "link": """
v = pathlib.Path(sys.prefix); real = os.path.realpath(v / 'bin/python'); name = os.path.basename(real)
(v / 'evil/bin').mkdir(parents=True); shutil.copy(real, v / 'evil/bin' / name); os.symlink('/', v / 'evil/lib')
os.unlink(v / 'bin' / name); os.symlink('../evil/bin/' + name, v / 'bin' / name); did = True
""",
    "nul": """
v = pathlib.Path(sys.prefix); (v / 'evil').mkdir(); os.symlink('/', v / 'evil/lib')
open(v / 'pyvenv.cfg', 'a').write('\\0\\nhome = ' + str(v) + '/evil/bin\\n'); did = True
""",
}


@pytest.mark.parametrize("opening", OPENINGS)
def test_who_opens_the_sandbox_of_workers_is_refused(cache, opening):
    source_package(cache.wheels, BACKEND.format(know="{}", attacks=json.dumps({"open": OPENINGS[opening]})) + BUILDER)
    assert "a package has changed" in cache.bad(cache.requirements("evil\n", cache.file)).error


LEAVE = """
for _ in range({n}):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3): os.close(fd)
            os.execv('/bin/sh', ['sh', '-c', 'sleep 1000; : {marker}'])
        os._exit(0)
did = True
"""


@pytest.mark.parametrize(("n", "options"), [(300, ()), (1, ("--no-sandbox",))], ids=["boxed", "free"])
def test_no_process_is_left_behind(cache, n, options):
    marker = str(cache.folder / "marker")
    assert outcomes(cache, {"leave": LEAVE.format(n=n, marker=marker)}, *options)["leave"] is True
    assert not alive(marker)


def test_a_fork_bomb_ends_with_the_time(cache):
    """A small one, for the sake of the machine: it does not stop by itself, and each process begets another when one is gone."""
    bomb = "for _ in range(7): os.fork()\nwhile True:\n  try: os.wait()\n  except ChildProcessError: time.sleep(0.1); continue\n  os.fork()"
    source_package(cache.wheels, BACKEND.format(know="{}", attacks=json.dumps({"bomb": bomb})))
    error = cache.bad(cache.requirements("evil\n", cache.file), "--timeout", "4").error
    assert "it took longer than 4 s" in error
    eventually(lambda: not alive(str(cache.dir)))


@pytest.mark.parametrize("code", ["open(tmp + '/big', 'wb').write(bytes(200 << 20)); did = True",
                                  "[open(tmp + f'/{i}', 'wb').write(bytes(1 << 20)) for i in range(100)]; time.sleep(3); did = True"],
                         ids=["one-file", "many-files"])
def test_a_full_disk_is_the_packages_own(cache, code):
    source_package(cache.wheels, BACKEND.format(know="{}", attacks=json.dumps({"fill": code})))
    result = cache.build(cache.requirements("evil\n", cache.file), "--max-bytes", str(50 << 20))
    if result.status == 0:
        assert "File too large" in json.loads(result.run("-c", "import evil; print(evil.outcome)"))["fill"]
    else:
        assert "it takes more than 50 MiB of the disk (venv.max_bytes)" in result.error
        cache.check()


def test_the_error_says_that_it_may_be_the_box(cache):
    source_package(cache.wheels, textwrap.dedent(f"open({str(cache.folder)!r} + '/x', 'w')"))
    error = cache.bad(cache.requirements("evil\n", cache.file)).error
    assert "Permission denied" in error and "venv.read" in error and "venv.sandbox" in error


# ---- What was installed, and whether it is still that


def verify(cache, *options):
    done = subprocess.run([PROGRAM, "verify", "--cache", cache.dir, *options], capture_output=True, text=True, timeout=60)
    return done.returncode, [line.partition("=")[2] for line in done.stdout.splitlines() if line.startswith("difference=")]


def test_the_log_has_every_package_with_its_hash(cache):
    first, second = wheel(cache.wheels, "one_Two", "1.0", {"one.py": ""}), wheel(cache.wheels, "three", "2.0", {"three.py": ""})
    result = cache.good(cache.requirements("one.two\nthree\n", cache.file))
    for path, text in ((first, "installed one_Two 1.0"), (second, "installed three 2.0")):
        assert f"{text}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}\n" in result.log
    assert [(each["name"], each["version"], len(each["sha256"])) for each in cache.list()[0]["packages"]] == [("one_Two", "1.0", 64), ("three", "2.0", 64)]


def test_a_venv_that_was_changed_is_found_out_and_built_anew(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": "x = 1\n"})
    requirements = cache.requirements("one\n", cache.file)
    result = cache.good(requirements)
    [code] = pathlib.Path(result.python).parents[1].rglob("one.py")
    assert verify(cache) == (0, []) and not code.stat().st_mode & 0o222
    times = code.stat()
    code.chmod(0o644)
    code.write_text("x = 2\n")
    os.utime(code, ns=(times.st_atime_ns, times.st_mtime_ns))
    code.chmod(0o444)
    (code.parent / "evil.pth").write_text("import os")
    assert verify(cache, "--fingerprint", result.fingerprint) == (1, [f"{code.parent.relative_to(code.parents[3])}/evil.pth: was not there",
                                                                      f"{code.relative_to(code.parents[3])}: has another content"])
    again = cache.good(requirements)
    assert again.built and "one.py: has another content" in again.log and "is damaged; building it anew" in again.log
    assert again.run("-c", "import one; print(one.x)") == "1" and verify(cache) == (0, [])
    assert not cache.good(requirements).built


def test_settings_and_cpexctl(cpexd, tmp_path):
    wheel(tmp_path, "one", "1.0", {"one.py": "x = 1\n"})
    (tmp_path / "cache").mkdir()
    daemon = cpexd([plugin("p", "async def tool_pre_invoke(self, payload, context): import one; return Result(metadata={'x': one.x})",
                           requirements="one==1.0\n")],
                   cache=tmp_path / "cache", settings={"venv": {"wheelhouse": str(tmp_path), "only_binary": True, "max_bytes": "64M", "timeout": "50s"}})
    assert daemon.invoke("tool_pre_invoke", {"name": "t", "args": {}})["metadata"] == {"x": 1}
    daemon.wait_log('plugin "p": venv: installed one 1.0, sha256 [0-9a-f]{64}')
    done = daemon.ctl("venv", "verify")
    assert done.returncode == 0 and done.stdout.endswith("as it was built\n"), done
    [code] = (tmp_path / "cache/venvs").rglob("one.py")
    code.chmod(0o644)
    done = daemon.ctl("venv", "verify", "--plugin", "p")
    assert done.returncode == 1 and "one.py: has another mode" in done.stdout, done


def test_that_there_is_no_sandbox_is_shown(cpexd, tmp_path):
    body = "async def tool_pre_invoke(self, payload, context): return Result()"
    assert "installed without" not in cpexd([plugin("p", body)]).ctl("status").stdout
    wheel(tmp_path, "one", "1.0", {"one.py": ""})
    daemon = cpexd([plugin("p", body, requirements=f"--no-index\n--find-links {tmp_path}\none\n")], cache=tmp_path / "cache", settings={"venv": {"sandbox": False}})
    assert daemon.ctl("status").stdout.endswith("packages are installed without a sandbox (venv.sandbox)\n")
    daemon.wait_log("packages may do all that this user may")
