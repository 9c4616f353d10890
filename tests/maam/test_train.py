"""Training, resume, checkpoints and figures, on a model small enough for seconds."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.train import checkpoint_pb2
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from maam import MaamError, checkpoint
from maam.averaging import EVERY, WeightAverage
from maam.config import CHECKPOINT_NAME, METRICS_NAME, TrainConfig
from maam.data import ImageData
from maam.evaluate import evaluate, mix_weights, predict, restore_model, score
from maam.files import atomic_path
from maam.history import read_rows
from maam.schedule import is_flat, rate_at
from maam.train import Trainer, make_loss

from .conftest import TINY

CONFIG = TrainConfig(overrides=TINY, epochs=2, batch_size=32, train_images=128, test_images=50, seed=4)


EVERYTHING = replace(
    CONFIG,
    overrides={**TINY, "channels": (4, "pool", 6, "res"), "pool": 2},
    epochs=4,
    learning_rate=5e-3,
    schedule="one-cycle",
    warmup=0.3,
    weight_decay=0.05,
    decay="decoupled",
    clip_norm=1.0,
    label_smoothing=0.1,
    ema=0.9,
    cutout=6,
    test_flip=True,
    hold_out=200,
)


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


def test_metrics_hold_the_softmax_weights_and_the_learning_rate(finished_with_everything: tuple) -> None:
    trainer, folder, _ = finished_with_everything
    rows = read_rows(folder / METRICS_NAME)
    for row, step in zip(rows, (3, 7, 11, 15), strict=True):
        assert row["learning_rate"] == pytest.approx(5e-3 * rate_at("one-cycle", 0.3, step, 16))
        assert sum(map(float, row["mix_weights"].split())) == pytest.approx(1, abs=1e-5)
    assert rows[-1]["mix_weights"] == " ".join(f"{weight:.6f}" for weight in mix_weights(trainer.net))


def test_held_out_images_are_not_trained_on(digits: ImageData) -> None:
    trainer = Trainer(replace(CONFIG, hold_out=200, train_images=None, test_images=None), digits)
    np.testing.assert_array_equal(trainer.train_set.images, digits.train.images[:1200])
    np.testing.assert_array_equal(trainer.test_set.images, digits.train.images[1200:])
    with pytest.raises(MaamError, match=r"hold_out must be 1 to 1399 .*, got 1400"):
        Trainer(replace(CONFIG, hold_out=1400), digits)


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


def save_small(path: Path, value: float = 1.0) -> list[Parameter]:
    parameters = [Parameter(Tensor(np.full((2, 3), value, np.float32)), name=name) for name in ("a", "b")]
    checkpoint.save(path, parameters, {"config": {}, "data": "none"})
    return parameters


def test_damaged_checkpoint_is_named_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    save_small(path)
    whole = path.read_bytes()
    copies = [whole[:size] for size in range(len(whole))]
    copies += [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(len(whole))]
    for content in copies:
        path.write_bytes(content)
        with pytest.raises(MaamError, match=r"checkpoint .*x\.ckpt: damaged"):
            checkpoint.load(path)


def test_an_entry_of_more_dimensions_than_arrays_have_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    file = checkpoint_pb2.Checkpoint()
    entry = file.value.add(tag="a")
    entry.tensor.tensor_type, entry.tensor.tensor_content = "Float32", bytes(4)
    entry.tensor.dims.extend([1] * 32)
    path.write_bytes(file.SerializeToString())
    assert checkpoint.load(path).parameters["a"].asnumpy().shape == (1,) * 32
    entry.tensor.dims.append(1)
    path.write_bytes(file.SerializeToString())
    with pytest.raises(MaamError, match=r"checkpoint .*x\.ckpt: damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("name", "message"), [("none.ckpt", "got no such file"), ("x.txt", r"got suffix '\.txt', expected '\.ckpt'")]
)
def test_checkpoint_path_is_checked(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(MaamError, match=message):
        checkpoint.load(tmp_path / name)


def test_checkpoint_of_another_model_changes_nothing(tmp_path: Path) -> None:
    save_small(tmp_path / "x.ckpt", value=5.0)
    targets = [
        Parameter(Tensor(np.zeros((2, 3), np.float32)), name="a"),
        Parameter(Tensor(np.zeros((3, 2), np.float32)), name="b"),
    ]
    with pytest.raises(MaamError, match=r"parameter b is Float32 \(2, 3\), expected Float32 \(3, 2\)"):
        checkpoint.load(tmp_path / "x.ckpt").load_into(targets)
    assert not targets[0].asnumpy().any()
    with pytest.raises(MaamError, match=r"parameter c is nothing, expected Float32 \(1,\)"):
        checkpoint.load(tmp_path / "x.ckpt").load_into([Parameter(Tensor(np.zeros(1, np.float32)), name="c")])


def test_failed_save_leaves_the_old_checkpoint_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ckpt"
    save_small(path)
    before = path.read_bytes()

    def disk_full(entries: list, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        Path(name).with_suffix(".tmp").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ms, "save_checkpoint", disk_full)
    with pytest.raises(MaamError, match=r"x\.ckpt: cannot be written \(disk full\); the one before is kept"):
        save_small(path, value=2.0)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_atomic_path_keeps_suffix_and_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.csv") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".csv"
        temporary.write_text("1")
        assert not (tmp_path / "a.csv").exists()
    assert os.listdir(tmp_path) == ["a.csv"]


def test_plain_mindspore_checkpoint_needs_a_preset(tmp_path: Path, digits: ImageData) -> None:
    path = tmp_path / "other.ckpt"
    ms.save_checkpoint([{"name": "a", "data": Tensor(np.zeros(1, np.float32))}], str(path))
    with pytest.raises(MaamError, match=r"does not say which model it belongs to; name its --preset"):
        restore_model(checkpoint.load(path), digits.test)


def test_figures_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(200, 5)).astype(np.float32)
    logits[:, 4] = -15  # a class that is never predicted
    labels = rng.integers(0, 5, 200)
    metrics = score(logits, labels)
    predicted = logits.argmax(1)
    probabilities = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(1, keepdims=True)
    assert metrics.accuracy == np.mean(predicted == labels)
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities))
    options = {"average": "macro", "zero_division": 0}
    assert metrics.macro_f1 == pytest.approx(f1_score(labels, predicted, **options))
    assert metrics.macro_precision == pytest.approx(precision_score(labels, predicted, **options))
    assert metrics.macro_recall == pytest.approx(recall_score(labels, predicted, **options))


def test_prediction_keeps_order_and_one_batch_shape(digits: ImageData) -> None:
    shapes = []

    def mean_of_rows(images: Tensor) -> Tensor:
        shapes.append(images.shape)
        return images.mean((1, 3))

    data = digits.test.head(21)
    logits = predict(mean_of_rows, data, batch_size=8)
    np.testing.assert_allclose(logits, (data.images / np.float32(255)).mean((1, 3)), rtol=1e-5, atol=1e-6)
    assert set(shapes) == {(8, 3, 32, 32)}


def test_flipped_prediction_is_the_mean_over_both_images_where_flips_are_allowed(digits: ImageData) -> None:
    def left_column(images: Tensor) -> Tensor:
        return images[:, :, :, 0].mean(2)

    data = replace(digits.test.head(10), flip=True)
    expected = [(data.images[..., column] / np.float32(255)).mean(2) for column in (0, 31)]
    np.testing.assert_allclose(predict(left_column, data, 4, flip=True), np.mean(expected, axis=0), atol=1e-6)
    np.testing.assert_allclose(predict(left_column, digits.test.head(10), 4, flip=True), expected[0], atol=1e-6)


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
