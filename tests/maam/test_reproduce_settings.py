"""What `maam reproduce` and `maam train --recipe` are asked for: options, files of runs, the packaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from maam.errors import MaamError
from maam.reproduce import settings

from .command_line import maam, one_line_error
from .runs import MAAM, write_runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "--seeds: got '0', expected a number of seeds"),
        (("--seeds", "1,x"), "--seeds: got '1,x', expected a number of seeds"),
        (("--run", "nobody"), "--run: got 'nobody', expected one of maam, cnn"),
        (("--runs", "/nowhere"), "--runs /nowhere: got no .yaml file"),
    ],
)
def test_bad_options_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    places = ("--out", tmp_path / "out", "--results", tmp_path / "results")
    assert message in one_line_error(maam("reproduce", "table1", *places, *arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "unknown entry 'titel'"),
        ({None: "x", 1: 2}, "got an entry named None, expected text"),
        ({"train": {1: 2}}, "got an entry named 1, expected text"),
        ({"group": "table9"}, "group is 'table9', expected one of table1, table2"),
        ({"train": {"lr": 1}}, "unknown setting 'lr'; the settings are preset, overrides"),
        ({"train": {"epochs": 0}}, "epochs must be at least 1, got 0"),
        ({"train": {"epochs": "ten"}}, "epochs must be of type int, got 'ten'"),
        ({"train": 3}, "train is 3, expected settings by name"),
    ],
)
def test_bad_run_files_are_named(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(MaamError, match=rf"x\.yaml: .*{message}"):
        settings.load_runs(write_runs(tmp_path / "runs", x={**MAAM, **change}))
    (tmp_path / "runs" / "x.yaml").write_text("a: [")
    with pytest.raises(MaamError, match=r"x\.yaml: not valid YAML"):
        settings.load_runs(tmp_path / "runs")


def test_packaged_runs_are_the_paper_s() -> None:
    runs = settings.load_runs()
    paper = {name: run.paper["accuracy"] for name, run in runs.items() if run.paper}
    assert paper == {
        "maam": 0.870, "cnn": 0.583, "mlp": 0.496, "rnn": 0.319, "no-attention": 0.320, "no-reduce": 0.255,
    }  # fmt: skip
    authors = runs["maam"].config
    assert (authors.preset, authors.epochs, authors.batch_size) == ("authors", 50, 64)
    assert (authors.learning_rate, authors.weight_decay, authors.schedule) == (1e-3, 1e-4, "constant")
    assert [run.name for run in settings.choose(runs, "table1")] == ["maam", "cnn", "mlp", "rnn"]
    assert all(run.of is None or run.of in runs for run in runs.values())


def test_train_takes_its_settings_from_a_recipe(tmp_path: Path) -> None:
    recipe = write_runs(tmp_path, mine=MAAM) / "mine.yaml"
    digits = ["--set", "channels=3", "--out", tmp_path / "run"]
    result = maam("train", "--recipe", recipe, "--epochs", 1, *digits)
    assert result.exit_code == 0, result.output
    assert "96 training and 40 test images" in result.output and "epoch   1/1" in result.output
    assert "--recipe: got 'nobody', expected a .yaml file or one of" in one_line_error(
        maam("train", "--recipe", "nobody")
    )
    changed = maam("train", "--resume", tmp_path / "run", "--epochs", 2)
    assert "its schedule one-cycle ends there" in one_line_error(changed)
