"""One report, Markdown and HTML, from the result files alone."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MaamError
from ..files import atomic_path
from . import claims, plots
from . import results as files
from .results import Result
from .settings import SCORES, Run

TEMPLATES = Path(__file__).parent / "templates"
# Goals of the runs that go past the paper.
GOALS = "accuracy of at least 90 %, at most 2.34 M parameters, at most 3 hours of training on 2 cores"
# Points by which an accuracy may always differ and still count as the same, however close the seeds are to each other:
# two or three of them can be so by chance.
SAME = 1.0
# Where seeds differ a lot, at most this many points count as the same.
SAME_AT_MOST = 3.0
# The accuracies of a row's seeds, in per cent.
Measure = Callable[[Sequence[Result]], list[float]]


@dataclass(frozen=True)
class Row:
    """A run beside the paper; scores in per cent, None where there is none.

    `difference` is ours less the paper's; `settled` :attr:`Result.settled` with its spread, `change` that less the
    base's where the run is of another, `paper_change` the same of the paper's numbers. `augmented` is the accuracy on
    test images treated like training images, `best_epoch` the highest test accuracy of all epochs: shown because the
    paper may mean one of them.
    """

    run: Run
    seeds: int
    paper: Mapping[str, float | None]
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    difference: float | None
    settled: str
    change: float | None
    paper_change: float | None
    augmented: float | None
    best_epoch: float | None
    parameters: int | None
    epochs: str
    hours: float | None
    verdict: str
    sentence: str

    @property
    def accuracy(self) -> str:
        return self.score("accuracy")

    def score(self, name: str) -> str:
        """Mean and spread as text, "-" without a result."""
        return _text(self.mean[name], self.spread[name], self.seeds)


def require() -> None:
    """Raise :class:`MaamError` if the libraries of the report are missing."""
    for module, package in (("matplotlib", "matplotlib"), ("jinja2", "Jinja2"), ("yaml", "PyYAML")):
        if find_spec(module) is None:
            raise MaamError(f"the report needs {package}: pip install 'maam-ops[reproduce]'")


def write(results: Path, out: Path, runs: Mapping[str, Run]) -> list[Path]:
    """Write `report.md` with its plots, and the self-contained `report.html`, into `out`; returns their paths.

    Raises:
        MaamError: there is nothing to report on, it is damaged or of different images, or `out` cannot be written to.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = {name: files.read_all(results, name) for name in runs}
    _check_one_data(results, found)
    judged = _claims(results)
    if not any(found.values()) and judged is None:
        raise MaamError(
            f"--results {results}: got no finished run, expected RUN/seedK/{files.RESULT_NAME} in it; name the folder "
            "of results, or leave --from-results out to train"
        )
    images = plots.draw(list(runs.values()), found)
    content = {**context(runs, found, judged), "plots": list(images)}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and ".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    encoded = {name: base64.b64encode(image).decode() for name, image in images.items()}
    texts = {
        "report.md": environment.get_template("report.md.j2").render(**content),
        "report.html": environment.get_template("report.html.j2").render(**content, images=encoded),
    }
    written = []
    try:
        (out / "plots").mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            with atomic_path(out / "plots" / f"{name}.png") as temporary:
                temporary.write_bytes(image)
        for name, text in texts.items():
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            written.append(out / name)
    except OSError as error:
        raise MaamError(f"--out {out}: the report cannot be written: {error.strerror}") from error
    return written


def _check_one_data(folder: Path, found: Mapping[str, Sequence[Result]]) -> None:
    """Raise :class:`MaamError` unless all results are of the same images: no mean or difference would mean anything."""
    first: Result | None = None
    for result in (result for results in found.values() for result in results):
        first = first or result
        if result.data != first.data:
            raise MaamError(
                f"results {folder}: {first.run} seed {first.seed} was obtained on {first.data}, {result.run} seed "
                f"{result.seed} on {result.data}; move the one or the other to another --results folder"
            )


def _claims(results: Path) -> dict[str, Any] | None:
    """The claims, judged by the figures that `maam reproduce claims` measured; None without."""
    stored = claims.read(results)
    if stored is None:
        return None
    figures, machine = stored
    return {"claims": claims.judge(figures), "machine": machine}


def context(
    runs: Mapping[str, Run], found: Mapping[str, Sequence[Result]], judged: dict[str, Any] | None
) -> dict[str, Any]:
    """What the templates show."""
    usual = {measure: _usual_spread(found.values(), measure) for measure in (_accuracies, _settled)}
    rows = {name: _row(run, found[name], runs, found, usual) for name, run in runs.items()}
    groups = {group: [row for row in rows.values() if row.run.group == group] for group in _groups(runs)}
    every = [result for results in found.values() for result in results]
    return {
        "groups": groups,
        "searched": [row for row in groups["search"] if row.seeds],
        "not_searched": [row.run.name for row in groups["search"] if not row.seeds],
        "maam": rows.get("maam"),
        "scores": SCORES,
        "goals": GOALS,
        "claims": judged,
        "finished": len(every),
        "test_images": _images(result for result in every if result.summary["evaluated_on"] == "test set"),
        "held_out": _images(result for result in every if result.summary["evaluated_on"] != "test set"),
        "notes": _notes(every),
        "machines": sorted({_machine(result.summary["machine"]) for result in every}),
        "commits": sorted({result.summary["machine"]["commit"] or "unknown" for result in every}),
    }


def _images(results: Iterable[Result]) -> str:
    """How many images these were scored on, as text; "" without results."""
    counts = sorted({result.summary["test_images"] for result in results})
    return " to ".join(f"{count:,}" for count in dict.fromkeys(counts[:1] + counts[-1:]))


def _groups(runs: Mapping[str, Run]) -> list[str]:
    return ["table1", "table2", "variants", "past", "search"]


