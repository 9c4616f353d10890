"""The verdicts on the paper's claims are drawn from the stored figures when the report is written."""

from __future__ import annotations

import json
from pathlib import Path

from maam.reproduce import claims

from .result_files import from_results, write_result, write_runs

COMMITTED = Path(__file__).resolve().parents[2] / "results"


def test_claims_on_fusion_say_what_was_fused() -> None:
    figures, _ = claims.read(COMMITTED)
    figures.kernels["inference"]["aggregate_reduce"] = figures.kernels["inference"]["unfused"]
    judged = {claim.claim: claim for claim in claims.judge(figures)}
    both = judged["Operator fusion takes 20 % off the graph's nodes, training step"]
    assert both.holds == "yes, with everything this package fuses and with aggregate_reduce alone"
    assert "88% fewer executed kernels, 20% with aggregate_reduce alone" in both.measured
    split = "yes, with everything this package fuses; no, with aggregate_reduce alone"
    for claim, own in (
        ("Operator fusion takes 20 % off the graph's nodes, inference", ", 0% with aggregate_reduce alone"),
        ("MindSpore with operator fusion trains 30 % faster than PyTorch", "about 92% more time with aggregate_reduce"),
        ("Operator fusion makes training 30 % faster, in MindSpore alone", ", 9% less time with aggregate_reduce"),
    ):
        assert judged[claim].holds == split and own in judged[claim].measured
    del figures.ratios["step"], figures.seconds["step"]
    alone = {claim.claim: claim.holds for claim in claims.judge(figures)}
    assert alone["MindSpore with operator fusion trains 30 % faster than PyTorch"] == split.partition(";")[0]
    assert alone["Branches at 32x32, 16x16 and 8x8 with kernels of their own cost little"] == "not measured"


def test_the_report_judges_stored_figures_and_counts_parameters_itself(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={})
    write_result(tmp_path / "results")
    stored = json.loads((COMMITTED / claims.CLAIMS_NAME).read_text())
    assert "parameters" not in stored["figures"]
    # As the file was before: the count of a preset that has changed since.
    stored["figures"]["parameters"] = {"authors": 1, "multi-scale": 1}
    (tmp_path / "results" / claims.CLAIMS_NAME).write_text(json.dumps(stored))
    result = from_results(tmp_path)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "yes, with everything this package fuses; no, with" in text
    assert "| authors 8,405,453; all presets: authors 8,405,453" in text and "; 2,124,749 parameters" in text
