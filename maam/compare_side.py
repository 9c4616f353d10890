"""One side of `maam compare`, run in a process of its own so that its peak memory is its own.

``python -m maam.compare_side REQUEST FOLDER`` trains and measures one implementation as the JSON object REQUEST says
and leaves `side.json` and `probe.npz` in FOLDER.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

import maam_ops
import maam_ops.graph
from maam_ops._select import Choice

from .compare import PROBE_NAME, RESULT_NAME, Side
from .config import TrainConfig
from .data import ImageData, load_data
from .data.pipeline import to_float
from .errors import MaamError
from .evaluate import make_forward, model_for
from .train import Trainer, make_cross_entropy, make_loss, make_optimizer, make_step

INFERENCE_REPEATS = 30


def measure(config: TrainConfig, data: ImageData) -> tuple[Side, dict[str, np.ndarray]]:
    """Train, then time inference, then probe a fresh model; returns the figures and the probe's arrays."""
    start_memory = _memory_mib("VmRSS")
    trainer = Trainer(config, data)
    loss = make_cross_entropy(config.label_smoothing, config.impl)
    implementation = implementation_of(trainer.net, loss, trainer.optimizer)
    losses: list[float] = []
    marks: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        marks.append(time.perf_counter())

    def on_epoch(row: Any) -> None:
        print(f"  epoch {row.epoch:2d}  loss {row.train_loss:.4f}  test accuracy {row.test_accuracy:.4f}", flush=True)

    trainer.fit(None, on_step, on_epoch)
    peak_memory = _memory_mib("VmHWM")
    images = Tensor(to_float(trainer.train_set.images[: config.batch_size]))
    labels = Tensor(trainer.train_set.labels[: config.batch_size])
    inference_seconds = _time_inference(trainer, images)
    ms.set_seed(config.seed)
    net = model_for(trainer.train_set, config.preset, config.impl, config.overrides)
    optimizer = make_optimizer(net.trainable_params(), config)
    arrays = _probe(net, images, labels, config.impl)
    net.set_train(False)
    kernels_inference = maam_ops.graph.count_kernels(net, images).total
    net.set_train(True)
    kernels_step = maam_ops.graph.count_kernels(make_step(net, optimizer, impl=config.impl), images, labels).total
    last = trainer.rows[-1]
    side = Side(
        implementation=implementation,
        losses=losses,
        train_loss=last.train_loss,
        test_accuracy=last.test_accuracy,
        kernels_inference=kernels_inference,
        kernels_step=kernels_step,
        peak_memory_mib=peak_memory,
        start_memory_mib=start_memory,
        train_images_per_second=config.batch_size / _median_step(marks, trainer.steps),
        inference_images_per_second=config.batch_size / inference_seconds,
    )
    return side, arrays


def implementation_of(*parts: nn.Cell) -> str:
    """What the fused operators in `parts` - the net, its loss, its optimizer - run, by their own account."""
    chosen = {
        f"{type(cell).__name__}: {cell.impl}"
        for part in parts
        for _, cell in part.cells_and_names()
        if isinstance(getattr(cell, "choice", None), Choice)
    }
    return ", ".join(sorted(chosen)) or "plain MindSpore"


def _median_step(marks: list[float], steps: int) -> float:
    """Median seconds between the steps of one epoch; the first epoch, which compiles, counts only if it is alone."""
    gaps = [after - before for before, after in pairwise(marks)]
    within = [gap for index, gap in enumerate(gaps, start=1) if index % steps]
    if not within:
        raise MaamError("compare: an epoch has a single step, expected at least two; lower the batch size")
    return statistics.median(within[steps - 1 :] or within)


def _time_inference(trainer: Trainer, images: Tensor) -> float:
    trainer.net.set_train(False)
    seconds = []
    for _ in range(INFERENCE_REPEATS):
        began = time.perf_counter()
        trainer.forward(images).asnumpy()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _probe(net: nn.Cell, images: Tensor, labels: Tensor, impl: str) -> dict[str, np.ndarray]:
    """Logits in inference, then one training pass: its loss, every gradient, and the running statistics it leaves."""
    parameters = net.trainable_params()
    net.set_train(False)
    arrays = {"logits": make_forward(net)(images).asnumpy()}
    net.set_train(True)
    gradients_of = ms.value_and_grad(make_loss(net, impl=impl), None, parameters, has_aux=True)
    (loss, _), gradients = gradients_of(images, labels)
    arrays["loss"] = loss.asnumpy()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        arrays[f"gradient of {parameter.name}"] = gradient.asnumpy()
    for parameter in net.untrainable_params():
        arrays[f"statistic {parameter.name}"] = parameter.asnumpy()
    return arrays


def _memory_mib(field: str) -> float:
    # Not getrusage: its maximum survives exec, so it would count the parent process.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def main() -> None:
    request, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    try:
        side, arrays = measure(TrainConfig(**request["config"]), load_data(request["data"]))
    except MaamError as error:
        sys.exit(f"error: {error}")
    np.savez(folder / PROBE_NAME, **arrays)
    (folder / RESULT_NAME).write_text(json.dumps(asdict(side)))


if __name__ == "__main__":
    main()