def _row(
    run: Run,
    results: Sequence[Result],
    runs: Mapping[str, Run],
    found: Mapping[str, Sequence[Result]],
    usual: Mapping[Measure, float],
) -> Row:
    paper = _paper(run)
    mean = {name: _mean(_percents(results, name)) for name in SCORES}
    spread = {name: _spread(_percents(results, name)) for name in SCORES}
    of = runs.get(run.of)
    settled, bases = _settled(results), _settled(found.get(run.of, ()))
    difference = _less(mean["accuracy"], paper["accuracy"])
    change = _less(_mean(settled), _mean(bases))
    epochs = sorted({int(result.summary["epochs"]) for result in results})
    judged, sides, usually = difference, [_accuracies(results)], usual[_accuracies]
    if run.group == "variants":
        judged, sides, usually = change, [settled, bases], usual[_settled]
    # One seed says nothing of its spread: the rows that have several stand in for it.
    noise = max(_spread(side) if len(side) > 1 else usually for side in sides)
    verdict = _verdict(judged, noise, len(results))
    return Row(
        run=run,
        seeds=len(results),
        paper=paper,
        mean=mean,
        spread=spread,
        difference=difference,
        settled=_text(_mean(settled), _spread(settled), len(results)),
        change=change,
        paper_change=_less(paper["accuracy"], _paper(of)["accuracy"]),
        augmented=_mean([100 * result.summary["augmented_test"]["accuracy"] for result in results]),
        best_epoch=_mean([100 * max(row["test_accuracy"] for row in result.epochs) for result in results]),
        parameters=results[0].summary["parameters"] if results else None,
        epochs="" if not epochs else str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}",
        hours=_mean([result.summary["training_seconds"] / 3600 for result in results]),
        verdict=verdict,
        sentence=_sentence(run, verdict, judged, _seeds(*map(len, sides), usual=usually), of.title if of else "")
        + (f" {run.remark}" if run.remark else ""),
    )


def _paper(run: Run | None) -> dict[str, float | None]:
    """The paper's scores in per cent, None where it has none."""
    known = {} if run is None else run.paper or {}
    return {name: 100 * known[name] if name in known else None for name in SCORES}


def _verdict(difference: float | None, spread: float, seeds: int) -> str:
    """ "none", "alone" (nothing to compare with), "same", "higher" or "lower"."""
    if seeds == 0:
        return "none"
    if difference is None:
        return "alone"
    if abs(difference) <= min(max(SAME, 2 * spread), SAME_AT_MOST):
        return "same"
    return "higher" if difference > 0 else "lower"


def _seeds(own: int, of: int | None = None, *, usual: float = 0.0) -> str:
    """How many seeds stand behind a difference, and what was taken for their spread where there is one."""
    counts = [own] if of is None or of == own else [own, of]
    text = " against ".join("one seed" if count == 1 else f"{count} seeds" for count in counts)
    if 1 not in counts:
        return text
    return f"{text}; rows of several vary by ± {usual:.1f}" if usual else f"{text}, so the spread is unknown"


def _sentence(run: Run, verdict: str, difference: float | None, seeds: str, of: str) -> str:
    if verdict == "none":
        return "Not trained yet."
    if verdict == "alone" and run.group == "variants":
        return f"Nothing to compare with, {of or 'what it is a variant of'} is not trained yet."
    if verdict == "alone":
        return f"The paper's number is not known to us, or there is none ({seeds})."
    points = f"{abs(difference):.1f} points"
    if run.group == "variants":
        if verdict == "same":
            return f"Cannot be told from seeds: {difference:+.1f} points against {of} ({seeds})."
        return f"This reading makes {of} {'better' if verdict == 'higher' else 'worse'} by {points} ({seeds})."
    if verdict == "same":
        return f"Reproduced: {points} from the paper's number ({seeds})."
    if verdict == "higher":
        return f"Not reproduced: {points} above the paper's number ({seeds})."
    return f"Not reproduced: {points} below the paper's number ({seeds})."


def _percents(results: Sequence[Result], name: str) -> list[float]:
    return [100 * result.scores[name] for result in results]


def _accuracies(results: Sequence[Result]) -> list[float]:
    return _percents(results, "accuracy")


def _settled(results: Sequence[Result]) -> list[float]:
    return [100 * result.settled for result in results]


def _text(mean: float | None, spread: float, seeds: int) -> str:
    """Mean and spread, "-" without a result."""
    if mean is None:
        return "-"
    return f"{mean:.1f} ± {spread:.1f}" if seeds > 1 else f"{mean:.1f}"


def _less(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _usual_spread(found: Iterable[Sequence[Result]], measure: Measure) -> float:
    """Standard deviation of the accuracy over seeds, pooled over the rows that have several; 0 where none has."""
    several = [measure(results) for results in found if len(results) > 1]
    freedom = sum(len(values) - 1 for values in several)
    return math.sqrt(sum((len(values) - 1) * statistics.variance(values) for values in several) / max(freedom, 1))


def _notes(results: Sequence[Result]) -> list[str]:
    """What must be known about the data of the results."""
    notes = []
    for name, mark in sorted({result.data for result in results}):
        if name == "digits":
            notes.append("Trained on the embedded digits: a check of the machinery, to be compared with nothing.")
        else:
            notes.append(f"Data {mark}: " + files.NOTES.get(mark, "a CIFAR-10 folder of yours."))
    return notes


def _machine(machine: Mapping[str, Any]) -> str:
    cpus = "1 CPU" if machine["cpus"] == 1 else f"{machine['cpus']} CPUs"
    return f"{cpus} of {machine['cpu_model']}, MindSpore {machine['mindspore']}, {machine['system']}"
