# SPDX-License-Identifier: Apache-2.0
"""What --help lists is in the manuals and is completed by the shells; cpexd.yaml(5) has every key."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CPEXD_BUILD", ROOT / "build")).resolve()
COMPLETIONS = ROOT / "packaging/completions"
ENV = os.environ | {"PATH": f"{BUILD}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def help_of(program):
    return subprocess.run([BUILD / program, "--help"], capture_output=True, text=True, check=True).stdout


def options_of(program):
    found = set(re.findall(r"^ +(?:-., )?(--[a-z-]+)", help_of(program), re.MULTILINE))
    assert {"--help", "--version", "--socket"} <= found
    return found


def commands():
    text = help_of("cpexctl")
    found = set(re.findall(r"^  ([a-z]+) ", text[text.index("Commands:"):text.index("Options:")], re.MULTILINE))
    assert {"status", "invoke", "reload", "venv"} <= found
    return found


# ---- Manuals ----


@pytest.mark.parametrize("program, section", [("cpexd", 8), ("cpexctl", 1)])
def test_manual_pages(program, section):
    page = (ROOT / f"packaging/man/{program}.{section}").read_text()
    described = {"--" + name for name in re.findall(r"(?:Fl|,) -([a-z-]+)", page)}
    assert options_of(program) - described - {"--help", "--version"} == set()
    if program == "cpexctl":
        assert commands() <= set(re.findall(r"^\.It Cm ([a-z]+)", page, re.MULTILINE))


def test_exit_statuses():
    page = (ROOT / "packaging/man/cpexd.8").read_text()
    section = page[page.index(".Sh EXIT STATUS"):page.index(".Sh ENVIRONMENT")]
    text = help_of("cpexd")
    assert re.findall(r"^\.It (\d)", section, re.MULTILINE) == re.findall(r"^  (\d)  ", text[text.index("Exit status"):], re.MULTILINE)


def test_the_manual_has_every_setting():
    path, keys = [], []
    for line in (ROOT / "conf/cpexd.yaml").read_text().splitlines():
        if found := re.fullmatch(r"#((?:  )*)([a-z_]+):(.*)", line):
            path[len(found[1]) // 2:] = [found[2]]
            keys += [".".join(path)] if found[3] else []
    page = (BUILD / "packaging/cpexd.yaml.5").read_text()
    items = re.findall(r"^\.It Li (\S+)$", page, re.MULTILINE)
    assert len(keys) > 20 and set(keys) <= set(items)
    assert "@KEYS@" not in page


# ---- Completion: what a shell offers for the last word ----


def bash(*words, until):
    del until
    script = """
        source "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _cpexd "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", script, COMPLETIONS / "cpexd.bash", *words], capture_output=True, text=True, env=ENV, timeout=30)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def fish(*words, until):
    del until
    script = "source $argv[1]; complete -C \"$argv[2..]\""
    done = subprocess.run(["fish", "--no-config", "-c", script, COMPLETIONS / "cpexd.fish", *words], capture_output=True, text=True, env=ENV,
                          timeout=30)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


class Zsh:
    """An interactive one, for there is no other way to ask for completions."""

    def __init__(self, folder):
        shutil.copy(COMPLETIONS / "cpexd.zsh", folder / "_cpexd")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"], ENV | {"PS1": "", "ZDOTDIR": str(folder)})
        self.send(f"stty cols 500 rows 500; fpath=({folder} $fpath); autoload -U compinit; compinit -u -D; unsetopt beep zle_bracketed_paste;"
                  " LISTMAX=999; echo SET''UP\n")
        self.until({"SETUP"})

    def send(self, text):
        os.write(self.fd, text.encode())

    def until(self, words, quiet=0.0, seconds=20):
        """Reads until the words were there and then nothing more comes for so long."""
        got, end = "", time.monotonic() + seconds
        while True:
            there = set(words) <= set(got.split())
            if not select.select([self.fd], [], [], quiet if there else max(0.0, end - time.monotonic()))[0]:
                assert there, got
                return set(got.split())
            got += os.read(self.fd, 65536).decode(errors="replace")

    def __call__(self, *words, until):
        self.send("\x15echo GIVEN''UP\n")
        self.until({"GIVENUP"})
        self.send(" ".join(words) + "\t")
        return self.until(until, 0.3)

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(params=["bash", "fish", "zsh"])
def complete(request, tmp_path):
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    if request.param != "zsh":
        yield {"bash": bash, "fish": fish}[request.param]
        return
    zsh = Zsh(tmp_path)
    yield zsh
    zsh.close()


def test_every_option_and_command_is_completed(complete):
    for words, expected in (["cpexd", "-"], options_of("cpexd")), (["cpexctl", "--"], options_of("cpexctl")), (["cpexctl", ""], commands()):
        assert expected <= complete(*words, until=expected)


def test_a_command_has_its_own_options_and_argument(complete):
    own = {"--plugin", "--json", "--socket", "--version"}
    offered = complete("cpexctl", "venv", "--", until=own)
    assert own <= offered and not offered & {"--payload", "--plugins"}
    assert {"list", "build"} <= complete("cpexctl", "--json", "venv", "", until={"list", "build"})
    assert commands() <= complete("cpexctl", "--socket", "/x", "", until=commands())
