# SPDX-License-Identifier: Apache-2.0
"""Plugins whose dependencies exclude each other run side by side, each in its own venv."""

import base64
import hashlib
import json
import zipfile

import pytest
from daemon import plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {"n": "7"}}


def build_wheel(folder, name, version, code):
    """A wheel by hand: a module, the metadata, and the list of both."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: cpexd-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text.encode())}\n"
        for path, text in files.items())
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            wheel.writestr(path, text)


def uses(name, requirements, **entry):
    return plugin(name, f"""
        async def tool_pre_invoke(self, payload, context):
            import colours
            return Result(metadata={{"{name}": [colours.VERSION, colours.of(payload.args["n"])]}})
    """, requirements=requirements, **entry)


def venvs(cache):
    """The complete ones; another attempt may be under way in a folder with a dot."""
    return [entry.name for entry in (cache / "venvs").iterdir() if entry.is_dir() and not entry.name.startswith(".")]


@pytest.fixture
def wheels(tmp_path):
    build_wheel(tmp_path / "wheels", "colours", "1.0", "VERSION = 1\ndef of(n):\n    return 'red ' + n\n")
    build_wheel(tmp_path / "wheels", "colours", "2.0", "VERSION = 2\ndef of(n):\n    return {'blue': int(n)}\n")
    return tmp_path / "wheels"


WANT = {"one": [1, "red 7"], "two": [2, {"blue": 7}]}


def test_two_versions_of_one_package(cpexd, wheels, tmp_path):
    options = f"--no-index\n--find-links {wheels}\n"
    daemon = cpexd([uses("one", options + "colours==1.0\n"), uses("two", options + "colours>=2\n")], cache=tmp_path / "cache")
    assert daemon.invoke(HOOK, CALL)["metadata"] == WANT


def test_the_configuration_of_pip_is_honoured(cpexd, wheels, tmp_path):
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    daemon = cpexd([uses("one", "colours==1.0\n"), uses("two", "colours==2.0\n")], cache=tmp_path / "cache", env=env)
    assert daemon.invoke(HOOK, CALL)["metadata"] == WANT


def test_a_venv_is_built_once_and_shared(cpexd, wheels, tmp_path):
    requirements = f"--no-index\n--find-links {wheels}\ncolours==1.0\n"
    cache = tmp_path / "cache"
    first = cpexd([uses("one", requirements), uses("again", requirements)], cache=cache)
    assert first.status("one")["fingerprint"] == first.status("again")["fingerprint"]
    assert first.status("one")["python"] == first.status("again")["python"]
    assert len(venvs(cache)) == 1
    before = {path: path.stat().st_mtime_ns for path in (cache / "venvs").rglob("colours.py")}
    assert first.stop() == 0
    second = cpexd([uses("one", requirements)], cache=cache)
    assert second.invoke(HOOK, CALL)["metadata"] == {"one": WANT["one"]}
    assert {path: path.stat().st_mtime_ns for path in (cache / "venvs").rglob("colours.py")} == before


def test_requirements_that_cannot_be_met(cpexd, wheels, tmp_path):
    options = f"--no-index\n--find-links {wheels}\n"
    cache = tmp_path / "cache"
    daemon = cpexd([uses("one", options + "colours==1.0\n"), uses("three", options + "colours==3.0\n", on_error="ignore")], cache=cache)
    daemon.expect('plugin "three"|colours==3.0')
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"one": WANT["one"]}
    with daemon.host() as host:
        assert {each["name"]: each["status"] for each in host.call("plugins")["plugins"]} == {"one": "ready", "three": "failed"}
    assert "colours==3.0" in daemon.status("three")["error"]
    assert len(venvs(cache)) == 1, "what failed must not be taken for a venv"


def test_changed_requirements_come_with_a_reload(cpexd, wheels, tmp_path):
    options = f"--no-index\n--find-links {wheels}\n"
    daemon = cpexd([uses("one", options + "colours==1.0\n")], cache=tmp_path / "cache")
    assert daemon.invoke(HOOK, CALL)["metadata"]["one"][0] == 1
    daemon.write([uses("one", options + "colours==2.0\n")])
    done = daemon.ctl("reload")
    assert done.returncode == 0, done.stderr
    assert daemon.invoke(HOOK, CALL)["metadata"]["one"][0] == 2


def other_pythons():
    """Interpreters beside the one that runs the tests."""
    import glob
    import os
    import subprocess

    found = {}
    for path in ["/usr/bin/python3", *glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")), *glob.glob("/usr/bin/python3.1[0-9]")]:
        said = subprocess.run([path, "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
        if said.returncode == 0 and tuple(map(int, said.stdout.split("."))) >= (3, 11):
            found.setdefault(said.stdout.strip(), path)
    return found


def test_each_plugin_has_the_python_it_asks_for(cpexd, tmp_path):
    pythons = other_pythons()
    if len(pythons) < 2:
        pytest.skip("there is only one Python here")
    daemon = cpexd([plugin("p" + version.replace(".", ""), """
        async def tool_pre_invoke(self, payload, context):
            return Result(metadata={self.config.name: "%d.%d" % sys.version_info[:2]})
    """, isolation={"python": path}) for version, path in pythons.items()], cache=tmp_path / "cache")
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"p" + version.replace(".", ""): version for version in pythons}


@pytest.mark.pypi
def test_pydantic_1_beside_pydantic_2(cpexd, pypi, kept_cache):
    def validates(name, requirements):
        return plugin(name, f"""
            async def tool_pre_invoke(self, payload, context):
                import pydantic

                class Model(pydantic.BaseModel):
                    n: int

                model = Model(**payload.args)
                major = int(pydantic.VERSION.split(".")[0])
                return Result(metadata={{"{name}": [major, model.dict() if major == 1 else model.model_dump()]}})
        """, requirements=requirements)

    daemon = cpexd([validates("old", "pydantic<2\n"), validates("new", "pydantic>=2,<3\n")], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=300)
    assert daemon.invoke(HOOK, CALL)["metadata"] == {"old": [1, {"n": 7}], "new": [2, {"n": 7}]}


@pytest.mark.pypi
def test_cpex_pii_filter_unmodified(cpexd, pypi, kept_cache):
    """A plugin from PyPI, which brings the real cpex, from nothing but an entry in plugins.yaml."""
    entry = plugin("PIIFilter", "", hooks=["tool_pre_invoke", "tool_post_invoke"], requirements="cpex-pii-filter==0.3.9\n", mode="sequential",
                   priority=50, config={"class_name": "cpex_pii_filter.pii_filter.PIIFilterPlugin", "detect_ssn": True, "detect_email": True})
    entry["code"] = ""
    daemon = cpexd([entry], cache=kept_cache, ready=False)
    daemon.wait_ready(seconds=400)

    def invoke(hook, payload):
        done = daemon.ctl("invoke", hook, "--payload", json.dumps(payload), "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    answer = invoke(HOOK, {"name": "mail", "args": {"to": "ann@example.com", "body": "My SSN is 123-45-6789 and my mail is bob@example.org", "n": 3}})
    assert answer["modified_payload"] == {
        "name": "mail", "args": {"to": "[REDACTED]", "body": "My SSN is [REDACTED] and my mail is [REDACTED]", "n": 3}, "headers": None}
    assert invoke(HOOK, {"name": "mail", "args": {"plain": "nothing here"}}).get("modified_payload") is None
    answer = invoke("tool_post_invoke", {"name": "mail", "result": {"deep": [{"email": "x@y.org"}]}})
    assert answer["modified_payload"] == {"name": "mail", "result": {"deep": [{"email": "[REDACTED]"}]}}
