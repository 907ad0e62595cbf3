# SPDX-License-Identifier: Apache-2.0
"""Adds up the results that a test run left in a folder and prints the line `N passed, N failed, N skipped`.

*.count end with such a line themselves; *.junit.xml are pytest's reports; *.meson.json are meson's testlog.json, in which a test is a
cmocka program that says how many of its own tests passed. Each *.good is a part that counts as one test, each *.broken one that ended
before it could report. Exits with 1 if anything failed or nothing passed.
"""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def of_pytest(path):
    passed = failed = skipped = 0
    for suite in ElementTree.parse(path).iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left_out = int(suite.get("skipped", 0))
        passed += max(int(suite.get("tests", 0)) - bad - left_out, 0)
        failed += bad
        skipped += left_out
    return passed, failed, skipped


def of_meson(path):
    passed = failed = skipped = 0
    for line in path.read_text().splitlines():
        test = json.loads(line)
        said = test.get("stdout", "") + test.get("stderr", "")
        good = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", said)))
        bad = sum(map(int, re.findall(r"\[  FAILED  \] .*?(\d+) test\(s\), listed below", said)))
        if test["result"] == "SKIP":
            skipped += 1
        elif test["result"] in ("OK", "EXPECTEDFAIL"):
            passed += max(good, 1)
            failed += bad
        else:
            passed += good
            failed += max(bad, 1)
    return passed, failed, skipped


def of_count(path):
    found = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", path.read_text(), re.MULTILINE)
    return tuple(int(n or 0) for n in found[-1]) if found else (0, 0, 0)


def main(folder):
    folder = pathlib.Path(folder)
    counts = [of_pytest(path) for path in folder.glob("*.junit.xml")]
    counts += [of_meson(path) for path in folder.glob("*.meson.json")]
    counts += [of_count(path) for path in folder.glob("*.count")]
    counts += [(0, 1, 0) for path in folder.glob("*.broken")]
    counts += [(1, 0, 0) for path in folder.glob("*.good")]
    passed, failed, skipped = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
