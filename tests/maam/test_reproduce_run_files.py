"""Run files with something wrong in them: one line that names the file and the entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maam import MaamError
from maam.data import ImageData
from maam.data.digits import TEST_IMAGES, TRAIN_IMAGES
from maam.reproduce import report, settings

from .result_files import write_runs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "x"}, "order is 'x', expected int or float"),
        ({"order": True}, "order is True, expected int or float"),
        ({"title": 5}, "title is 5, expected str"),
        ({"reading": ["a"]}, r"reading is \['a'\], expected str"),
        ({"group": ["table1"]}, r"group is \['table1'\], expected str"),
        ({"paper": 3}, "paper is 3, expected scores by name: accuracy, macro_f1"),
        ({"paper": {"accuracy": "high"}}, "paper's accuracy is 'high', expected a number from 0 to 1"),
        ({"paper": {"accuracy": 87}}, "paper's accuracy is 87, expected a number from 0 to 1"),
        ({"paper": {"accuracy": float("nan")}}, "paper's accuracy is nan, expected a number from 0 to 1"),
        ({"paper": {"accurcy": 0.87}}, "paper has an unknown score 'accurcy'; the scores are accuracy, macro_f1"),
        ({"of": ["maam"]}, r"of is \['maam'\], expected str"),
        ({"of": "maaam"}, "of is 'maaam', expected another run: maam"),
        ({"of": "x"}, "of is 'x', expected another run: maam"),
    ],
)
def test_entries_of_a_run_are_checked(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    runs = write_runs(tmp_path, maam={}, x={"of": "maam", "paper": {"accuracy": 1}, "order": 1.5})
    assert settings.load_runs(runs)["x"].of == "maam"
    write_runs(tmp_path, x=change)
    with pytest.raises(MaamError, match=rf"x\.yaml: {message}"):
        settings.load_runs(runs)


def test_a_paper_that_gives_no_accuracy_leaves_a_gap(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, maam={"paper": {"macro_f1": 0.5}}, x={"of": "maam", "group": "table2"})
    known = settings.load_runs(runs)
    (row,) = report.context(known, dict.fromkeys(known, ()), None)["groups"]["table2"]
    assert row.paper["accuracy"] == 87 and row.paper_change is None


def test_every_run_fits_the_digits(digits: ImageData) -> None:
    assert (len(digits.train), len(digits.test)) == (TRAIN_IMAGES, TEST_IMAGES)
    for run in settings.load_runs().values():
        config = run.config_for(3, "digits")
        data = digits.held_out(config.hold_out) if config.hold_out else digits
        assert len(data.train.head(config.train_images)) >= config.batch_size and data.test.head(config.test_images)
        assert run.config_for(3, "cifar10") == replace(run.config, seed=3)
    held_out = settings.load_runs()["search-best-cutout"].config_for(0, "digits")
    assert (held_out.hold_out, held_out.train_images) == (140, 1260)
