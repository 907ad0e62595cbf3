# SPDX-License-Identifier: Apache-2.0
"""The values of plugins.yaml, as they reach a plugin, against PyYAML's safe_load, which is what CPEX reads the file with.

PyYAML is 6.0.3: in 6.0.4 the value that a merge of several maps gives depends on whether the key has one letter.
"""

import random
import re
import subprocess

import yaml
from daemon import BUILD, plugin

HOOK = "tool_pre_invoke"
CALL = {"name": "t", "args": {}}

ECHO = plugin("echo", """
    async def tool_pre_invoke(self, payload, context):
        return Result(metadata={"config": {key: repr(value) for key, value in self.config.config.items()}})
""")

WORDS = """~ null Null NULL nULL yes Yes YES yEs no No NO true True TRUE false False FALSE on On ON off Off OFF y n Y N t f
.inf .Inf .INF .iNF -.inf +.Inf .nan .NaN .NAN -.nan inf nan -inf = << <<x == . .. ... + - 0 -0 +0 00 08 0o10 0b 0x 0b_ 0x_ -0b1_1 0b12
0xg +0x_fF 1_ 1__0 _1 0_ 0_7 -017 1:30 1:60 1:5 01:30 -1:30:59 1:30.5 190:20:30.15 1:2:3:4.5 0:30 60:00 1e3 1E3 1e+3 1.e+3 1.5e-7 1.5e 1.5e5 .5 -.5
+.5 .5_ ._5 5. 5._ 1._5 1_0.5_0 .e+1 1.0E+400 -0.0 1.7976931348623157e+308 18446744073709551615 18446744073709551616 -9223372036854775808 -9223372036854775809
123456789012345678901234567890 0x123456789abcdef0123456789 0777777777777777777777777 2001-12-14 2001-1-1 2001-02-29 2000-02-29 2001-12-32 0000-01-01 9999-12-31
20010-01-01 2001-12-14T1:2:3 2001-12-14T01:02:03Z 2001-12-14t01:02:03.5 2001-12-14T01:02:03.123456789-5 2001-12-14T01:02:03+05:30 2001-12-14T24:00:00
2001-12-14T01:60:00 2001-12-14T01:02:60 2001-12-14T01:02:03+24:00 2001-12-14T01:02:03-23:99 2001-12-14T01:02 2001-12-14T01:02:03. 2001-12-14T01:02:03.Z
2001-1-1T1:2:3+0""".split() + ["2001-12-14 21:59:43.10 -5", "2001-12-14  21:59:43", "2001-12-14 21:59:43 Z", "2001-12-14 21:59:43  +01:00", "1 2", "a b", "1: 2"]

TAGGED = ["1", "1e3", "-1.5", "1_000", "0x1F", "010", "1:30", "yes", "OFF", "x", "2001-1-2", "2001-02-30", ".inf", "-INF", "nan", "Infinity", "1.", ".", "",
          "1e", "e1", "+.5", "0b101", "-0", "aGVsbG8=", "1.5.5", "0x1p3"]
BASE64 = ["aGVsbG8=", "aGkh", "aGk=", "aGk", "a", "aA==", ""]


def random_texts(rng):
    pieces = ["0", "1", "7", "8", "9", "12", "60", "_", ":", ".", "-", "+", "e", "E", "e+", "e-", "0x", "0b", "a", "F", "T", "Z", "2001", "-12-", "inf", "nan"]
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 6))) for _ in range(4000)]


def oracle(text):
    """(whether PyYAML takes it, the value); None where it does not stand in a line for itself."""
    try:
        return True, yaml.safe_load(f"k: {text}\n")["k"]
    except (yaml.scanner.ScannerError, yaml.parser.ParserError, yaml.reader.ReaderError):
        return None
    except Exception:
        return False, None


def random_merges(rng):
    """Maps that others merge, alone and in lists, with keys of their own before and after."""
    names, lines = [], []
    for i in range(60):
        keys = rng.sample("abcdef", rng.randint(0, 4))
        items = [f"{key}: {i}{n}" for n, key in enumerate(keys)]
        for _ in range(rng.randint(0, 2) if names else 0):
            merged = [f"*{name}" for name in rng.choices(names, k=rng.randint(1, 3))]
            items.insert(rng.randint(0, len(items)), f"<<: {merged[0] if len(merged) == 1 else '[' + ', '.join(merged) + ']'}")
        names.append(f"m{i}")
        lines.append(f"m{i}: &m{i} {{{', '.join(items)}}}")
    return lines


def document(lines):
    head = ECHO["entry"]["config"]
    own = [f"{key}: {value}" for key, value in head.items()]
    return "plugins:\n  - name: echo\n    kind: isolated_venv\n    hooks: [tool_pre_invoke]\n    config:\n" + "".join(
        f"      {line}\n" for line in own + lines)


def cases():
    rng = random.Random(4)
    texts = list(dict.fromkeys(WORDS + random_texts(rng)))
    texts += [f"!!{tag} {text!r}" for tag in ("int", "float", "bool", "null", "str", "timestamp") for text in TAGGED]
    texts += [f"!!binary {text!r}" for text in BASE64]
    accepted, refused = [], []
    for text in texts:
        answer = oracle(text)
        if answer:
            (accepted if answer[0] else refused).append(text)
    return accepted, refused, random_merges(rng)


def test_every_value_is_what_pyyaml_makes_of_it(cpexd):
    accepted, _, merges = cases()
    assert len(accepted) > 2000
    keys = [text for text in accepted if not text.startswith("!!") and ": " not in text]
    lines = [f"k{i}: {text}" for i, text in enumerate(accepted)] + merges
    lines += [f"n{i}: {{? {text} : 1}}" for i, text in enumerate(keys) if not re.search(r"[:]", text)]
    text = document(lines)
    daemon = cpexd([ECHO])
    (daemon.folder / "plugins.yaml").write_text(text)
    daemon.admin("reload")
    said = daemon.invoke(HOOK, CALL)["metadata"]["config"]
    wanted = {key: repr(value) for key, value in yaml.safe_load(text)["plugins"][0]["config"].items()}
    by_key = dict(line.split(": ", 1) for line in lines)
    assert {(by_key.get(key), value) for key, value in said.items()} == {(by_key.get(key), value) for key, value in wanted.items()}
    assert list(said) == list(wanted)


def test_what_pyyaml_refuses_is_refused(tmp_path):
    _, refused, _ = cases()
    assert 50 < len(refused) < 1000  # so many mistakes are said
    text = document([f"k{i}: {text}" for i, text in enumerate(refused)])
    first = text.splitlines().index(f"      k0: {refused[0]}") + 1
    (tmp_path / "plugins.yaml").write_text(text)
    command = [BUILD / "cpexd", "--plugins", tmp_path / "plugins.yaml", "--socket", tmp_path / "s", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = {int(line) for line in re.findall(r"plugins\.yaml:(\d+):", done.stderr)}
    assert done.returncode == 1
    assert [text for i, text in enumerate(refused) if first + i not in said] == []
