"""`maam reproduce`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MaamError
from ..files import check_writable
from ..interrupt import held_interrupts
from .common import Data

if TYPE_CHECKING:
    from ..reproduce.runner import Job, Places
    from ..reproduce.settings import Run


class Target(str, enum.Enum):
    """What to reproduce."""

    table1 = "table1"
    table2 = "table2"
    figure2 = "figure2"
    claims = "claims"
    variants = "variants"
    past = "past"
    search = "search"
    all = "all"


def reproduce(
    target: Annotated[
        Target,
        typer.Argument(
            help="table1: MAAM and its baselines; table2: its ablations; figure2: loss against epoch; claims: short "
            "measurements of the other claims; variants: other readings of the paper; past: beyond the paper's "
            "accuracy; search: other recipes and branches, on held-out images; all: everything but search."
        ),
    ] = Target.all,
    data: Data = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the report.")] = Path("out/reproduce"),
    results: Annotated[
        Path, typer.Option(help="Folder for the small result files of finished runs, made to be committed.")
    ] = Path("results"),
    seeds: Annotated[
        str, typer.Option(metavar="N|LIST", help="Seeds 0 to N - 1, or a list with commas: 3,4,7 (one seed: 5,).")
    ] = "3",
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Train this run alone; may be repeated.", show_default=False),
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Take the runs from the YAML files of this folder.", show_default=False),
    ] = None,
    torch_python: Annotated[
        Path | None,
        typer.Option(
            "--torch",
            metavar="PYTHON",
            help="For claims: the interpreter of an environment with PyTorch, where this one has none.",
            show_default=False,
        ),
    ] = None,
    from_results: Annotated[
        bool, typer.Option("--from-results", help="Train and measure nothing: report on the results that are there.")
    ] = False,
) -> None:
    """Train what the paper's tables and figure show, measure its claims, and report theirs beside ours.

    Stop it at any time, by Ctrl-C or otherwise: the same command continues at the last finished epoch or later. Without
    --data the runs train on the embedded digits, which checks the machinery and says nothing about the paper.
    """
    # Before NumPy is imported, too: its threads would take the Ctrl-C that this one holds back.
    with held_interrupts() as interrupted:
        from ..reproduce import report, settings

        report.require()
        known = settings.load_runs(runs or settings.RUNS)
        chosen = settings.choose(known, target.value, run)
        if not from_results:
            check_writable(out, "--out")
            check_writable(results, "--results")
            wanted = parse_seeds(seeds)
            if chosen:
                _train(data, out, results, wanted, chosen, known, interrupted)
            # Whoever names runs waits for those alone.
            if target is Target.claims or (target is Target.all and not run):
                _measure(out, results, torch_python, interrupted)
        for path in report.write(results, out, known):
            typer.echo(f"wrote {path}")


def parse_seeds(text: str) -> list[int]:
    """ "3" -> [0, 1, 2]; "3,7" -> [3, 7]."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or (numbers == [0] and "," not in text):
        raise MaamError(f"--seeds: got {text!r}, expected a number of seeds, or seeds with commas")
    return sorted(set(numbers)) if "," in text else list(range(numbers[0]))


def _train(
    data: Path | None,
    out: Path,
    results: Path,
    seeds: Sequence[int],
    runs: Sequence[Run],
    known: Mapping[str, Run],
    interrupted: Callable[[], bool],
) -> None:
    from ..data import load_data
    from ..reproduce import claims
    from ..reproduce.results import DataMark
    from ..reproduce.runner import Job, Places, check_data, is_finished, locked

    # Read here as well, for the error of a bad folder to come before anything is started.
    images = load_data(data)
    places = Places(data, out, results, DataMark(images.name, images.fingerprint))
    check_data(known.values(), places)
    del images
    # The report after the first run would stumble over it, hours later.
    claims.read(results)
    # Seed by seed: after the first round the report has every row.
    jobs = [Job(run, seed) for seed in seeds for run in runs]
    with locked(out, interrupted, typer.echo) as lock:
        left = [job for job in jobs if not is_finished(job, places)]
        typer.echo(f"{len(jobs)} runs, {len(jobs) - len(left)} of them finished; results in {results}")
        _train_jobs(left, places, lock, known, interrupted)


def _measure(out: Path, results: Path, torch_python: Path | None, interrupted: Callable[[], bool]) -> None:
    from ..reproduce import claims
    from ..reproduce.runner import locked

    # A training beside it would be measured too.
    with locked(out, interrupted, typer.echo):
        claims.measure_all(results, typer.echo, interrupted, torch_python)


def _train_jobs(
    left: list[Job], places: Places, lock: int, known: Mapping[str, Run], interrupted: Callable[[], bool]
) -> None:
    from tqdm import tqdm

    from ..reproduce import report, runner

    estimate = runner.Estimate(left, places)
    for index, job in enumerate(left, start=1):
        estimate.begins()
        with tqdm(unit="step", disable=None, leave=False, desc=f"[{index}/{len(left)}] {job}") as bar:

            def on_event(event: dict[str, Any], job: Job = job, bar: tqdm = bar, index: int = index) -> None:
                if "steps" in event:
                    bar.reset(event["steps"])
                if "step" in event:
                    bar.update(event["step"] - bar.n)
                if "epoch" in event:
                    row = event["epoch"]
                    estimate.saw(job, row["epoch"])
                    left_in_all = _duration(estimate.left())
                    bar.set_postfix_str(f"about {left_in_all} left in all")
                    bar.write(
                        f"[{index}/{len(left)}] {job}  epoch {row['epoch']}/{job.run.config.epochs}  "
                        f"train loss {row['train_loss']:.4f}  test accuracy {row['test_accuracy']:.4f}  "
                        f"{row['seconds']:.0f} s  about {left_in_all} left in all"
                    )
                    sys.stdout.flush()  # a log that is followed shows the epoch now, not a buffer later

            try:
                runner.train(job, places, lock, on_event, interrupted)
            except runner.Interrupted:
                typer.echo(f"stopped in {job}; the same command continues there", err=True)
                raise typer.Exit(130) from None
        estimate.finished(job)
        # After each, whatever stops the rest.
        report.write(places.results, places.out, known)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
