"""Plots of the peers: ratios, our kernels below the machine's roofline, and where a training step spends its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import plots

_ROOF = "#222222"


def draw(data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draws every plot that the results have data for into a folder; returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    bars = [
        (f"{row['group']}  {row['label']}\n{figure['name']}", figure)
        for row in rows
        for figure in row["figures"]
        if figure["value"] is not None
    ]
    paths = []
    if bars:
        title = "maam_ops beside the fastest peer and MindSpore"
        paths.append(plots.bar_chart(folder / "peers.png", bars, title, "times as fast (log scale)", log=True))
    measured = data["kernels"]
    if any(row["flops"] for one in measured.values() for row in one["kernels"].values()):
        paths.append(_roofline(folder / "peers-roofline.png", measured))
    return paths + [_step(folder / f"step-{preset}.png", preset, one) for preset, one in measured.items()]


def _roofline(path: Path, measured: Mapping[str, Any]) -> Path:
    """GFLOP/s over FLOP per byte of operands and results; a Winograd kernel may lie above the FMA roof."""
    from matplotlib import pyplot

    points = [
        (f"{preset}, {name}", row["flops"] / row["bytes_moved"], row["flops"] / row["seconds"] / 1e9)
        for preset, one in measured.items()
        for name, row in one["kernels"].items()
        if row["flops"] and row["bytes_moved"] and row["seconds"]
    ]
    bandwidth = max(one["gigabytes_per_second"] for one in measured.values())
    peak = max(one["gigaflops"] for one in measured.values())
    knee = peak / bandwidth
    low, high = min([knee, *(x for _, x, _ in points)]) / 2, max([knee, *(x for _, x, _ in points)]) * 2
    figure, axes = pyplot.subplots(figsize=(11, 6), layout="constrained")
    axes.plot([low, knee], [low * bandwidth, peak], color=_ROOF, linewidth=2, label=f"memory {bandwidth:.0f} GB/s")
    axes.plot([knee, high], [peak, peak], color=_ROOF, linewidth=2.5, label=f"FMA {peak:.0f} GFLOP/s")
    markers, colours = "osD^vP*X<>hp", pyplot.get_cmap("tab10").colors
    for index, (name, x, y) in enumerate(points):
        style = {"color": colours[index % 10], "marker": markers[index % len(markers)], "linestyle": "none"}
        axes.plot(x, y, markersize=8, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="FLOP of the definition per byte in and out", ylabel="GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_title("Our kernels in the model, batch 64, below limits measured in the same process", loc="left")
    axes.grid(True, which="major", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return plots.save(figure, path)


def _step(path: Path, preset: str, measured: Mapping[str, Any]) -> Path:
    """Milliseconds of one training step by kernel."""
    from matplotlib import pyplot

    step: Mapping[str, float] = measured["step"]
    whole = sum(step.values())
    figure, axes = pyplot.subplots(figsize=(10, 1.4 + 0.3 * len(step)), layout="constrained")
    axes.barh(range(len(step)), step.values(), color="#0072B2", height=0.6)
    for position, spent in enumerate(step.values()):
        text = f"{spent:.2f} ms, {100 * spent / whole:.0f} %"
        axes.annotate(text, (spent, position), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(step)), step.keys(), fontsize=8)
    axes.set_ylim(len(step) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(step.values()))
    axes.set_xlabel("ms")
    axes.set_title(f"Training step of {preset}, batch {measured['batch']}, by kernel", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    return plots.save(figure, path)
