"""Training: one compiled step, a loop that can stop anywhere, and a run folder that is always in order.

A run folder holds `last.ckpt` (weights, optimizer state, configuration and progress) and `metrics.csv` (one row per
finished epoch). Both are replaced in one step, so a run can be killed at any moment and resumed with
``maam train --resume``; the resumed run sees the same batches and ends with the same weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

import maam_ops

from . import averaging, checkpoint
from .config import CHECKPOINT_NAME, METRICS_NAME, TrainConfig
from .data import ImageData, ImageSet
from .data.pipeline import iterate, steps_per_epoch, train_batches
from .errors import MaamError
from .evaluate import Metrics, make_forward, mix_weights, model_for, predict, score
from .history import EpochRow, Progress, write_rows
from .schedule import is_flat, rate_at

LOSS_SCALE = 1024.0
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_cross_entropy(label_smoothing: float = 0.0, impl: str = "auto") -> nn.Cell:
    """(logits, labels) -> mean cross-entropy; ``impl`` as in :func:`maam.create_model`."""
    if impl == "reference":
        return nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    return maam_ops.FusedCrossEntropy(label_smoothing=label_smoothing, impl=impl)


def make_loss(net: nn.Cell, label_smoothing: float = 0.0, impl: str = "auto") -> Step:
    """(images, labels) -> (mean cross-entropy, logits); ``impl`` as in :func:`maam.create_model`."""
    cross_entropy = make_cross_entropy(label_smoothing, impl)

    def loss(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(images).astype(ms.float32)
        return cross_entropy(logits, labels), logits

    return loss


def make_optimizer(parameters: Iterable[Parameter], config: TrainConfig) -> nn.Optimizer:
    """Adam as `config` says. Its `learning_rate` is a Parameter, which a schedule sets before each step.

    MindSpore's AdamWeightDecay, which "decoupled" takes, does not correct the bias of young moments: its first steps
    are up to three times as long, so it wants a warm-up.
    """
    half = config.amp != "O0"
    options = {"weight_decay": config.weight_decay}
    if config.decay == "decoupled":
        plain, fused = nn.AdamWeightDecay, maam_ops.FusedAdamWeightDecay
        options["eps"] = 1e-8
    else:
        plain, fused = nn.Adam, maam_ops.FusedAdam
        options["loss_scale"] = LOSS_SCALE if half else 1.0
    if config.impl == "reference":
        return plain(list(parameters), config.learning_rate, **options)
    # Parameters in half precision are MindSpore's, whatever the net runs.
    return fused(list(parameters), config.learning_rate, impl="auto" if half else config.impl, **options)


def make_step(
    net: nn.Cell, optimizer: nn.Optimizer, label_smoothing: float = 0.0, clip_norm: float = 0.0, impl: str = "auto"
) -> Step:
    """One optimisation step, to be compiled as one graph: (images, labels) -> (loss, logits).

    The net must be in train mode when it is compiled. An optimizer with a `loss_scale` other than 1 gets gradients of
    the loss times that scale, which it divides by: small float16 gradients would vanish otherwise.
    """
    loss = make_loss(net, label_smoothing, impl)
    scale = float(optimizer.loss_scale)
    longest = clip_norm * scale

    def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = loss(images, labels)
        # Not `value * 1.0`, which would be one more kernel in every float32 step.
        return value if scale == 1.0 else value * scale, logits

    gradients_of = ms.value_and_grad(objective, None, optimizer.parameters, has_aux=True)

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        (value, logits), gradients = gradients_of(images, labels)
        if longest > 0:
            gradients = ops.clip_by_global_norm(gradients, longest)
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
        self.data_name, self._fingerprint = data.name, data.fingerprint
        if config.hold_out:
            data = data.held_out(config.hold_out)
        self.train_set = data.train.head(config.train_images)
        if not config.augment:
            self.train_set = replace(self.train_set, crop_padding=0, flip=False)
        self.test_set = data.test.head(config.test_images)
        self.steps = steps_per_epoch(self.train_set, config.batch_size)
        ms.set_context(mode=ms.GRAPH_MODE)
        ms.set_seed(config.seed)
        self.net = model_for(self.train_set, config.preset, config.impl, config.overrides)
        if config.amp != "O0":
            self.net = ms.amp.auto_mixed_precision(self.net, config.amp)
        self.optimizer = make_optimizer(self.net.trainable_params(), config)
        step = make_step(self.net, self.optimizer, config.label_smoothing, config.clip_norm, config.impl)
        self._step = GraphStep(step)
        self.forward = make_forward(self.net)
        self._average = averaging.WeightAverage(self.net.get_parameters(), config.ema) if config.ema else None
        self._scheduled = config.schedule != "constant" or config.warmup > 0
        self._rate = config.learning_rate
        self._progress = Progress()
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
        """Whether all epochs are done, or the training loss is flat by the rule of the settings."""
        return self._progress.step >= self.config.epochs * self.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the training loss has become flat; known at the end of an epoch."""
        whole = self._progress.step == len(self._progress.rows) * self.steps
        return whole and self._is_flat()

    def _is_flat(self, *further: float) -> bool:
        """The rule of the settings on the losses of the finished epochs and those `further` ones."""
        losses = [*(row["train_loss"] for row in self._progress.rows), *further]
        return is_flat(losses, self.config.patience, self.config.min_improvement)

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
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MaamError(f"run folder {out}: cannot be made ({error.strerror}); name another") from error
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
            cutout=config.cutout,
            num_workers=config.num_workers,
        )
        self.net.set_train(True)
        stopped = False
        began = time.perf_counter()
        for images, labels in iterate(batches):
            self._set_rate(progress.step)
            loss, logits = self._step(Tensor(images), Tensor(labels))
            value = float(loss.asnumpy())
            if not math.isfinite(value):
                raise MaamError(f"training: the loss is {value} at step {progress.step}; lower the learning rate")
            progress.loss_sum += value
            progress.correct += int(np.sum(logits.asnumpy().argmax(axis=1) == labels))
            progress.step += 1
            if self._average is not None:
                self._average.update(progress.step)
            if on_step is not None:
                on_step(progress.step, value)
            stopped = stop()
            if stopped:
                break
        progress.seconds += time.perf_counter() - began
        return stopped

    def _set_rate(self, step: int) -> None:
        """The learning rate of step `step`, counted from 0. A Parameter of the graph, so no kernel computes it."""
        if not self._scheduled:
            return
        config = self.config
        self._rate = config.learning_rate * rate_at(config.schedule, config.warmup, step, config.epochs * self.steps)
        self.optimizer.learning_rate.set_data(Tensor(self._rate, ms.float32))

    def logits(self, data: ImageSet, flip: bool) -> np.ndarray:
        """Logits of all images of `data`, with averaged weights where the settings say so; `flip` as in `predict`."""
        self.net.set_train(False)
        config = self.config
        with self._average.applied() if self._average else contextlib.nullcontext():
            return predict(self.forward, data, config.batch_size, config.num_workers, flip=flip)

    def evaluate(self, last: bool) -> Metrics:
        """Figures over the test set; mirrored images, which cost as much again, only in the `last` epoch of the run."""
        return score(self.logits(self.test_set, self.config.test_flip and last), self.test_set.labels)

    def _finish_epoch(self) -> EpochRow:
        progress = self._progress
        images = self.steps * self.config.batch_size
        loss = progress.loss_sum / self.steps
        last = progress.step >= self.config.epochs * self.steps or self._is_flat(loss)
        test = self.evaluate(last)
        row = EpochRow(
            epoch=progress.step // self.steps,
            step=progress.step,
            train_loss=loss,
            train_accuracy=progress.correct / images,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            seconds=progress.seconds,
            images_per_second=images / progress.seconds,
            learning_rate=self._rate,
            mix_weights=" ".join(f"{weight:.6f}" for weight in mix_weights(self.net)),
        )
        self._progress = Progress(step=progress.step, rows=[*progress.rows, asdict(row)])
        return row

    def _state(self) -> list[Parameter]:
        average = [] if self._average is None else self._average.entries()
        return [*self.net.get_parameters(), *self.optimizer.get_parameters(), *average]

    def _save(self, out: Path) -> None:
        meta = {
            "config": asdict(self.config),
            "data": self.data_name,
            "fingerprint": self._fingerprint,
            "progress": asdict(self._progress),
        }
        checkpoint.save(out / CHECKPOINT_NAME, self._state(), meta)
        write_rows(out / METRICS_NAME, self._progress.rows)

    def _restore(self, source: checkpoint.Checkpoint) -> None:
        if source.meta is None or "progress" not in source.meta:
            raise MaamError(f"checkpoint {source.path}: it holds no training progress; resume needs one of maam train")
        if source.meta["data"] != self.data_name:
            raise MaamError(
                f"checkpoint {source.path}: it was trained on {source.meta['data']}, got data set {self.data_name}"
            )
        # Checkpoints from before fingerprints have none.
        fingerprint = source.meta.get("fingerprint", self._fingerprint)
        if fingerprint != self._fingerprint:
            raise MaamError(
                f"checkpoint {source.path}: it was trained on other images of {self.data_name} (test set "
                f"{fingerprint}), got {self._fingerprint}; name the data folder of that run"
            )
        state = self._state()
        source.load_into(state)
        if self._average is not None:
            self._average.restore(entry for entry in state if entry.name.startswith(averaging.PREFIX))
        self._progress = Progress(**source.meta["progress"])
