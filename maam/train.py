"""Training: one compiled step, a loop that can stop anywhere, and a run folder that is always in order.

A run folder holds `last.ckpt` (weights, optimizer state, configuration and progress) and `metrics.csv` (one row per
finished epoch). Both are replaced in one step, so a run can be killed at any moment and resumed with
``maam train --resume``; the resumed run sees the same batches and ends with the same weights.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

import maam_ops

from . import checkpoint
from .config import CHECKPOINT_NAME, METRICS_NAME, TrainConfig
from .data import ImageData
from .data.pipeline import iterate, steps_per_epoch, train_batches
from .errors import MaamError
from .evaluate import make_forward, model_for, predict, score
from .files import atomic_path

LOSS_SCALE = 1024.0
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class EpochRow:
    """One line of `metrics.csv`; training figures are over the augmented images, as they were seen."""

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    images_per_second: float


@dataclass
class _Progress:
    """What the loop must remember between steps, apart from the parameters."""

    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


def make_optimizer(
    parameters: list[Parameter], learning_rate: float, weight_decay: float, loss_scale: float = 1.0, impl: str = "auto"
) -> nn.Adam:
    """Adam with L2 weight decay; ``impl`` as in :func:`maam.create_model`, the states and their names are the same."""
    if impl == "reference":
        return nn.Adam(parameters, learning_rate, weight_decay=weight_decay, loss_scale=loss_scale)
    return maam_ops.FusedAdam(
        parameters, learning_rate, weight_decay=weight_decay, loss_scale=loss_scale, impl=impl
    )


def make_loss(net: nn.Cell, impl: str = "auto") -> Step:
    """(images, labels) -> (mean cross-entropy, logits); ``impl`` as in :func:`maam.create_model`."""
    cross_entropy = nn.CrossEntropyLoss() if impl == "reference" else maam_ops.FusedCrossEntropy(impl=impl)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(images).astype(ms.float32)
        return cross_entropy(logits, labels), logits

    return loss


def make_step(net: nn.Cell, optimizer: nn.Optimizer, impl: str = "auto") -> Step:
    """One optimisation step, to be compiled as one graph: (images, labels) -> (loss, logits).

    The net must be in train mode when it is compiled. An optimizer with a `loss_scale` other than 1 gets gradients of
    the loss times that scale, which it divides by: small float16 gradients would vanish otherwise.
    """
    loss = make_loss(net, impl)
    scale = float(optimizer.loss_scale)

    def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = loss(images, labels)
        # Not `value * 1.0`, which would be one more kernel in every float32 step.
        return value if scale == 1.0 else value * scale, logits

    gradients_of = ms.value_and_grad(objective, None, optimizer.parameters, has_aux=True)

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        (value, logits), gradients = gradients_of(images, labels)
        optimizer(gradients)
        return value if scale == 1.0 else value / scale, logits

    return step


class GraphStep(nn.Cell):
    """A step as one graph, with the runtime at its best on few cores; needs GRAPH mode.

    A Cell rather than `mindspore.jit`: measured on 2 cores, a jitted function runs in MindSpore's PYNATIVE pipeline,
    whose waiting threads take a core from the kernels (490 against 300 ms a step).
    """

    def __init__(self, step: Step) -> None:
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.step(images, labels)


class Trainer:
    """A model (`net`), its compiled inference (`forward`), its `optimizer` and the progress of one run.

    Switches MindSpore to GRAPH mode.

    Args:
        config: the run.
        data: training and test images.
        resume: continue from this checkpoint (its configuration must have been used to make `config`).
    """

    def __init__(self, config: TrainConfig, data: ImageData, resume: checkpoint.Checkpoint | None = None) -> None:
        self.config = config
        self.train_set = data.train.head(config.train_images)
        self.test_set = data.test.head(config.test_images)
        self.steps = steps_per_epoch(self.train_set, config.batch_size)
        self.data_name = data.name
        ms.set_context(mode=ms.GRAPH_MODE)
        ms.set_seed(config.seed)
        self.net = model_for(self.train_set, config.preset, config.impl, config.overrides)
        if config.amp != "O0":
            self.net = ms.amp.auto_mixed_precision(self.net, config.amp)
        half = config.amp != "O0"
        # Of parameters in half precision nn.Adam takes care, whatever the net runs.
        impl = "auto" if half and config.impl == "native" else config.impl
        self.optimizer = make_optimizer(
            self.net.trainable_params(),
            config.learning_rate,
            config.weight_decay,
            LOSS_SCALE if half else 1.0,
            impl,
        )
        self._step = GraphStep(make_step(self.net, self.optimizer, config.impl))
        self.forward = make_forward(self.net)
        self._progress = _Progress()
        if resume is not None:
            self._restore(resume)

    @property
    def rows(self) -> list[EpochRow]:
        """Figures of the finished epochs."""
        return [EpochRow(**row) for row in self._progress.rows]

    @property
    def step(self) -> int:
        """Optimisation steps done so far."""
        return self._progress.step

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self._progress.step >= self.config.epochs * self.steps

    def fit(
        self,
        out: Path | None,
        on_step: Callable[[int, float], None] | None = None,
        on_epoch: Callable[[EpochRow], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until all epochs are done or `stop` says so; True if all are done.

        Args:
            out: run folder for checkpoint and metrics; None keeps the run in memory.
            on_step: called with (step of the run, its loss).
            on_epoch: called with each finished epoch.
            stop: asked after every step.
        """
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        while not self.finished:
            stopped = self._run_epoch(on_step, stop)
            row = self._finish_epoch() if self.step % self.steps == 0 else None
            if out is not None:
                self._save(out)
            if row is not None and on_epoch is not None:
                on_epoch(row)
            if stopped:
                break
        return self.finished

    def _run_epoch(self, on_step: Callable[[int, float], None] | None, stop: Callable[[], bool]) -> bool:
        """Steps up to the end of the epoch, or until `stop` says so; whether it did."""
        config, progress = self.config, self._progress
        epoch, start = divmod(progress.step, self.steps)
        batches = train_batches(
            self.train_set,
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            start=start,
            num_workers=config.num_workers,
        )
        self.net.set_train(True)
        stopped = False
        began = time.perf_counter()
        for images, labels in iterate(batches):
            loss, logits = self._step(Tensor(images), Tensor(labels))
            value = float(loss.asnumpy())
            if not math.isfinite(value):
                raise MaamError(f"training: the loss is {value} at step {progress.step}; lower the learning rate")
            progress.loss_sum += value
            progress.correct += int(np.sum(logits.asnumpy().argmax(axis=1) == labels))
            progress.step += 1
            if on_step is not None:
                on_step(progress.step, value)
            stopped = stop()
            if stopped:
                break
        progress.seconds += time.perf_counter() - began
        return stopped

    def _finish_epoch(self) -> EpochRow:
        progress = self._progress
        images = self.steps * self.config.batch_size
        self.net.set_train(False)
        logits = predict(self.forward, self.test_set, self.config.batch_size, self.config.num_workers)
        test = score(logits, self.test_set.labels)
        row = EpochRow(
            epoch=progress.step // self.steps,
            step=progress.step,
            train_loss=progress.loss_sum / self.steps,
            train_accuracy=progress.correct / images,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            seconds=progress.seconds,
            images_per_second=images / progress.seconds,
        )
        self._progress = _Progress(step=progress.step, rows=[*progress.rows, asdict(row)])
        return row

    def _state(self) -> list[Parameter]:
        return [*self.net.get_parameters(), *self.optimizer.get_parameters()]

    def _save(self, out: Path) -> None:
        meta = {"config": asdict(self.config), "data": self.data_name, "progress": asdict(self._progress)}
        checkpoint.save(out / CHECKPOINT_NAME, self._state(), meta)
        _write_rows(out / METRICS_NAME, self._progress.rows)

    def _restore(self, source: checkpoint.Checkpoint) -> None:
        if source.meta is None or "progress" not in source.meta:
            raise MaamError(f"checkpoint {source.path}: it holds no training progress; resume needs one of maam train")
        if source.meta["data"] != self.data_name:
            raise MaamError(
                f"checkpoint {source.path}: it was trained on {source.meta['data']}, got data set {self.data_name}"
            )
        source.load_into(self._state())
        self._progress = _Progress(**source.meta["progress"])


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(EpochRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue())
