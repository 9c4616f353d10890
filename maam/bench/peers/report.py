"""The peers' results for people: the table in the terminal, Markdown, and plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import MaamError
from .. import report
from ..report import markdown, text
from . import plots
from .rows import MINDSPORE, OURS, PREDICTORS, REDUCED

JSON_NAME, MARKDOWN_NAME = "peers.json", "peers.md"
_NAMES = {OURS: "maam_ops", MINDSPORE: "MindSpore"} | {REDUCED[name]: f"maam_ops {name}" for name in REDUCED}
_NAMES |= {PREDICTORS[name]: f"maam_ops Predictor {name}" for name in REDUCED}
_NAMES[PREDICTORS["float32"]] = "maam_ops Predictor"


def read(path: Path) -> Mapping[str, Any]:
    """Loads results; MaamError where the file is no such JSON."""
    data = report.read(path)
    if "kernels" not in data or "peers" not in data:
        raise MaamError(f"bench: {path}: got results of `maam bench`, expected those of `maam bench --peers`")
    return data


def time_table(data: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one line for every side: time, error and tolerance, form; or why it has no time."""
    table = [["group", "size", "side", "ms", "largest error", "form"]]
    for row in report.rows(data):
        head = [row["group"], row["label"]]
        for name, side in row["sides"].items():
            error = "the truth" if side["largest_error"] is None else f"{side['largest_error']:.0e}"
            form = ", ".join(part for part in (side.get("versions", ""), side["form"]) if part)
            table.append([*head, _NAMES.get(name, name), _milliseconds(side), error, form])
        for name, reason in row["left_out"].items():
            table.append([*head, _NAMES.get(name, name), "-", "-", reason])
    return table


def fact_table(data: Mapping[str, Any]) -> list[list[str]]:
    """Kernels, memory of activations (the peak of kernel results alive at once), first call."""
    names = {"plan_peak_bytes": "activation memory", "first_call_ms": "first call", "kernels": "executed kernels"}
    table = report.fact_table(data)
    for line in table[1:]:
        side, _, fact = line[2].partition(": ")
        line[2] = f"{_NAMES.get(side, side)}: {names.get(fact, fact)}"
    return table


def kernel_table(data: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one line for each of our kernels: time, rates, share of the nearest ceiling."""
    table = [["preset", "kernel", "calls", "ms", "MB", "GB/s", "GFLOP/s", "share of roof"]]
    for preset, one in data["kernels"].items():
        for name, row in one["kernels"].items():
            seconds = row["seconds"]
            moved, done = row["bytes_moved"] / seconds / 1e9, row["flops"] / seconds / 1e9
            share = max(moved / one["gigabytes_per_second"], done / one["gigaflops"])
            cells = [f"{row['calls']:.0f}", f"{1e3 * seconds:.2f}", f"{row['bytes_moved'] / 1e6:.1f}", f"{moved:.1f}"]
            table.append([preset, name, *cells, f"{done:.0f}" if done else "", f"{100 * share:.0f} %"])
    return table


def step_table(data: Mapping[str, Any]) -> list[list[str]]:
    """Heading and one line for each part of a training step."""
    table = [["preset", "part of a training step", "ms", "share"]]
    for preset, one in data["kernels"].items():
        whole = sum(one["step"].values())
        table += [[preset, name, f"{ms:.2f}", f"{100 * ms / whole:.0f} %"] for name, ms in one["step"].items()]
    return table


def obtained(data: Mapping[str, Any]) -> str:
    """How, where and with what the figures came about."""
    images = f"Images: {data['data']}. Weights: untrained, the same on every side."
    rules = (
        "Every side's logits are checked against MindSpore's float32 before it is timed, relative to the largest: "
        "float32 1e-4, bfloat16 5e-2, int8 2e-1 (calibrated on 256 training images); of a training step also the "
        "loss, every gradient and the running statistics. A side's forms are tried and the fastest is taken. "
        "Our kernels run through MindSpore in GRAPH mode, and without it as maam_ops.Predictor: a goal of inference "
        "counts as reached by either. Packing has no time of its own: maam_ops packs weights anew in every call, those "
        "in int8 once, in quantize."
    )
    return "\n".join([report.obtained(data).replace("float32. Each side", "Each side"), images, rules])


def summary(data: Mapping[str, Any]) -> str:
    """What the terminal shows at the end."""
    failures = report.missed(data)
    verdict = f"{len(failures)} goals missed:\n  " + "\n  ".join(failures) if failures else "every goal reached"
    tables = [report.figure_table(data), time_table(data), fact_table(data), kernel_table(data), step_table(data)]
    return "\n\n".join([*(text(table) for table in tables if len(table) > 1), obtained(data), verdict])


def write(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes results, Markdown and plots into a folder; errors as for :func:`maam.bench.report.write`."""
    tables = {
        "Ratios and goals": report.figure_table(data),
        "Times": time_table(data),
        "Kernels, memory, first call": fact_table(data),
        "Our kernels in the model": kernel_table(data),
        "Training step by kernel": step_table(data),
    }
    parts = ["# Beside other engines", obtained(data)]
    for heading, table in tables.items():
        if len(table) > 1:
            parts += [f"## {heading}", markdown(table)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        report.write_text(folder / JSON_NAME, json.dumps(data, indent=1) + "\n")
        drawn = plots.draw(data, report.rows(data), folder)
        parts += ["## Plots", "\n\n".join(f"![{path.stem}]({path.name})" for path in drawn)]
        report.write_text(folder / MARKDOWN_NAME, "\n\n".join(parts) + "\n")
    except OSError as error:
        raise MaamError(f"bench: --out {folder}: {error.strerror or error}") from None
    return [folder / JSON_NAME, folder / MARKDOWN_NAME, *drawn]


def _milliseconds(side: Mapping[str, Any]) -> str:
    if "milliseconds" not in side:
        return "-"
    value = side["milliseconds"]
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"
