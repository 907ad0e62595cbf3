# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs and writes what it says. What it measures here means nothing."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest
from daemon import BUILD, ROOT, SANITIZED

KEYS = {
    "p50_vs_native", "p50_vs_isolated", "p50_vs_floor", "c32_vs_native", "c32_vs_isolated", "await50_vs_native", "empty_vs_one_hop",
    "big_vs_floor", "chain10_vs_native", "group10_vs_native", "worker_uss_mib", "daemon_rss_mib", "warm_start_vs_isolated", "respawn_ms", "up100_s",
    "sandbox_cost",
}  # fmt: skip
NEED_A_PEER = {key for key in KEYS if re.search("native|isolated", key)}


@pytest.mark.skipif(SANITIZED, reason="nobody wants to know how fast that is")
def test_a_run_without_peers(tmp_path):
    command = [sys.executable, ROOT / "tests/bench/run", "--smoke", "--peers", "", "--json", tmp_path / "all.json",
               "--plots", tmp_path / "plots", "--cache", tmp_path / "cache"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"CPEXD_BUILD": str(BUILD)})
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "all.json").read_text())
    ratios = result["ratios"]
    assert ratios.keys() >= KEYS
    # Two workers are not the hundred of up100_s.
    assert {key for key in KEYS if ratios[key] is None} == NEED_A_PEER | {"up100_s"}
    assert all(value["low"] <= value["median"] <= value["high"] for value in ratios.values() if value)
    assert ratios["p50_vs_floor"]["low"] > 0
    for name in ("cpexd", "two_hops"):
        rounds = result["samples"]["small"][name]
        assert len(rounds) == result["rounds"] == 2
        assert all(each["n"] > 0 and 0 < each["p50_us"] <= each["p99_us"] and each["calls_per_s"] > 0 for each in rounds)
        assert rounds[0]["cpu_us"].keys() == {"client", "daemon", "worker"}
    assert "p50_vs_floor" in done.stdout
    for plot in ("call", "callers"):
        assert xml.parse(tmp_path / f"plots/{plot}.svg").getroot().tag.endswith("svg")
