"""Results of different images are never averaged, compared or continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maam import MaamError, checkpoint
from maam.config import CHECKPOINT_NAME, TrainConfig
from maam.data import ImageData
from maam.train import Trainer

from .command_line import maam, one_line_error
from .conftest import TINY
from .result_files import from_results, write_result, write_runs

CONFIG = TrainConfig(overrides=TINY, epochs=1, batch_size=32, train_images=64, test_images=20)


@pytest.mark.parametrize("run", ["maam", "other"])
def test_results_of_other_images_are_not_continued(run: str, tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", maam={}, other={})
    folder = write_result(tmp_path / "results", run)
    places = ("--results", tmp_path / "results", "--runs", runs, "--out", tmp_path / "out")
    error = one_line_error(maam("reproduce", "table1", "--run", "maam", "--seeds", 2, *places))
    assert f"results {folder}: obtained on cifar10 0123456789abcdef, but no --data means digits" in error
    assert "name another --results folder" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", [("digits", "0123456789abcdef"), ("cifar10", "fedcba9876543210")])
def test_a_report_refuses_results_of_different_images(other: tuple[str, str], tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={})
    write_result(tmp_path / "results")
    assert from_results(tmp_path).exit_code == 0
    write_result(tmp_path / "results", seed=1, data=other)
    error = one_line_error(from_results(tmp_path))
    assert f"maam seed 0 was obtained on cifar10 0123456789abcdef, maam seed 1 on {' '.join(other)}" in error


def test_a_checkpoint_is_continued_on_its_own_images_alone(digits: ImageData, tmp_path: Path) -> None:
    Trainer(CONFIG, digits).fit(tmp_path)
    source = checkpoint.load(tmp_path / CHECKPOINT_NAME)
    others = replace(digits, test=replace(digits.test, images=np.ascontiguousarray(digits.test.images[..., ::-1])))
    with pytest.raises(MaamError, match=f"got {others.fingerprint}; name the data folder of that run"):
        Trainer(CONFIG, others, source)
    assert Trainer(CONFIG, digits, source).finished
    # As checkpoints were before.
    assert source.meta.pop("fingerprint") == digits.fingerprint
    assert Trainer(CONFIG, digits, source).finished
