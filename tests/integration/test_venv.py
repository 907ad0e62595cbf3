# SPDX-License-Identifier: Apache-2.0
"""cpexd-venv by itself: what it builds, what it finds again, and what is left when anything dies or fails on the way."""

import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from daemon import BUILD, eventually
from wheels import wheel

PROGRAM = BUILD / "cpexd-venv"
BASE = os.path.realpath(sys._base_executable)
HEX = re.compile("[0-9a-f]{64}")


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip())
    path.chmod(0o755)
    return path


class Result:
    def __init__(self, done):
        self.status, self.log = done.returncode, done.stderr
        lines = done.stdout.splitlines()
        self.values = dict(line.split("=", 1) for line in lines)
        assert len(self.values) == len(lines), done.stdout
        self.python, self.fingerprint, self.error = (self.values.get(key) for key in ("python", "fingerprint", "error"))
        self.built = self.values.get("built") == "1"
        if self.status == 0:
            assert set(self.values) == {"python", "fingerprint", "built"}, self.values
        elif self.status == 1:
            assert set(self.values) == {"error"}, (self.values, self.log)
        assert "Sanitizer" not in self.log and "runtime error" not in self.log, self.log

    def run(self, *arguments):
        done = subprocess.run([self.python, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Cache:
    """A cache and a folder of requirements, with an environment in which neither PyPI nor the user's pip.conf is met."""

    def __init__(self, folder):
        self.folder, self.dir, self.wheels = folder, folder / "cache", folder / "wheels"
        self.wheels.mkdir()
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))} | {
            "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels)}
        self.installer = "pip"
        self.options = []

    def requirements(self, text, name="requirements.txt"):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def command(self, requirements=None, *options, python=BASE):
        return [str(PROGRAM), "build", "--cache", str(self.dir), "--python", str(python), "--installer", self.installer,
                *(["--requirements", str(requirements)] if requirements else []), *self.options, *options]

    def build(self, requirements=None, *options, wrapper=(), **keywords):
        return Result(subprocess.run([*wrapper, *self.command(requirements, *options, **keywords)], capture_output=True, text=True,
                                     stdin=subprocess.DEVNULL, env=self.environment, timeout=100))

    def start(self, *arguments, **keywords):
        return subprocess.Popen(self.command(*arguments, **keywords), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment)

    def good(self, *arguments, **keywords):
        result = self.build(*arguments, **keywords)
        assert result.status == 0, result.error
        assert HEX.fullmatch(result.fingerprint)
        assert result.python == f"{os.path.realpath(self.dir)}/venvs/{result.fingerprint}/bin/python"
        return result

    def bad(self, *arguments, **keywords):
        result = self.build(*arguments, **keywords)
        assert result.status == 1, result.values
        self.check()
        return result

    def list(self):
        done = subprocess.run([PROGRAM, "list", "--cache", self.dir, "--json"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def building(self):
        return [path.name for path in self.dir.glob("venvs/.building-*")]

    def check(self, leftovers=False):
        """Every folder that has a fingerprint's name is a whole venv; nothing else lies about."""
        listed = {entry["fingerprint"] for entry in self.list()} if self.dir.exists() else set()
        for path in self.dir.glob("venvs/*"):
            if HEX.fullmatch(path.name):
                assert path.name in listed
                assert subprocess.run([path / "bin/python", "-c", "import encodings"], timeout=60).returncode == 0
            elif not path.name.startswith(".building-"):
                assert HEX.fullmatch(path.name.removesuffix(".lock")) and path.suffix == ".lock"
        if not leftovers:
            assert not self.building()

    def use_uv(self, text):
        """Lets a script be uv. $site is where a package goes; `$*` are the arguments. It tells the test by files what it sees, and so is in no box."""
        self.options = ["--no-sandbox"]
        path = script(self.folder / "bin/uv", f"""
            #!/bin/sh
            site=$(echo {self.dir}/venvs/.building-*/lib/python3*/site-packages)
            {text}
            """)
        self.installer = "uv"
        self.environment["PATH"] = f"{path.parent}:{os.environ['PATH']}"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def pythons():
    """Every interpreter of 3.11 or newer that this machine shows."""
    found = {}
    folders = ["/usr/bin", "/usr/local/bin", *map(str, pathlib.Path("~/.pyenv/versions").expanduser().glob("*/bin"))]
    for path in sorted(path for folder in folders for path in pathlib.Path(folder).glob("python3.[0-9]*")):
        if re.fullmatch(r"python3\.(1[1-9]|[2-9]\d)", path.name):
            found.setdefault(os.path.realpath(path), str(path))
    return list(found.values()) or [BASE]


# ---- What is built ----


def test_without_requirements_there_is_no_installer(cache):
    start = time.monotonic()
    first = cache.good()
    assert first.built and time.monotonic() - start < 5
    assert "pip" not in first.log.replace(str(cache.folder), "")
    again = cache.good()
    assert not again.built and again.values | {"built": "1"} == first.values
    assert not cache.good(cache.requirements("# nothing\n\n")).built
    assert not cache.good(cache.folder / "absent.txt").built
    assert first.run("-c", "import sys; print(sys.prefix != sys.base_prefix)") == "True"
    assert first.run("-c", "import importlib.util as u; print(u.find_spec('pip'))") == "None"
    cache.check()


@pytest.mark.parametrize("python", pythons())
def test_scripts_and_modules_work_from_the_final_place(cache, python):
    code = "def main():\n    import sys\n    print('hello from', __file__, sys.prefix)\n"
    wheel(cache.wheels, "greet", "1.0", {"greet/__init__.py": code, "greet/__main__.py": "import greet; greet.main()\n"}, ["hi=greet:main"])
    result = cache.good(cache.requirements("greet==1.0\n"), python=python)
    venv = pathlib.Path(result.python).parents[1]
    expected = f"hello from {venv}/lib/python{'.'.join(result.run('-V').split()[1].split('.')[:2])}/site-packages/greet/__init__.py {venv}"
    assert result.run("-m", "greet") == expected
    assert result.run("-c", "import subprocess, sys; subprocess.run([sys.executable, '-m', 'greet'])") == expected
    assert subprocess.run([venv / "bin/hi"], capture_output=True, text=True).stdout.strip() == expected
    told = subprocess.run(["sh", "-c", f". {venv}/bin/activate && command -v hi && echo $VIRTUAL_ENV"], capture_output=True, text=True)
    assert told.stdout.split() == [f"{venv}/bin/hi", str(venv)]
    for path in venv.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":  # byte code is corrected when it is loaded
            assert b".building-" not in path.read_bytes(), path


def test_a_long_path_of_the_cache(cache):
    wheel(cache.wheels, "greet", "1.0", {"greet.py": "def main(): print('hello')\n"}, ["hi=greet:main"])
    cache.dir = cache.folder / ("a folder with spaces " + "x" * 100) / ("y" * 100)
    result = cache.good(cache.requirements("greet\n"))
    assert subprocess.run([pathlib.Path(result.python).parent / "hi"], capture_output=True, text=True).stdout == "hello\n"


def test_equal_requirements_share_a_venv(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    first = cache.good(cache.requirements("one==1.0\n"))
    assert first.built
    second = cache.good(cache.requirements("# the same\n-r sub/base.txt\n") if cache.requirements("one==1.0 # !\n", "sub/base.txt") else None)
    assert not second.built and second.python == first.python
    wheel(cache.wheels, "one", "2.0", {"one.py": ""})
    assert cache.good(cache.requirements("one==2.0\n")).fingerprint != first.fingerprint
    assert len(cache.list()) == 2


def test_a_changed_local_wheel_is_built_anew(cache):
    text = "./wheels/one-1.0-py3-none-any.whl\n"
    wheel(cache.wheels, "one", "1.0", {"one.py": "x = 1\n"})
    first = cache.good(cache.requirements(text))
    assert first.run("-c", "import one; print(one.x)") == "1"
    wheel(cache.wheels, "one", "1.0", {"one.py": "x = 2\n"})
    second = cache.good(cache.requirements(text))
    assert second.built and second.run("-c", "import one; print(one.x)") == "2"
    assert first.run("-c", "import one; print(one.x)") == "1"


def test_an_index_of_wheels_in_the_requirements(cache):
    """--find-links relative to the file, from whatever folder one calls."""
    (cache.folder / "plugin/wheels").mkdir(parents=True)
    wheel(cache.folder / "plugin/wheels", "one", "1.0", {"one.py": "x = 1\n"})
    del cache.environment["PIP_FIND_LINKS"]
    result = cache.good(cache.requirements("--no-index\n--find-links wheels\none\n", "plugin/requirements.txt"))
    assert result.run("-c", "import one; print(one.x)") == "1"


def test_a_symbolic_link_to_the_requirements(cache):
    """What they name relative is relative to the link, as for pip."""
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    (cache.folder / "link.txt").symlink_to(cache.requirements("./wheels/one-1.0-py3-none-any.whl\n", "elsewhere/r.txt"))
    assert cache.good(cache.folder / "link.txt").run("-c", "import one") == ""


def test_pip_conf_is_honoured(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    conf = cache.folder / "pip.conf"
    conf.write_text(f"[global]\nno-index = true\nfind-links = {cache.wheels}\nuser = true\n")
    for key in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        del cache.environment[key]
    cache.environment["PIP_CONFIG_FILE"] = str(conf)
    cache.use_uv("echo 'this must not be called'; exit 1")
    cache.installer = "auto"
    cache.options = ["--read", str(cache.wheels)]
    result = cache.good(cache.requirements("one\n"))
    assert result.built and "which would not follow pip.conf" in result.log


def test_what_would_install_elsewhere_is_ignored(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    cache.environment |= {"PIP_TARGET": str(cache.folder / "t"), "PIP_USER": "1", "PYTHONPATH": str(cache.wheels), "VIRTUAL_ENV": "/x"}
    assert "site-packages" in cache.good(cache.requirements("one\n")).run("-c", "import one; print(one.__file__)")
    assert not (cache.folder / "t").exists()


def test_what_is_for_the_daemon_alone_is_kept_from_packages(cache):
    names = ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID", "WATCHDOG_USEC")
    cache.use_uv(f'env > {cache.folder}/told; touch "$site/one.py"')
    cache.environment |= {name: "1" for name in (*names, "KEPT")}
    cache.good(cache.requirements("one\n"))
    told = {line.partition("=")[0] for line in (cache.folder / "told").read_text().splitlines()}
    assert "KEPT" in told and not told.intersection(names)


# ---- Whose the cache is, and what it is made from ----


def test_a_cache_that_others_can_write_to(cache):
    cache.dir.mkdir()
    cache.dir.chmod(0o1777)
    error = cache.build().error
    assert f"the cache {cache.dir} of user {os.geteuid()} can be written to by other users" in error and "cache_dir" in error
    assert cache.dir.exists()
    cache.dir.chmod(0o755)
    shutil.rmtree(cache.dir / "venvs")
    venv = pathlib.Path(cache.good(wrapper=["sh", "-c", 'umask 0; exec "$@"', "sh"]).python).parents[1]
    for path in (cache.dir / "venvs", venv, venv / "bin", venv / "cpexd-venv.json"):
        assert not path.stat().st_mode & 0o022
    assert not cache.good().built


def test_requirements_that_change_during_the_build(cache):
    requirements = cache.requirements("one\n")
    cache.use_uv(f'echo x >> {cache.folder}/calls; echo two > {requirements}; touch "$site/one.py"')
    result = cache.good(requirements)
    assert "was changed while the venv was built" in result.log and "building once more" in result.log
    assert (cache.folder / "calls").read_text() == "x\nx\n"
    assert [entry["requirements"] for entry in cache.list()] == ["two"]
    cache.check()
    assert not cache.good(requirements).built
    cache.use_uv(f'echo x >> {requirements}; touch "$site/one.py"')
    assert "try again when nothing changes" in cache.bad(cache.requirements("three\n")).error


# ---- uv ----


def test_uv_is_told_what_pip_was(cache):
    told = cache.folder / "told"
    cache.use_uv(f'for word; do echo "$word"; done > {told}; env >> {told}; pwd >> {told}; touch "$site/one.py"')
    cache.installer = "auto"
    cache.environment |= {"PIP_FIND_LINKS": f"/a\n {cache.wheels}", "PIP_INDEX_URL": "https://u:secret@index.example", "PIP_CONSTRAINT": "/c.txt",
                          "PIP_EXTRA_INDEX_URL": "https://b.example https://c.example", "PIP_CERT": "/cert.pem", "PIP_PROXY": "http://proxy.example:1",
                          "PIP_TRUSTED_HOST": "d.example", "PIP_TIMEOUT": "", "PIP_DEFAULT_TIMEOUT": "7", "UV_HTTP_TIMEOUT": "8"}
    requirements = cache.requirements("one\n")
    result = cache.good(requirements)
    text = told.read_text()
    lines = text.splitlines()
    for option, value in (("-r", str(requirements)), ("--link-mode", "copy")):
        assert f"{option}\n{value}\n" in text
    for line in ("UV_INDEX_URL=https://u:secret@index.example", "UV_EXTRA_INDEX_URL=https://b.example https://c.example",
                 f"UV_FIND_LINKS=/a,{cache.wheels}", "UV_INSECURE_HOST=d.example", "UV_CONSTRAINT=/c.txt"):
        assert line in lines
    assert not any("u:secret" in line for line in lines if "INDEX_URL=" not in line)  # not among the arguments
    assert "--no-index" in lines and "SSL_CERT_FILE=/cert.pem" in lines and "ALL_PROXY=http://proxy.example:1" in lines
    assert "UV_HTTP_TIMEOUT=8" in lines  # who speaks to uv itself is heard
    assert lines[-1] == str(cache.folder)
    assert [entry["installer"] for entry in cache.list()] == ["uv"]
    assert result.run("-c", "import one") == ""


def test_pip_where_uv_cannot_follow(cache):
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    cache.use_uv("exit 1")
    cache.installer = "auto"
    cache.environment["PIP_ONLY_BINARY"] = ":all:"
    assert "which would not follow PIP_ONLY_BINARY" in cache.good(cache.requirements("one\n")).log


def test_uv_that_is_not_there(cache):
    cache.installer, cache.environment["PATH"] = "uv", "/nowhere"
    assert "no uv in PATH" in cache.bad(cache.requirements("one\n")).error


@pytest.mark.skipif(not shutil.which("uv"), reason="uv is not installed")
def test_the_real_uv(cache):
    wheel(cache.wheels, "greet", "1.0", {"greet.py": "def main(): print('hello')\n"}, ["hi=greet:main"])
    cache.installer = "auto"
    result = cache.good(cache.requirements("greet\n"))
    assert "uv: " in result.log
    venv = pathlib.Path(result.python).parents[1]
    assert subprocess.run([venv / "bin/hi"], capture_output=True, text=True).stdout == "hello\n"
    assert all(path.stat().st_nlink == 1 for path in venv.rglob("*") if path.is_file())  # shares no file with uv's own cache
    assert "nope" in cache.bad(cache.requirements("nope\n")).error


# ---- Refusals ----


def test_interpreters_that_will_not_do(cache):
    old = script(cache.folder / "old", """
        #!/bin/sh
        echo version=3.10.13; echo path=/old/python; echo build=x
        """)
    mute, broken = script(cache.folder / "mute", "#!/bin/sh\n"), script(cache.folder / "broken", "#!/bin/sh\necho no such luck >&2; exit 1\n")
    for python, words in (("no-such-python", 'there is no "no-such-python" in PATH'), ("/no/python", "/no/python is not there"),
                          (old, "is Python 3.10.13; plugins need 3.11 or newer"), (mute, "does not answer as a Python interpreter would"),
                          (broken, "no such luck")):
        error = cache.bad(python=python).error
        assert error.startswith("isolation.python: ") and words in error
    assert not cache.dir.exists()


def fake_python(cache, answer):
    """The real interpreter, but for what it says about pip."""
    return script(cache.folder / "fake/python3", f"""
        #!/bin/sh
        case "$*" in
        *_base_executable*) echo version=3.12.0; echo "path=$(realpath "$0")"; echo build=fake ;;
        *find_spec*) {answer} ;;
        *) exec {BASE} "$@" ;;
        esac
        """)


def test_without_pip_there_is_advice(cache):
    error = cache.bad(cache.requirements("one\n"), python=fake_python(cache, "echo ensurepip=0")).error
    assert "install uv" in error and "apt-get install python3-venv" in error


def test_an_old_pip_is_replaced_in_the_venv(cache):
    if subprocess.run([BASE, "-c", "import ensurepip"], capture_output=True).returncode:
        pytest.skip("this Python has no ensurepip")
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    cache.options = ["--read", str(pathlib.Path(BASE).parents[1]), "--read", str(cache.folder / "fake")]
    result = cache.good(cache.requirements("one\n"), python=fake_python(cache, "echo pip=22.2.2; echo ensurepip=1"))
    assert result.run("-c", "import one, pip") == ""


def test_the_error_has_the_telling_lines(cache):
    error = cache.bad(cache.requirements("nope==1.0\n")).error
    assert error.startswith(f"pip cannot install {cache.folder}/requirements.txt: ERROR: ")
    assert "No matching distribution found for nope==1.0" in error
    cache.use_uv("echo working; printf '  × No solution\\n  ╰─▶ Because you want it\\n'; exit 1")
    assert cache.bad(cache.requirements("nope\n")).error.endswith(": × No solution; ╰─▶ Because you want it")
    cache.use_uv("echo working; kill -9 $$")
    assert cache.bad(cache.requirements("nope\n")).error.endswith(": working; it was killed by signal 9 (Killed)")
    cache.use_uv("echo first; echo last; exit 1")
    assert cache.bad(cache.requirements("nope\n")).error.endswith(": first; last")


SECRET = "hunter2"


def test_passwords_in_urls_are_not_told(cache):
    def untold(text):
        result = cache.bad(cache.requirements(text))
        assert SECRET not in result.log + result.error, result.log + result.error
        return result

    url = f"http://ann:{SECRET}@127.0.0.1:9/simple"
    cache.environment |= {"PIP_RETRIES": "0", "INDEX": url}
    cache.environment.pop("PIP_NO_INDEX")
    for text in ("--index-url ${INDEX}\nnope\n", f"nope @ {url}/nope.whl\n", f"--bad {url}\n"):
        untold(text)
    for url in (url, f"http://{SECRET}@127.0.0.1:9/simple", f"http://ann:x%2F{SECRET}%40@127.0.0.1:9/simple", f"http://ann:a/{SECRET}@127.0.0.1:9/simple"):
        cache.use_uv(f"echo 'trying {url}?x={url}'; printf '%2040s %s\\n' x {url}; echo 'error: no {url}'; exit 1")
        result = untold("nope\n")
        assert "****@127.0.0.1:9/simple" in result.log and "****@" in result.error


def test_the_list_tells_no_password(cache):
    cache.use_uv("exit 0")
    cache.good(cache.requirements(f"--index-url https://ann:{SECRET}@index.example\none\n"))
    assert cache.list()[0]["requirements"] == "--index-url https://****@index.example, one"


def test_requirements_that_cannot_be_read(cache):
    assert "includes itself" in cache.bad(cache.requirements("-r requirements.txt\n")).error
    assert "gone.txt cannot be read" in cache.bad(cache.requirements("-c gone.txt\n")).error
    cache.requirements("").write_bytes("one\n".encode("utf-16"))
    assert "save it as UTF-8" in cache.bad(cache.folder / "requirements.txt").error


def test_too_slow(cache):
    cache.use_uv("echo last words; sleep 60 & sleep 60")
    start = time.monotonic()
    error = cache.bad(cache.requirements("one\n"), "--timeout", "1").error
    assert "it took longer than 1 s" in error
    assert "last words" in error and time.monotonic() - start < 10


def test_usage():
    for arguments in ([], ["build"], ["list"], ["build", "--cache"], ["sing", "--cache", "x"], ["build", "--cache", "x", "--timeout", "0"],
                      ["build", "--cache", "x", "--installer", "poetry"], ["build", "--cache", "x", "more"]):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr
    assert subprocess.run([PROGRAM, "--help"], capture_output=True, text=True).stdout.startswith("Usage: cpexd-venv build")


# ---- Many at once ----


def test_the_second_waits_and_finds_it_done(cache):
    cache.use_uv(f'echo x >> {cache.folder}/calls; sleep 1; touch "$site/one.py"')
    requirements = cache.requirements("one\n")
    running = [cache.start(requirements) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in running]
    assert sorted(output.splitlines()[2] for output, _ in outputs) == ["built=0"] * 3 + ["built=1"]
    assert (cache.folder / "calls").read_text() == "x\n"
    assert sorted(log.count("waiting for it") for _, log in outputs) == [0, 1, 1, 1]
    cache.check()


def test_the_second_takes_over_when_the_first_fails(cache):
    cache.use_uv(f'if mkdir {cache.folder}/first; then sleep 1; exit 1; fi; touch "$site/one.py"')
    requirements = cache.requirements("one\n")
    running = [cache.start(requirements) for _ in range(2)]
    assert sorted(process.wait(timeout=60) for process in running) == [0, 1]
    cache.check()


# ---- Death at any moment ----


def alive(marker):
    """Processes of a test, known by what is in their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_text():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


def start_slow(cache, *options):
    """A builder whose installer will not end, with a process of its own in the background."""
    cache.use_uv(f"trap '' TERM HUP; sh -c 'sleep 61; : {cache.folder}' & touch {cache.folder}/begun; sh -c 'sleep 62; : {cache.folder}'")
    process = cache.start(cache.requirements("one\n"), *options)
    eventually((cache.folder / "begun").exists)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop(cache, number):
    process = start_slow(cache)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1 and output.startswith("error=uv cannot install") and "told to stop" in output
    eventually(lambda: not alive(str(cache.folder)))
    cache.check()


def test_killed(cache):
    process = start_slow(cache)
    process.kill()
    process.communicate(timeout=20)
    eventually(lambda: not alive(str(cache.folder)))
    assert cache.building()
    cache.check(leftovers=True)
    assert "which a builder left that died" in cache.good().log  # any build tidies up
    cache.check()


def test_the_parent_dies(cache):
    """As the daemon would: the builder stops, with all that it started, and cleans up."""
    cache.use_uv(f"touch {cache.folder}/begun; sh -c 'sleep 61; : {cache.folder}'")
    command = cache.command(cache.requirements("one\n"))
    parent = subprocess.Popen([sys.executable, "-c", "import os, subprocess, sys; subprocess.run([*sys.argv[1:], '--parent', str(os.getpid())])",
                               *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=cache.environment)
    eventually((cache.folder / "begun").exists)
    parent.kill()
    parent.wait()
    eventually(lambda: not alive(str(cache.folder)))
    cache.check()
    assert "not the parent" in cache.bad(None, "--parent", "1").error


def test_killed_at_any_time(cache):
    """From the first moment to well after the end, by the clock."""
    cache.use_uv('for i in 1 2 3 4; do echo "x = $i" > "$site/m$i.py"; sleep 0.02; done')
    requirements = cache.requirements("m\n")
    start = time.monotonic()
    cache.good(requirements)
    whole = time.monotonic() - start
    for turn in range(20):
        shutil.rmtree(cache.dir)
        process = cache.start(requirements)
        time.sleep(whole * turn / 16)
        process.kill()
        process.communicate(timeout=20)
        cache.check(leftovers=True)
        assert cache.good(requirements).run("-c", "import m1, m2, m3, m4") == ""
        cache.check()


# ---- Failures of the system, made with strace ----

KILLS = [(call, when) for call, last in (("mkdir", 1), ("openat", 10), ("write", 5), ("fsync", 2), ("syncfs", 1), ("renameat2", 1),
                                         ("rename", 2), ("flock", 1)) for when in sorted({1, last // 2 or 1, last})]
FAILURES = ["mkdir", "fsync", "syncfs", "renameat2", "flock"]


def strace(cache, what):
    """A command that runs the builder alone (not what it starts) with `what` injected; leak checks do not work under strace."""
    if not shutil.which("strace") or subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed or not permitted")
    cache.environment["ASAN_OPTIONS"] = "detect_leaks=0"
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={what.split(':')[0]}", "-e", f"inject={what}"]


@pytest.mark.parametrize("call, when", KILLS)
def test_killed_at_a_system_call(cache, call, when):
    result = cache.build(wrapper=strace(cache, f"{call}:signal=KILL:when={when}"))
    assert result.status in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
    if cache.dir.exists():
        (cache.dir / "venvs").mkdir(exist_ok=True)
        cache.check(leftovers=True)
    cache.good()
    cache.check()


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", FAILURES)
def test_a_system_call_fails(cache, call, error):
    result = cache.build(wrapper=strace(cache, f"{call}:error={error}"))
    assert result.status == 1, result.log
    assert os.strerror(getattr(errno, error)) in result.error
    if cache.dir.exists():
        cache.check()
    assert cache.good().built
    cache.check()


def test_a_file_system_without_noreplace(cache):
    assert cache.good(wrapper=strace(cache, "renameat2:error=EINVAL")).built
    cache.check()


# ---- A full disk ----


@pytest.mark.parametrize("pages", [2, 10, 16, 20, 24, 28, 32, 36, 40, 44, 50, 80])
def test_a_full_disk(cache, pages):
    """From a disk on which nothing has room to one on which all has."""
    for i in range(10):
        (cache.folder / f"m{i}.py").write_text(f"x = '{'x' * 4000}'\n")
    cache.use_uv(f'cp {cache.folder}/m*.py "$site"')
    requirements = cache.requirements("m\n")
    cache.dir.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * 4}k,mode=755", "tmpfs", cache.dir], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted")
    try:
        result = cache.build(requirements)
        (cache.dir / "venvs").mkdir(exist_ok=True)
        cache.check()
        if result.status:
            assert "No space left on device" in result.error
            subprocess.run(["mount", "-o", "remount,size=10m", cache.dir], check=True)
            result = cache.good(requirements)
        assert result.run("-c", "import m0, m9") == ""
    finally:
        subprocess.run(["umount", cache.dir], check=True)


# ---- The list ----


def test_list(cache):
    done = subprocess.run([PROGRAM, "list", "--cache", cache.dir], capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be opened" in done.stderr
    wheel(cache.wheels, "one", "1.0", {"one.py": ""})
    empty, one = cache.good(), cache.good(cache.requirements("one==1.0 ; python_version > '3'\n"))
    os.utime(cache.dir / "venvs" / empty.fingerprint / "cpexd-venv.json", (1000, 1000))
    entries = cache.list()
    assert [entry["fingerprint"] for entry in entries] == [one.fingerprint, empty.fingerprint]
    assert entries[0]["requirements"] == "one==1.0 ; python_version > '3'" and entries[1]["requirements"] == ""
    assert entries[0]["installer"].startswith("pip") and entries[1]["installer"] == "none"
    assert entries[0]["python"] == one.run("-c", "import platform; print(platform.python_version())")
    assert entries[0]["interpreter"] == BASE and entries[1]["used"] == 1000
    assert entries[0]["path"] == str(pathlib.Path(one.python).parents[1])
    assert 10000 < entries[1]["size"] < entries[0]["size"] and abs(entries[0]["created"] - time.time()) < 60
    lines = subprocess.run([PROGRAM, "list", "--cache", cache.dir], capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == 3 and lines[0].startswith("FINGERPRINT") and lines[1].startswith(one.fingerprint[:12])
    cache.good()
    assert cache.list()[0]["used"] > 1000
