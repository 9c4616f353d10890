"""Damaged results end in one line that names the file, whatever is wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maam.reproduce import claims

from .command_line import one_line_error
from .result_files import from_results, write_result, write_runs

COMMITTED = Path(__file__).resolve().parents[2] / "results"


def changed(text: str, change: Callable[[dict[str, Any]], None]) -> str:
    content = json.loads(text)
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("metrics.csv", lambda text: "", "got 0 epochs, expected 2"),
        ("metrics.csv", lambda text: text.splitlines()[0] + "\n", "got 0 epochs, expected 2"),
        ("metrics.csv", lambda text: text[: text.rindex("\n2,") + 1], "got 1 epochs, expected 2"),
        ("metrics.csv", lambda text: text.replace("test_loss", "loss"), "epoch 1 has no entry 'test_loss'"),
        ("metrics.csv", lambda text: text.replace("mix_weights", "mix"), "could not convert string to float"),
        ("metrics.csv", lambda text: text.replace(",0.5 0.5\n2", "\n2"), "mix_weights is None"),
        ("metrics.csv", lambda text: text.replace("0.5 0.5\n2", "0.5\n2"), "mix_weights of epoch 2 is '0.5 0.5'"),
        ("metrics.csv", lambda text: text.replace("48.0", "nan"), "images_per_second is nan"),
        ("metrics.csv", lambda text: text.replace("48.0", "1,2"), "damaged"),
        ("confusion.csv", lambda text: "", "got an array of shape (0,), expected 4 x 4"),
        ("confusion.csv", lambda text: text[: len(text) // 2], "damaged"),
        ("confusion.csv", lambda text: text.replace("40", "4"), "sum to 4, expected those of 40 test images"),
        ("result.json", lambda text: changed(text, lambda c: c.pop("data")), "the file has no entry 'data'"),
        ("result.json", lambda text: changed(text, lambda c: c.pop("machine")), "the file has no entry 'machine'"),
        ("result.json", lambda text: text.replace("0.75", '"x"'), "accuracy is 'x', expected a finite number"),
        ("result.json", lambda text: text.replace("0.75", "NaN"), "accuracy is nan, expected a finite number"),
        ("result.json", lambda text: text.replace("0.75", "75"), "accuracy of test is 75, expected 0 to 1"),
        ("result.json", lambda text: text.replace('"cpus": 2', '"cpus": "2"'), "cpus is '2', expected of type int"),
        ("result.json", lambda text: "[1]", "the file is [1], expected entries by name"),
        ("result.json", lambda text: "[" * 100_000, "damaged"),
    ],
)
def test_damaged_results_are_one_line(name: str, damage: Callable[[str], str], message: str, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={})
    path = write_result(tmp_path / "results") / name
    before = path.read_text()
    path.write_text(damage(before))
    assert path.read_text() != before
    error = one_line_error(from_results(tmp_path))
    assert f"{path}: damaged (" in error and message in error
    assert f"delete {path.parent} to train anew" in error


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: '{"claims": 5, "machine": {}}', "no entry 'figures'"),
        (lambda text: changed(text, lambda c: c["machine"].pop("commit")), "machine has no entry 'commit'"),
        (lambda text: changed(text, lambda c: c["figures"].pop("ratios")), "figures has no entry 'ratios'"),
        (lambda text: changed(text, lambda c: c["figures"]["ratios"].pop("step")), "ratios has no entry 'step'"),
        (lambda text: changed(text, lambda c: c["figures"]["kernels"]["step"].update(all="3")), "all is '3'"),
        (
            lambda text: changed(text, lambda c: c["figures"]["seconds"]["step"].update(all=0)),
            "expected a number above",
        ),
        (lambda text: changed(text, lambda c: c["figures"]["quartiles"]["step"].update(all=[1])), "two numbers"),
        (lambda text: changed(text, lambda c: c["figures"]["seconds"].update(steps={})), "the race 'steps'"),
        (lambda text: changed(text, lambda c: c["figures"]["failed"].update(step=3)), "step is 3"),
        (lambda text: text[:-40], "damaged"),
    ],
)
def test_damaged_claims_are_one_line(damage: Callable[[str], str], message: str, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={})
    write_result(tmp_path / "results")
    path = Path(shutil.copy(COMMITTED / claims.CLAIMS_NAME, tmp_path / "results"))
    path.write_text(damage(path.read_text()))
    error = one_line_error(from_results(tmp_path))
    assert f"{path}: damaged (" in error and message in error and "run maam reproduce claims" in error
