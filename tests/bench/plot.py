# SPDX-License-Identifier: Apache-2.0
"""Draws the plots of docs/benchmarks.md as SVG: bars and lines, on logarithmic axes."""

import math
import statistics

from ratios import column

WIDTH, ROW, LEFT, RIGHT, TOP = 720, 26, 110, 90, 46
COLOURS = {"cpexd": "#0b6e4f", "native": "#4a4e69", "isolated": "#c1666b", "unix": "#d4a373", "mcp": "#9a8c98", "one_hop": "#adb5bd",
           "two_hops": "#adb5bd"}
NAMES = {"native": "in process", "isolated": "isolated_venv", "unix": "external, Unix", "mcp": "external, MCP", "one_hop": "floor, one hop",
         "two_hops": "floor, two hops"}
STYLE = "font-family: sans-serif; font-size: 13px"


def svg(height, title, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" style="{STYLE}">'
    back = f'<rect width="{WIDTH}" height="{height}" fill="white"/><text x="10" y="22" font-weight="bold">{title}</text>'
    return "\n".join([head, back, *parts, "</svg>\n"])


def label(value):
    return f"{value:.3g}" if value < 1000 else f"{value / 1000:.3g} k"


def bars(title, values):
    """values: {name: number}, drawn from zero."""
    largest = max(values.values())
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y, width = TOP + i * ROW, value / largest * (WIDTH - LEFT - RIGHT)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{NAMES.get(name, name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{ROW - 8}" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{label(value)}</text>')
    return svg(TOP + len(values) * ROW + 10, title, parts)


def lines(title, unit, series):
    """series: {name: [(x, y)]}; both axes are logarithmic."""
    points = [point for line in series.values() for point in line]
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points))
    bottom, top = 330, TOP

    def place(x, y):
        across = math.log(x / x0) / math.log(x1 / x0)
        up = math.log(y / y0) / math.log(y1 / y0)
        return f"{LEFT + across * (WIDTH - LEFT - RIGHT - 40):.1f},{bottom - up * (bottom - top):.1f}"

    parts = [f'<path d="M{LEFT},{top} V{bottom} H{WIDTH - RIGHT - 40}" fill="none" stroke="#888"/>']
    for exponent in range(math.ceil(math.log10(y0)), math.floor(math.log10(y1)) + 1):
        x, y = place(x0, 10**exponent).split(",")
        parts.append(f'<path d="M{x},{y} h{WIDTH - LEFT - RIGHT - 40}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4}" text-anchor="end">{label(10**exponent)}</text>')
    for x in sorted({x for x, _ in points})[::2]:
        across = place(x, y0).split(",")[0]
        parts.append(f'<text x="{across}" y="{bottom + 18}" text-anchor="middle">{unit(x)}</text>')
    for name, line in series.items():
        path = " ".join(place(x, y) for x, y in line)
        end_x, end_y = place(*line[-1]).split(",")
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{float(end_x) + 6}" y="{float(end_y) + 4}" fill="{COLOURS[name]}">{NAMES.get(name, name)}</text>')
    return svg(bottom + 34, title, parts)


def by_prefix(samples, prefix):
    """{contestant: [(the number after the prefix, p50)]} of the workloads with that prefix."""
    series = {}
    for workload, rows in samples.items():
        if workload.startswith(prefix):
            for name in rows:
                point = (int(workload.removeprefix(prefix)), statistics.median(column(samples, workload, name)))
                series.setdefault(name, []).append(point)
    return series


def size_label(size):
    return "1 MB" if size == 1_000_000 else f"{size >> 10} KiB"


def draw_all(result, folder):
    folder.mkdir(parents=True, exist_ok=True)
    samples = result["samples"]

    def medians(workload, figure):
        return {name: statistics.median(column(samples, workload, name, figure)) for name in samples[workload] if name != "plugin"}

    plots = {
        "call": bars("One caller, a payload of 600 bytes: median time of a call, µs", medians("small", "p50_us")),
        "callers": bars("32 asyncio callers: calls a second", medians("c32", "calls_per_s")),
    }
    if sizes := by_prefix(samples, "bytes_"):
        plots["sizes"] = lines("Payloads of one text: median time of a call, µs", size_label, sizes)
    for name, text in plots.items():
        (folder / f"{name}.svg").write_text(text)
