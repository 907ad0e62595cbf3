# SPDX-License-Identifier: Apache-2.0
"""Runs inside the box, as root: tests/systemd/run starts it there. `service` and `instance` are cpexd under systemd."""

import grp
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

from daemon import eventually, write_plugins  # noqa: E402
from rpc import Host  # noqa: E402

INSTALLED = pathlib.Path(os.environ.get("CPEXD_INSTALLED", "/nonexistent"))
FOLDERS = ("/etc/cpexd", "/run/cpexd", "/var/lib/cpexd", "/var/cache/cpexd", "/var/log/cpexd")


def run(*command, check=True, **options):
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=50, **options)
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def pytest_sessionstart(session):
    if os.environ.get("container") != "systemd-box" and run("systemd-detect-virt", "--container", check=False).returncode:
        raise pytest.UsageError("these tests change the system that they run in; start them with tests/systemd/run")


@pytest.fixture(scope="session")
def installed():
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    run("cp", "-a", f"{INSTALLED}/.", "/")
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", "cpexd.conf")
    run("systemctl", "daemon-reload")


class Service:
    def __init__(self, instance=None):
        at, slash = (f"@{instance}", f"/{instance}") if instance else ("", "")
        self.unit = f"cpexd{at}.service"
        self.sockets = [f"cpexd{at}.socket", f"cpexd-control{at}.socket"]
        self.config, self.runtime = pathlib.Path(f"/etc/cpexd{slash}"), pathlib.Path(f"/run/cpexd{slash}")
        self.socket, self.control = self.runtime / "cpexd.sock", self.runtime / "control.sock"
        self.drop_in = pathlib.Path(f"/etc/systemd/system/{self.unit}.d")

    def write(self, plugins, settings=None, **top):
        self.config.mkdir(parents=True, exist_ok=True)
        write_plugins(self.config, plugins, **top)
        (self.config / "cpexd.yaml").write_text(json.dumps({"log": {"level": "debug"}} | (settings or {})))

    def set(self, **properties):
        """[Service] settings over those of the unit."""
        self.drop_in.mkdir(exist_ok=True)
        (self.drop_in / "test.conf").write_text("[Service]\n" + "".join(f"{key}={value}\n" for key, value in properties.items()))
        run("systemctl", "daemon-reload")

    def systemctl(self, verb, *arguments, check=True):
        return run("systemctl", verb, self.unit, *arguments, check=check)

    def start(self, plugins=None, settings=None, **top):
        if plugins is not None:
            self.write(plugins, settings, **top)
        self.systemctl("start")
        return self

    def stop(self):
        self.systemctl("stop")
        run("systemctl", "stop", *self.sockets)

    def show(self, name):
        return self.systemctl("show", "--value", "-p", name).stdout.strip()

    @property
    def pid(self):
        return int(self.show("MainPID"))

    @property
    def cgroup(self):
        return pathlib.Path(f"/sys/fs/cgroup{self.show('ControlGroup')}")

    def pids(self):
        """All processes of the unit."""
        return sorted(int(pid) for path in self.cgroup.rglob("cgroup.procs") for pid in path.read_text().split())

    def host(self):
        return Host(self.socket)

    def invoke(self, hook, payload, context=None):
        with self.host() as host:
            return host.invoke(hook, payload, context)

    def admin(self, method, **params):
        with Host(self.control) as host:
            return host.call(method, **params)

    def ctl(self, *arguments, user=None, groups=()):
        """cpexctl, as root or as somebody else."""
        who = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [grp.getgrnam(name).gr_gid for name in groups]}
        return run("cpexctl", "--socket", self.socket, "--control", self.control, *arguments, check=False, **who)

    def journal(self, *match):
        """What the unit's journal has since the test began, as a list of fields."""
        run("journalctl", "--sync")
        done = run("journalctl", "-o", "json", "--no-pager", f"--since=@{self.since:.6f}", f"_SYSTEMD_UNIT={self.unit}", *match)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def messages(self):
        return [entry["MESSAGE"] for entry in self.journal()]

    def wait_message(self, part):
        return eventually(lambda: next((each for each in self.journal() if part in each["MESSAGE"]), None), what=f"no message {part!r}")

    def set_up(self):
        self.since = time.time()
        return self

    def tear_down(self):
        self.stop()
        shutil.rmtree(self.drop_in, ignore_errors=True)
        run("systemctl", "daemon-reload")
        run("systemctl", "reset-failed", self.unit, check=False)
        left = self.pids() if self.show("ControlGroup") else []
        assert not left, f"processes are left: {left}"
        found = [path.name for path in self.runtime.iterdir() if not path.is_dir()] if self.runtime.exists() else []
        assert not found, f"left in {self.runtime}: {found}"
        shutil.rmtree(self.config, ignore_errors=True)


@pytest.fixture
def instance(installed):
    """instance(NAME) is an instance of the template."""
    made = []

    def make(name):
        made.append(Service(name).set_up())
        return made[-1]

    yield make
    for each in reversed(made):
        each.tear_down()


@pytest.fixture
def service(installed, request):
    service = Service().set_up()
    yield service
    if request.node.report_call.failed:
        print("\n".join(service.messages()[-40:]))
        print(service.systemctl("status", "--no-pager", check=False).stdout)
    service.tear_down()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())
