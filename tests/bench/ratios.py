# SPDX-License-Identifier: Apache-2.0
"""From samples to ratios, and the tables that are printed."""

import statistics

# What is aimed at, and what is held at least; the sign says which side is good.
GOALS = {
    "p50_vs_native": ("<=", 1.0, 1.5),
    "p50_vs_isolated": (">=", 8, 5),
    "p50_vs_floor": ("<=", 0.8, 1.3),
    "c32_vs_native": (">=", 1.5, 1.0),
    "c32_vs_isolated": (">=", 5, 3.5),
    "await50_vs_native": ("<=", 1.1, 1.3),
    "empty_vs_one_hop": ("<=", 1.2, 1.5),
    "big_vs_floor": ("<=", 1.0, 1.5),
    "chain10_vs_native": ("<=", 1.0, 2),
    "worker_uss_mib": ("<=", 6, 9),
    "worker_further_uss_mib": ("<=", 2, 4),
    "daemon_rss_mib": ("<=", 8, 16),
    "warm_start_vs_isolated": (">=", 15, 8),
    "respawn_ms": ("<=", 10, 50),
    "up100_s": ("<=", 3, 8),
    "sandbox_cost": ("<=", 1.02, 1.05),
}


def of_rounds(above, below):
    """{median, low, high} (the quartiles) of the ratio in each round; None where one side was not measured."""
    if not above or not below:
        return None
    return spread([a / b for a, b in zip(above, below)])


def spread(values):
    if not values:
        return None
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def column(samples, workload, name, figure="p50_us"):
    return [each[figure] for each in samples.get(workload, {}).get(name, [])]


def all_of(result):
    samples = result["samples"]

    def p50(workload, above, below):
        return of_rounds(column(samples, workload, above), column(samples, workload, below))

    def rate(workload, above, below):
        return of_rounds(column(samples, workload, above, "calls_per_s"), column(samples, workload, below, "calls_per_s"))

    # The plugin takes most of the time: a difference of medians would be a difference of disturbances.
    big = {name: column(samples, "big", name, "least_us") for name in ("cpexd", "plugin", "two_hops")}
    beyond = [all_of_it - own for all_of_it, own in zip(big["cpexd"], big["plugin"])]
    starts, crowd, memory = result["warm_start_ms"], result["crowd"], result["worker_memory"]
    return {
        "p50_vs_native": p50("small", "cpexd", "native"),
        "p50_vs_isolated": p50("small", "isolated", "cpexd"),
        "p50_vs_floor": p50("small", "cpexd", "two_hops"),
        "p50_vs_floor_one_core": p50("small_pinned", "cpexd", "two_hops"),
        "c32_vs_native": rate("c32", "cpexd", "native"),
        "c32_vs_isolated": rate("c32", "cpexd", "isolated"),
        "await50_vs_native": p50("await50", "cpexd", "native"),
        "empty_vs_one_hop": p50("empty", "cpexd", "one_hop"),
        "big_vs_floor": of_rounds(beyond, big["two_hops"]),
        "chain10_vs_native": p50("chain10", "cpexd", "native"),
        "group10_vs_native": p50("chain10", "group", "native"),
        "worker_uss_mib": spread([memory["first"]["uss"]]),
        "worker_further_uss_mib": spread([memory["further"]["uss"]]),
        "daemon_rss_mib": spread([crowd["daemon_rss_mib"]]),
        "warm_start_vs_isolated": of_rounds(starts["isolated"], starts["cpexd"]),
        "respawn_ms": spread(result["respawn_ms"]),
        "up100_s": spread([crowd["up_s"]]) if crowd["workers"] == 100 else None,
        "sandbox_cost": p50("small_pinned", "cpexd", "no_sandbox"),
    }


# ---- Tables ----


def number(value):
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def print_tables(result, out):
    print(f"{result['command']}: {result['rounds']} rounds, {result['cores']} cores, load per core {result['load_before']:.1f} before and "
          f"{result['load_after']:.1f} after\n", file=out)
    for workload, rows in result["samples"].items():
        print(f"{workload:16} {'p50 µs':>28} {'p99 µs':>10} {'calls/s':>10}   CPU µs a call", file=out)
        for name in rows:
            print_row(name, result["samples"], workload, out)
    print_system_calls(result["system_calls"], out)
    print(f"\n{'ratio':26} {'median':>8} {'quartiles':>17}   goal, at least", file=out)
    for name, value in result["ratios"].items():
        print_ratio(name, value, out)


def print_row(name, samples, workload, out):
    p50 = spread(column(samples, workload, name))
    rounds = samples[workload][name]
    line = f"  {name:14} {number(p50['median']):>10} {'(' + number(p50['low']) + '–' + number(p50['high']) + ')':>17}"
    if "p99_us" in rounds[0]:
        p99, rate = (statistics.median(column(samples, workload, name, figure)) for figure in ("p99_us", "calls_per_s"))
        cpu = {role: statistics.median(each["cpu_us"][role] for each in rounds if role in each["cpu_us"]) for role in rounds[0]["cpu_us"]}
        line += f" {number(p99):>10} {number(rate):>10}   " + ", ".join(f"{role} {number(value)}" for role, value in cpu.items())
    print(line, file=out)


def print_system_calls(table, out):
    for name, roles in table.items():
        for role, counts in (roles or {}).items():
            total = sum(counts.values())
            print(f"system calls a call, {name} {role}: {total:.1f} ({', '.join(f'{call} {count:g}' for call, count in counts.items())})", file=out)


def print_ratio(name, value, out):
    goal = "{} {:g}, {:g}".format(*GOALS[name]) if name in GOALS else ""
    if value is None:
        print(f"{name:26} {'–':>8} {'':>17}   {goal}", file=out)
        return
    quartiles = f"({number(value['low'])}–{number(value['high'])})"
    print(f"{name:26} {number(value['median']):>8} {quartiles:>17}   {goal}", file=out)
