"""The settings of a run and what each does: schedule, average, smoothing, patience, images held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from maam import MaamError, checkpoint
from maam.averaging import EVERY, WeightAverage
from maam.config import CHECKPOINT_NAME
from maam.data import ImageData
from maam.schedule import is_flat, rate_at
from maam.train import Trainer, make_loss

from .training import CONFIG


def test_average_of_the_weights_follows_its_formula() -> None:
    weight = Parameter(Tensor(np.array([1.0, 2.0], np.float32)), name="w")
    average = WeightAverage([weight], decay=0.5)
    expected, decay = weight.asnumpy().copy(), 0.5**EVERY
    for step in range(1, 4 * EVERY + 1):
        weight.set_data(Tensor(np.array([step, -step], np.float32)))
        average.update(step)
        if step % EVERY == 0:
            kept = min(decay, step / EVERY / (step / EVERY + 9))
            expected = kept * expected + (1 - kept) * np.array([step, -step])
    np.testing.assert_allclose(average.entries()[0].asnumpy(), expected, rtol=1e-6)
    with average.applied():
        np.testing.assert_allclose(weight.asnumpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(weight.asnumpy(), [4 * EVERY, -4 * EVERY])


def test_schedule_reaches_the_optimizer(digits: ImageData) -> None:
    weights: dict[str, list[np.ndarray]] = {}
    for schedule in ("constant", "cosine"):
        trainer = Trainer(replace(CONFIG, schedule=schedule), digits)
        weights[schedule] = [trainer.net.classifier[3].weight.asnumpy().copy()]

        def keep(step: int, loss: float, trainer: Trainer = trainer, schedule: str = schedule) -> None:
            weights[schedule].append(trainer.net.classifier[3].weight.asnumpy().copy())

        trainer.fit(None, keep, stop=lambda schedule=schedule: len(weights[schedule]) == 3)
    constant, cosine = weights["constant"], weights["cosine"]
    np.testing.assert_array_equal(cosine[1], constant[1])
    # From equal weights, Adam's second steps differ by the learning rate alone.
    step = np.abs(constant[2] - constant[1])
    share = (np.abs(cosine[2] - cosine[1])[step > 1e-4] / step[step > 1e-4]).mean()
    assert share == pytest.approx(rate_at("cosine", 0.0, 1, 8), rel=1e-3)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_label_smoothing_is_that_of_its_definition(impl: str, rng: np.random.Generator) -> None:
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    labels = rng.integers(0, 5, 6).astype(np.int32)
    loss, _ = make_loss(nn.Identity(), 0.2, impl)(Tensor(logits), Tensor(labels))
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = 0.8 * np.eye(5)[labels] + 0.2 / 5
    assert float(loss.asnumpy()) == pytest.approx(-(targets * logs).sum(1).mean(), rel=1e-5)


def test_flat_training_loss_ends_the_run_and_so_does_its_resumption(digits: ImageData, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=9, learning_rate=1e-9, patience=2)
    trainer = Trainer(config, digits)
    assert trainer.fit(tmp_path) and trainer.stopped_early
    assert len(trainer.rows) == 3
    resumed = Trainer(config, digits, checkpoint.load(tmp_path / CHECKPOINT_NAME))
    assert resumed.finished and resumed.fit(tmp_path) and len(resumed.rows) == 3


def test_held_out_images_are_not_trained_on(digits: ImageData) -> None:
    trainer = Trainer(replace(CONFIG, hold_out=200, train_images=None, test_images=None), digits)
    np.testing.assert_array_equal(trainer.train_set.images, digits.train.images[:1200])
    np.testing.assert_array_equal(trainer.test_set.images, digits.train.images[1200:])
    with pytest.raises(MaamError, match=r"hold_out must be 1 to 1399 .*, got 1400"):
        Trainer(replace(CONFIG, hold_out=1400), digits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 to 4294967295, got -1"),
        ({"learning_rate": float("nan")}, "learning rate must be a positive number, got nan"),
        ({"weight_decay": -1.0}, "weight decay must be a number of at least 0, got -1.0"),
        ({"amp": "O1"}, "amp must be one of O0, O2, O3, got 'O1'"),
        ({"schedule": "step"}, "schedule must be one of constant, cosine, one-cycle, got 'step'"),
        ({"decay": "none"}, "decay must be one of l2, decoupled, got 'none'"),
        ({"decay": "decoupled", "amp": "O2"}, "decay 'decoupled' has no loss scaling, expected amp O0, got 'O2'"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, got 1.0"),
        ({"ema": float("nan")}, "ema must be at least 0 and below 1, got nan"),
        ({"label_smoothing": -0.1}, "label_smoothing must be at least 0 and below 1, got -0.1"),
        ({"clip_norm": float("inf")}, "clip_norm must be a number of at least 0, got inf"),
        ({"cutout": -1}, "cutout must be at least 0, got -1"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
    ],
)
def test_bad_settings_are_named(change: dict, message: str) -> None:
    with pytest.raises(MaamError, match=message):
        replace(CONFIG, **change)


def test_image_size_must_be_that_of_the_data(digits: ImageData) -> None:
    with pytest.raises(MaamError, match="option image_size is 16, but the images of this data set have 32"):
        Trainer(replace(CONFIG, overrides={"image_size": 16}), digits)


def test_learning_rate_follows_its_schedule() -> None:
    assert [rate_at("constant", 0.0, step, 10) for step in (0, 9)] == [1.0, 1.0]
    assert rate_at("constant", 0.2, 0, 10) == pytest.approx(1 / 25)
    assert rate_at("constant", 0.2, 2, 10) == 1.0
    assert rate_at("cosine", 0.0, 5, 10) == pytest.approx(0.5)
    assert rate_at("one-cycle", 0.5, 5, 10) == pytest.approx(1.0)
    assert [rate_at("one-cycle", 0.5, step, 10) for step in (6, 9)] == pytest.approx([0.8, 0.2])
    for schedule in ("cosine", "one-cycle"):
        rates = [rate_at(schedule, 0.3, step, 100) for step in range(100)]
        assert rates.index(max(rates)) == 30 and 0 < rates[-1] < 0.02
        assert rates[:31] == sorted(rates[:31]) and rates[30:] == sorted(rates[30:], reverse=True)


def test_flatness_looks_at_the_best_of_the_last_epochs() -> None:
    assert not is_flat([1.0, 1.0, 1.0], patience=0, min_improvement=0.1)
    assert not is_flat([1.0, 1.0], patience=2, min_improvement=0.1)
    assert is_flat([1.0, 0.95, 0.92], patience=2, min_improvement=0.1)
    assert not is_flat([1.0, 0.89, 0.95], patience=2, min_improvement=0.1)
