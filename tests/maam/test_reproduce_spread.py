"""How rows of ours are compared: by where they settled, and with one seed by the spread of rows that have several."""

from __future__ import annotations

from pathlib import Path

import pytest

from maam.reproduce import report, settings
from maam.reproduce.results import read_all

from .result_files import write_result, write_runs

# Pooled: sqrt((2 * 0.5^2 + 2^2 / 2) / 3) = 0.91 points; 0.79 with one more row whose two seeds agree.
SEVERAL = {"steady": (0.600, 0.605, 0.610), "unsteady": (0.70, 0.72)}


@pytest.mark.parametrize(
    ("variant", "base", "several", "verdict"),
    [
        ((0.485,), (0.500,), SEVERAL, "same"),
        ((0.485,), (0.500,), {}, "lower"),
        ((0.485,), (0.500,), {"steady": SEVERAL["steady"]}, "lower"),
        ((0.480,), (0.500,), SEVERAL, "lower"),
        # Either side with one seed is enough, and with several on both their own count.
        ((0.4849, 0.4851), (0.500,), SEVERAL, "same"),
        ((0.485,), (0.4999, 0.5001), SEVERAL, "same"),
        ((0.4849, 0.4851), (0.4999, 0.5001), SEVERAL, "lower"),
    ],
)
def test_one_seed_is_judged_by_the_spread_of_rows_with_several(
    variant: tuple[float, ...],
    base: tuple[float, ...],
    several: dict[str, tuple[float, ...]],
    verdict: str,
    tmp_path: Path,
) -> None:
    changed = {"group": "variants", "of": "base", "title": "Variant"}
    runs = settings.load_runs(
        write_runs(tmp_path / "runs", base={"title": "Base"}, variant=changed, **{name: {} for name in several})
    )
    for name, accuracies in {"variant": variant, "base": base, **several}.items():
        for seed, accuracy in enumerate(accuracies):
            write_result(tmp_path / "results", name, seed, accuracy)
    found = {name: read_all(tmp_path / "results", name) for name in runs}
    (row,) = report.context(runs, found, None)["groups"]["variants"]
    assert row.verdict == verdict
    assert row.sentence.startswith("Cannot be told from seeds: -1.5 points against Base") == (verdict == "same")
    if several == SEVERAL and 1 in (len(variant), len(base)):
        assert "; rows of several vary by ± 0." in row.sentence


# The last fifth of twelve epochs is two. Their means are 0.600 and 0.530; the last epochs alone say the opposite.
BASE, VARIANT = [0.9] * 10 + [0.7, 0.5], [0.1] * 10 + [0.4, 0.66]


@pytest.mark.parametrize(("schedule", "change"), [("constant", -7.0), ("one-cycle", 16.0)])
def test_rows_are_compared_by_where_a_constant_rate_settled(schedule: str, change: float, tmp_path: Path) -> None:
    runs = settings.load_runs(
        write_runs(tmp_path / "runs", base={}, variant={"group": "variants", "of": "base", "paper": None})
    )
    for name, epochs in {"base": BASE, "variant": VARIANT}.items():
        write_result(tmp_path / "results", name, accuracy=epochs[-1], epochs=epochs, schedule=schedule)
    found = {name: read_all(tmp_path / "results", name) for name in runs}
    groups = report.context(runs, found, None)["groups"]
    (base,), (variant,) = groups["table1"], groups["variants"]
    assert base.accuracy == "50.0"
    assert base.settled == ("60.0" if schedule == "constant" else "50.0")
    assert variant.change == pytest.approx(change)
    assert variant.verdict == ("lower" if change < 0 else "higher")
