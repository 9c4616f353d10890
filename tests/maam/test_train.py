"""Training and resumption, on a model small enough for seconds."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

from maam import MaamError, checkpoint
from maam.config import CHECKPOINT_NAME, METRICS_NAME
from maam.data import ImageData
from maam.evaluate import evaluate, mix_weights, restore_model
from maam.history import read_rows
from maam.schedule import rate_at
from maam.train import Trainer

from .training import CONFIG, EVERYTHING


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in trainer._state()}


@pytest.fixture(scope="module")
def finished(digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path, list[float]]:
    """An uninterrupted run, its folder and its losses."""
    folder = tmp_path_factory.mktemp("finished")
    losses: list[float] = []
    trainer = Trainer(CONFIG, digits)
    assert trainer.fit(folder, lambda step, loss: losses.append(loss))
    return trainer, folder, losses


def test_run_folder_holds_checkpoint_and_one_row_per_epoch(finished: tuple) -> None:
    trainer, folder, losses = finished
    assert sorted(os.listdir(folder)) == [CHECKPOINT_NAME, METRICS_NAME]
    with (folder / METRICS_NAME).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == [(1, 4), (2, 8)]
    assert float(rows[1]["train_loss"]) == pytest.approx(np.mean(losses[4:]))
    assert float(rows[1]["test_accuracy"]) == trainer.rows[1].test_accuracy


def test_training_lowers_the_loss(digits: ImageData) -> None:
    trainer = Trainer(replace(CONFIG, epochs=5, learning_rate=1e-2, train_images=256), digits)
    trainer.fit(None)
    assert trainer.rows[-1].train_loss < 0.8 * trainer.rows[0].train_loss


@pytest.fixture(scope="module")
def finished_with_everything(
    digits: ImageData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trainer, Path, list[float]]:
    """As `finished`, with every option of the recipe in use."""
    folder = tmp_path_factory.mktemp("everything")
    losses: list[float] = []
    trainer = Trainer(EVERYTHING, digits)
    assert trainer.fit(folder, lambda step, loss: losses.append(loss))
    return trainer, folder, losses


@pytest.mark.parametrize(("recipe", "stop_at"), [("plain", 4), ("plain", 6), ("everything", 9), ("everything", 12)])
def test_stopped_and_resumed_run_equals_the_uninterrupted_one(
    recipe: str, stop_at: int, finished: tuple, finished_with_everything: tuple, digits: ImageData, tmp_path: Path
) -> None:
    expected, _, losses = finished if recipe == "plain" else finished_with_everything
    seen: list[float] = []

    def record(step: int, loss: float) -> None:
        seen.append(loss)

    assert not Trainer(expected.config, digits).fit(tmp_path, record, stop=lambda: len(seen) == stop_at)
    resumed = Trainer(expected.config, digits, checkpoint.load(tmp_path / CHECKPOINT_NAME))
    assert resumed.step == stop_at
    assert resumed.fit(tmp_path, record)
    assert seen == losses
    for name, value in state(expected).items():
        np.testing.assert_array_equal(state(resumed)[name], value, err_msg=name)
    for row, other in zip(resumed.rows, expected.rows, strict=True):
        assert (row.step, row.train_loss, row.test_accuracy) == (other.step, other.train_loss, other.test_accuracy)


def test_averaged_weights_are_evaluated_and_restored(finished_with_everything: tuple, digits: ImageData) -> None:
    trainer, folder, _ = finished_with_everything
    source = checkpoint.load(folder / CHECKPOINT_NAME)
    name = "classifier.3.weight"
    weight, average = source.parameters[name].asnumpy(), source.parameters["ema." + name].asnumpy()
    assert not np.array_equal(weight, average)
    np.testing.assert_array_equal(trainer.net.classifier[3].weight.asnumpy(), weight)
    held_out = digits.train.tail(200).head(CONFIG.test_images)
    net = restore_model(source, held_out)
    np.testing.assert_array_equal(net.classifier[3].weight.asnumpy(), average)
    assert evaluate(net, held_out, batch_size=32).loss == pytest.approx(trainer.rows[-1].test_loss, rel=1e-6)


def test_metrics_hold_the_softmax_weights_and_the_learning_rate(finished_with_everything: tuple) -> None:
    trainer, folder, _ = finished_with_everything
    rows = read_rows(folder / METRICS_NAME)
    for row, step in zip(rows, (3, 7, 11, 15), strict=True):
        assert row["learning_rate"] == pytest.approx(5e-3 * rate_at("one-cycle", 0.3, step, 16))
        assert sum(map(float, row["mix_weights"].split())) == pytest.approx(1, abs=1e-5)
    assert rows[-1]["mix_weights"] == " ".join(f"{weight:.6f}" for weight in mix_weights(trainer.net))


def test_checkpoint_restores_the_model_in_every_implementation(finished: tuple, digits: ImageData) -> None:
    trainer, folder, _ = finished
    source = checkpoint.load(folder / CHECKPOINT_NAME)
    test_set = digits.test.head(CONFIG.test_images)
    for impl in ("auto", "reference"):
        metrics = evaluate(restore_model(source, test_set, impl), test_set, batch_size=32)
        assert metrics.accuracy == trainer.rows[-1].test_accuracy
        assert metrics.loss == pytest.approx(trainer.rows[-1].test_loss, rel=1e-5)


@pytest.mark.parametrize("amp", ["O2", "O3"])
def test_mixed_precision_trains_and_keeps_names(amp: str, finished: tuple, digits: ImageData, tmp_path: Path) -> None:
    losses: list[float] = []
    config = replace(CONFIG, amp=amp, epochs=1, impl="reference")
    Trainer(config, digits).fit(tmp_path, lambda step, loss: losses.append(loss))
    np.testing.assert_allclose(losses, finished[2][:4], rtol=2e-2)
    assert losses != finished[2][:4]
    names = checkpoint.load(tmp_path / CHECKPOINT_NAME).parameters.keys()
    assert names == checkpoint.load(finished[1] / CHECKPOINT_NAME).parameters.keys()


def test_loss_that_is_not_finite_ends_the_run(digits: ImageData, tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, digits)
    weight = trainer.net.classifier[3].weight
    weight.set_data(Tensor(np.full(weight.shape, np.nan, np.float32)))
    with pytest.raises(MaamError, match=r"the loss is nan at step 0; lower the learning rate"):
        trainer.fit(tmp_path)
    assert not os.listdir(tmp_path)
