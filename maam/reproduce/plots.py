"""The report's plots, each as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from .results import Result
from .settings import Run

Results = Mapping[str, Sequence[Result]]


def draw(runs: Sequence[Run], results: Results) -> dict[str, bytes]:
    """Every plot there are results for, by name: "figure2", "confusion", "weights", "accuracy"."""
    from matplotlib import use

    use("Agg")
    table1 = [run for run in runs if run.group == "table1" and results.get(run.name)]
    past = [run for run in runs if run.group == "past" and results.get(run.name)]
    plots = {}
    if table1:
        plots["figure2"] = _curves(table1, results, "train_loss", "test_loss", "loss")
        plots["accuracy"] = _curves([*table1, *past], results, "train_accuracy", "test_accuracy", "accuracy")
    for name, what in (("confusion", _confusion), ("weights", _weights)):
        chosen = next((run for run in runs if run.name == "maam" and results.get(run.name)), None)
        if chosen is not None:
            plots[name] = what(chosen, results[chosen.name])
    return plots


def _curves(runs: Sequence[Run], results: Results, training: str, test: str, label: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, run in enumerate(runs):
        for column, style in ((training, "-"), (test, "--")):
            seeds = [[row[column] for row in result.epochs] for result in results[run.name]]
            length = min(map(len, seeds))
            values = np.array([seed[:length] for seed in seeds])
            epochs = np.arange(1, length + 1)
            name = run.title if column == training else None
            axes.plot(epochs, values.mean(axis=0), style, color=f"C{index}", label=name, linewidth=1.4)
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=f"C{index}", alpha=0.15, lw=0)
    axes.set(xlabel="epoch", ylabel=f"{label}: training (solid), test (dashed)")
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def _confusion(run: Run, seeds: Sequence[Result]) -> bytes:
    from matplotlib.figure import Figure

    total = np.sum([result.confusion for result in seeds], axis=0)
    shares = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    classes = seeds[0].summary["data"]["classes"]
    figure = Figure(figsize=(6.5, 5.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=f"{run.title}: per cent of each true class, all seeds")
    return _png(figure)


def _weights(run: Run, seeds: Sequence[Result]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, result in enumerate(seeds):
        values = np.array([[float(part) for part in row["mix_weights"].split()] for row in result.epochs])
        for branch in range(values.shape[1]):
            style = ("-", "--", ":", "-.")[index % 4]
            label = f"branch {branch + 1}" if index == 0 else None
            axes.plot(range(1, len(values) + 1), values[:, branch], style, color=f"C{branch}", label=label)
    axes.set(xlabel="epoch", ylabel="softmax weight", title=f"{run.title}: one line style for each seed")
    axes.grid(alpha=0.3)
    axes.legend()
    return _png(figure)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    # Without the date of drawing: the same results give the same file.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
