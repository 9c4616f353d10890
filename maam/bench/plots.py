"""PNG plots of benchmark results: how near the kernels are to the machine's limits, and what fusion gains."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MaamError
from ..files import atomic_path
from .figures import BY_ANOTHER
from .format import number

# Colours that stay apart for colour-blind eyes and in print.
_COLOURS = {"reached": "#0072B2", "missed": "#D55E00", BY_ANOTHER: "#56B4E9", "": "#7F7F7F"}
_LIMIT = "#222222"
_DPI = 150

Bar = tuple[str, Mapping[str, Any]]  # label, figure


def require() -> None:
    """Raises MaamError where matplotlib is missing: to be told before half an hour of measuring, not after."""
    if find_spec("matplotlib") is None:
        raise MaamError("bench: plots need matplotlib: pip install 'maam-ops[bench]'")


def draw(results: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draws every plot that the results have data for into a folder; returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    paths = []
    for name, bars, title, label in (
        ("ceiling", _bars(results, "%", of_model=False), "Kernels against the limits of the machine", "share of limit"),
        ("speedup", _bars(results, "x", of_model=False), "Fused against unfused", "times faster (log scale)"),
        ("savings", _bars(results, "%", of_model=True), "The model: what fusion saves", "saved"),
    ):
        if bars:
            paths.append(bar_chart(folder / f"{name}.png", bars, title, label, log=name == "speedup"))
    peaks = [row["sides"]["fma"]["gigaflops"] for row in results if "fma" in row["sides"]]
    below_both = [row for row in results if {"kernel", "bandwidth"} <= row["sides"].keys()]
    if peaks and any("milliseconds" in row["sides"]["kernel"] for row in below_both):
        paths.append(_roofline(folder / "roofline.png", below_both, max(peaks)))
    return paths


def _bars(results: Sequence[Mapping[str, Any]], unit: str, of_model: bool) -> list[Bar]:
    """The measured figures of a unit: those about kernels and memory of the model, or all others."""
    bars = []
    for row in results:
        if row["benchmark"].startswith("model kernels") != of_model:
            continue
        for figure in row["figures"]:
            if figure["unit"] == unit and figure["value"] is not None:
                name = figure["name"] if of_model else f"{row['group']}  {row['label']}\n{figure['name']}"
                bars.append((name, figure))
    return bars


def bar_chart(path: Path, bars: Sequence[Bar], title: str, label: str, log: bool) -> Path:
    """Horizontal bars with quartiles, each with its goal as a mark."""
    from matplotlib import pyplot

    lines = max(name.count("\n") + 1 for name, _ in bars)
    figure, axes = pyplot.subplots(figsize=(10, 1.6 + 0.24 * (lines + 0.4) * len(bars)), layout="constrained")
    for position, (_, one) in enumerate(bars):
        # From 1 on a log scale: what is slower than the other side points to the left.
        _draw_bar(axes, position, one, start=1.0 if log else 0.0)
    _scale(axes, [one for _, one in bars], log)
    axes.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_title(title, loc="left")
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=_legend({one["verdict"] for _, one in bars}),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=8,
    )
    return save(figure, path)


def _draw_bar(axes: Any, position: int, one: Mapping[str, Any], start: float) -> None:
    axes.barh(position, one["value"] - start, left=start, color=_COLOURS[one["verdict"]], height=0.6)
    axes.plot([one["low"], one["high"]], [position, position], color=_LIMIT, linewidth=1.2)
    edge = max(one["value"], one["high"], start)
    goal = one["at_least"]
    if goal is not None:
        axes.plot([goal, goal], [position - 0.42, position + 0.42], color=_LIMIT, linewidth=2.2)
        edge = max(edge, goal)
    text = number(one["value"], one["unit"])
    axes.annotate(text, (edge, position), (5, 0), textcoords="offset points", va="center", fontsize=8)


def _scale(axes: Any, figures: Sequence[Mapping[str, Any]], log: bool) -> None:
    goals = [one["at_least"] for one in figures if one["at_least"] is not None]
    low = min(one["low"] for one in figures)
    high = max([one["high"] for one in figures] + goals)
    if log:
        axes.set_xscale("log")
        low, high = 0.85 * min(low, 0.97), 1.4 * max(high, 1.0)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(low, high)
        axes.axvline(1.0, color=_LIMIT, linewidth=0.8)
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_xlim(min(0.0, 1.15 * low), 1.15 * high)
        axes.axvline(0.0, color=_LIMIT, linewidth=0.8)


def _legend(verdicts: Collection[str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = {"reached": "goal reached", "missed": "goal missed", BY_ANOTHER: f"goal {BY_ANOTHER}", "": "no goal"}
    handles: list[Any] = [
        Patch(color=_COLOURS[verdict], label=name) for verdict, name in names.items() if verdict in verdicts
    ]
    mark = {"marker": "|", "linestyle": "none", "markersize": 12, "markeredgewidth": 2.2}
    return [
        *handles,
        Line2D([], [], color=_LIMIT, label="goal", **mark),
        Line2D([], [], color=_LIMIT, label="quartiles"),
    ]


def _roofline(path: Path, results: Sequence[Mapping[str, Any]], peak: float) -> Path:
    """GFLOP/s of every kernel over its FLOP per byte, below the limits."""
    from matplotlib import pyplot

    kernels = [row for row in results if "milliseconds" in row["sides"].get("kernel", {})]
    bandwidths = [row["sides"]["bandwidth"]["gigabytes_per_second"] for row in kernels]
    intensities = [_intensity(row) for row in kernels]
    figure, axes = pyplot.subplots(figsize=(11, 5.5), layout="constrained")
    knees = [peak / bandwidth for bandwidth in bandwidths]
    low, high = min(intensities + knees) / 2, max(intensities + knees) * 2
    for bandwidth, style, size in ((max(bandwidths), "-", "fastest"), (min(bandwidths), "--", "slowest")):
        knee = peak / bandwidth
        name = f"{bandwidth:.0f} GB/s, {size} size"
        axes.plot([low, knee], [low * bandwidth, peak], style, color=_LIMIT, linewidth=1.5, label=name)
    axes.plot([min(knees), high], [peak, peak], color=_LIMIT, linewidth=2.5, label=f"FMA {peak:.0f} GFLOP/s")
    markers, colours = "osD^vP*X<>hp", pyplot.get_cmap("tab10").colors
    groups = list(dict.fromkeys(row["group"] for row in kernels))
    for index, (row, intensity) in enumerate(zip(kernels, intensities, strict=True)):
        style = {"color": colours[groups.index(row["group"]) % 10], "marker": markers[index % len(markers)]}
        name = f"{row['group']}  {row['label']}"
        axes.plot(intensity, row["sides"]["kernel"]["gigaflops"], linestyle="none", markersize=8, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="FLOP per byte that must be moved", ylabel="GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_title("Kernels below the roofline measured in the same run", loc="left")
    axes.grid(True, which="major", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return save(figure, path)


def _intensity(row: Mapping[str, Any]) -> float:
    side = row["sides"]["kernel"]
    return side["gigaflops"] / side["gigabytes_per_second"]


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
    pyplot.close(figure)
    return path
