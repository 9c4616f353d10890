"""How figures become verdicts: on the rows of the report and on the claims."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from maam.reproduce import report, settings
from maam.reproduce.claims.figures import FUSIONS, RACES, Figures
from maam.reproduce.claims.judge import judge


@pytest.mark.parametrize(
    ("ours", "verdict", "sentence"),
    [
        ([0.868, 0.874], "same", "Reproduced: 0.1 points from"),
        ([0.75, 0.91], "lower", "Not reproduced: 4.0 points below"),
        ([0.90, 0.91], "higher", "Not reproduced: 3.5 points above"),
        ([0.80], "lower", "7.0 points below the paper's number (one seed, so the spread is unknown)"),
        ([], "none", "Not trained yet."),
    ],
)
def test_verdict_is_by_difference_and_spread(ours: list[float], verdict: str, sentence: str) -> None:
    spread = float(np.std([100 * value for value in ours], ddof=1)) if len(ours) > 1 else 0.0
    run = settings.load_runs()["maam"]
    difference = 100 * (np.mean(ours) - 0.87) if ours else None
    got = report._verdict(difference, spread, len(ours))
    assert got == verdict
    assert sentence in report._sentence(run, got, difference, report._seeds(len(ours)), "")


def test_claims_are_judged_by_their_figures() -> None:
    names = ("unfused", *FUSIONS)
    figures = Figures(
        parameters={"authors": 8_405_453, "multi-scale": 2_100_000},
        kernels={race: dict(zip(names, (100, 90, 90, 85, 70), strict=True)) for race in ("step", "inference")},
        seconds={race: dict.fromkeys(names, 0.1) for race in ("step", "inference", "step, multi-scale")},
        ratios={race: dict(zip(FUSIONS, (1.0, 0.9, 1.2, 2.0), strict=True)) for race in ("step", "inference")},
        quartiles={
            race: dict(zip(FUSIONS, ((0.9, 1.1), (0.8, 0.95), (1.1, 1.3), (1.9, 2.1)), strict=True))
            for race in ("step", "inference")
        },
        failed={"step, PyTorch": "torch is not installed"},
    )
    holds = {claim.claim: claim.holds for claim in judge(figures)}
    assert len(holds) == len(judge(figures))
    by_fusion = "yes, with everything this package fuses; no, with aggregate_reduce alone"
    assert holds["Operator fusion takes 20 % off the graph's nodes, inference"] == by_fusion
    assert holds["Operator fusion makes training 30 % faster, in MindSpore alone"] == by_fusion
    assert holds["MindSpore with operator fusion trains 30 % faster than PyTorch"].endswith("torch is not installed")
    assert holds["The dynamic graph makes training efficient"] == "not measured"
    assert holds["MAAM has 2.3 M parameters"].startswith("no")
    contributions = "no: slower than unfused: reduce; not told from unfused: aggregate"
    assert holds["Each fused operator contributes, inference"] == contributions
    json.dumps([claim.__dict__ for claim in judge(figures)])


@pytest.mark.parametrize(("ratio", "holds"), [(2.0, "yes"), (0.5, "no")])
def test_every_claim_is_judged_where_every_race_was_run(ratio: float, holds: str) -> None:
    races = {race: [side.removeprefix("claims: ") for side in sides] for race, (_, sides) in RACES.items()}
    figures = Figures(
        parameters={"authors": 8_405_453, "multi-scale": 2_100_000},
        kernels={
            race: {side: 100 - 10 * (ratio > 1) * index for index, side in enumerate(races[race])}
            for race in ("step", "inference")
        },
        seconds={
            race: {side: 0.1 / (1 if side in ("unfused", "PyTorch") else ratio) for side in sides}
            for race, sides in races.items()
        },
        ratios={race: dict.fromkeys(sides[1:], ratio) for race, sides in races.items()},
        quartiles={race: dict.fromkeys(sides[1:], (0.9 * ratio, 1.1 * ratio)) for race, sides in races.items()},
    )
    judged = {claim.claim: re.split("[:,]", claim.holds)[0] for claim in judge(figures)}
    assert "not measured" not in judged.values()
    for claim in (
        "Operator fusion takes 20 % off the graph's nodes, training step",
        "MindSpore with operator fusion trains 30 % faster than PyTorch",
        "Operator fusion makes training 30 % faster, in MindSpore alone",
        "Each fused operator contributes, inference",
        "Mixed precision speeds training up (on CPU)",
    ):
        assert judged[claim] == holds, claim
