"""Results as people read them: the table in the terminal, Markdown, and plots.

The input is the JSON that `maam bench` and pytest-benchmark write: ``machine_info`` and, for each benchmark, the
result of :meth:`maam.bench.measure.Measurement.finish` as ``extra_info``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import MaamError
from ..files import atomic_path
from . import plots
from .format import number
from .race import DISTURBED

JSON_NAME, MARKDOWN_NAME = "benchmarks.json", "benchmarks.md"
Results = Mapping[str, Any]


def read(path: Path) -> Results:
    """Loads results; MaamError where the file is no such JSON."""
    try:
        data = json.loads(path.read_text())
        if all("figures" in row["extra_info"] for row in data["benchmarks"]) and "cpu_model" in data["machine_info"]:
            return data
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaamError(f"bench: {path}: not readable as benchmark results: {error}") from None
    raise MaamError(f"bench: {path}: got other JSON, expected results of `maam bench` or of `pytest benchmarks`")


def rows(data: Results) -> list[dict[str, Any]]:
    """The result of every benchmark, in the order they were run but with groups together."""
    results = [row["extra_info"] for row in data["benchmarks"]]
    groups = list(dict.fromkeys(row["group"] for row in results))
    return sorted(results, key=lambda row: groups.index(row["group"]))


def missed(data: Results) -> list[str]:
    """What did not reach its goal: "benchmark: figure", of several that share a goal the first."""
    goals: dict[tuple[str, str], str] = {}
    for row in rows(data):
        for figure in row["figures"]:
            if figure["verdict"] == "missed":
                one = (row["benchmark"], figure.get("shared", figure["name"]))
                goals.setdefault(one, f"{row['benchmark']}: {figure['name']}")
    return list(goals.values())


def goal(figure: Mapping[str, Any]) -> str:
    """The goal with its direction, or ""."""
    for bound, sign in (("at_least", "≥"), ("at_most", "≤")):
        if figure[bound] is not None:
            return f"{sign} {number(figure[bound], figure['unit'])}"
    return ""


def spread(figure: Mapping[str, Any]) -> str:
    """The quartiles, where they differ from the median."""
    if figure["value"] is None:
        return figure["reason"]
    low, high = (number(figure[bound], figure["unit"]) for bound in ("low", "high"))
    return "" if low == high else f"{low} to {high}"


def figure_table(data: Results) -> list[list[str]]:
    """Heading and one line for every figure: sizes, what, goal, reached, quartiles, verdict."""
    table = [["group", "size", "figure", "goal", "reached", "quartiles", "verdict"]]
    for row in rows(data):
        for figure in row["figures"]:
            reached = number(figure["value"], figure["unit"])
            cells = [row["group"], row["label"], figure["name"], goal(figure), reached, spread(figure)]
            table.append([*cells, figure["verdict"]])
    return table


def time_table(data: Results) -> list[list[str]]:
    """Heading and one line for every side that was timed."""
    table = [["group", "size", "side", "ms", "GB/s", "GFLOP/s", "form"]]
    for row in rows(data):
        for name, side in row["sides"].items():
            if "milliseconds" not in side:
                continue
            # A limit has one rate: the FMA loop moves nothing, the bandwidth loop computes nothing.
            rates = [
                "" if name == "fma" else _rate(side, "gigabytes_per_second"),
                "" if name == "bandwidth" else _rate(side, "gigaflops"),
            ]
            table.append([row["group"], row["label"], name, _digits(side["milliseconds"]), *rates, side["form"]])
    return table


def fact_table(data: Results) -> list[list[str]]:
    """Heading and one line for every fact: kernels, bytes."""
    table = [["group", "size", "fact", "value"]]
    for row in rows(data):
        for name, value in row["facts"].items():
            text = f"{value / 2**20:,.1f} MiB" if "bytes" in name else f"{value:,.0f}"
            text += " ms" if name.endswith("_ms") else ""
            table.append([row["group"], row["label"], name, text])
    return table


def _rate(side: Mapping[str, Any], name: str) -> str:
    return f"{side[name]:.0f}" if name in side else ""


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def text(table: Sequence[Sequence[str]]) -> str:
    """A table for the terminal: a heading for each group, columns in line."""
    head, *body = [list(line[1:]) for line in table]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    lines = [line(head)]
    for group, members in groupby(table[1:], key=lambda cells: cells[0]):
        lines += ["", group, *(line(cells[1:]) for cells in members)]
    return "\n".join(lines)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """The same table in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def obtained(data: Results) -> str:
    """How, where and with what the figures came about, in one paragraph."""
    machine, results = data["machine_info"], rows(data)
    timed = [row for row in results if row["rounds"]]
    states = {side["onednn"] for row in results for side in row["sides"].values() if "onednn" in side}
    isas = {side["isa"] for row in results for side in row["sides"].values() if "isa" in side}
    lines = [
        f"{machine['cpu_model']}, {machine['threads']} threads, L3 {machine['l3_bytes'] / 2**20:.0f} MiB; "
        f"kernels for {', '.join(sorted(isas)) or 'no instruction set'}; MindSpore's oneDNN: "
        f"{', '.join(sorted(states)) or 'not used'}.",
        f"MindSpore {machine['mindspore']}, NumPy {machine['numpy']}, Python {machine['python']}, "
        f"maam-ops {machine['maam-ops']}{_commit(machine)}, {data['datetime'][:10]}.",
        "float32. Each side runs in a process of its own on the same cores and passes a correctness check before it "
        "is timed; blocks of calls of all sides alternate while the others sleep. A figure is the median, over the "
        "rounds, of what was computed within each round. Timed is a call from ready tensors to results in NumPy.",
    ]
    if timed:
        blocks = sorted({f"{row['rounds']} rounds, blocks of {row['block_seconds']:g} s" for row in timed})
        lines.append(f"Profile {timed[0]['profile']}: {'; '.join(blocks)}.")
    noisy = [row["benchmark"] for row in timed if row["disturbance"] > DISTURBED]
    if noisy:
        lines.append(f"Sleeping sides used the CPU during: {', '.join(noisy)}; those figures are not to be trusted.")
    return "\n".join(lines)


def _commit(machine: Mapping[str, Any]) -> str:
    return f" at commit {machine['commit']}" if machine["commit"] else ""


def summary(data: Results) -> str:
    """What the terminal shows at the end."""
    failures = missed(data)
    verdict = f"{len(failures)} goals missed:\n  " + "\n  ".join(failures) if failures else "every goal reached"
    return "\n\n".join([text(figure_table(data)), text(time_table(data)), obtained(data), verdict])


def write(data: Results, folder: Path) -> list[Path]:
    """Writes results, Markdown and plots into a folder; each file appears complete or not at all.

    Raises:
        MaamError: the folder cannot be written to.
    """
    parts = ["# Benchmarks", obtained(data)]
    parts += ["## Figures and goals", markdown(figure_table(data))]
    parts += ["## Times", markdown(time_table(data)), "## Kernels and memory", markdown(fact_table(data))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / JSON_NAME, json.dumps(data, indent=1) + "\n")
        drawn = plots.draw(rows(data), folder)
        parts += ["## Plots", "\n\n".join(f"![{path.stem}]({path.name})" for path in drawn)]
        write_text(folder / MARKDOWN_NAME, "\n\n".join(parts) + "\n")
    except OSError as error:
        raise MaamError(f"bench: --out {folder}: {error.strerror or error}") from None
    return [folder / JSON_NAME, folder / MARKDOWN_NAME, *drawn]


def write_text(path: Path, content: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(content)
