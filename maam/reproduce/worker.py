"""One training run in a process of its own: ``python -m maam.reproduce.worker REQUEST``.

A fresh process makes a run independent of those before it. Answers one JSON object a line on standard output:
{"steps", "step"} once, {"step", "loss"} about twice a second, {"epoch": row} for each epoch, {"done": true} at the
end. Exit codes: 0 finished, 2 bad input (said on standard error), 130 interrupted; the run folder is in order in each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..config import CHECKPOINT_NAME, METRICS_NAME, TrainConfig
from ..errors import MaamError
from ..files import remove_unfinished
from ..interrupt import held_interrupts

if TYPE_CHECKING:
    from ..data import ImageData
    from ..train import Trainer

SECONDS_BETWEEN_STEPS = 0.5
# Settings that change speed, not results.
_IGNORED = ("impl", "num_workers")


class _Channel:
    """Events to the parent. Once that is gone, `closed` is true and events go nowhere."""

    def __init__(self) -> None:
        self.closed = False
        self._output = _take_output()

    def send(self, **event: Any) -> None:
        if self.closed:
            return
        try:
            self._output.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            self.closed = True


def _take_output() -> TextIO:
    """The real standard output; whatever the frameworks print goes to standard error from now on."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return output


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide over the result, as they look after a way through JSON."""
    return json.loads(json.dumps({name: value for name, value in asdict(config).items() if name not in _IGNORED}))


def differing(before: dict[str, Any], now: TrainConfig) -> str:
    """What differs between the settings of an earlier run and those of now, in words; "" if nothing does."""
    # Settings that came later had their default.
    merged = settings_of(TrainConfig()) | before
    return ", ".join(
        f"{name} was {merged[name]!r} and is {value!r}"
        for name, value in settings_of(now).items()
        if merged[name] != value
    )


def train(config: TrainConfig, data: ImageData, folder: Path, channel: _Channel, interrupted: Any) -> Trainer | None:
    """The run trained to its end, from where it was left; None if it was interrupted."""
    from .. import checkpoint
    from ..train import Trainer

    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    source = None
    if (folder / CHECKPOINT_NAME).exists():
        try:
            source = checkpoint.load(folder / CHECKPOINT_NAME)
        except MaamError as error:
            raise MaamError(f"{error}, or delete {folder} to train this run anew") from error
        difference = differing({} if source.meta is None else source.meta["config"], config)
        if difference:
            raise MaamError(f"run {folder}: it was begun with other settings ({difference}); delete it or restore them")
    trainer = Trainer(config, data, source)
    channel.send(steps=config.epochs * trainer.steps, step=trainer.step)
    last = 0.0

    def on_step(step: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_STEPS:
            last = now
            channel.send(step=step, loss=loss)

    done = trainer.fit(
        folder, on_step, lambda row: channel.send(epoch=asdict(row)), lambda: interrupted() or channel.closed
    )
    return trainer if done else None


def save_result(trainer: Trainer, data: ImageData, run: str, folder: Path, results: Path) -> None:
    """Score the trained model in every way the report needs, and write its results."""
    from sklearn.metrics import confusion_matrix

    from ..bench.machine import describe
    from ..data.pipeline import augment
    from ..evaluate import score
    from . import results as files

    test, rows = trainer.test_set, trainer.rows
    flip = trainer.config.test_flip
    logits = trainer.logits(test, flip)
    # The test set as the authors' code evaluates it: cropped and mirrored at random like a training image.
    augmented = replace(test, images=augment(test.images, _rng(trainer), test.crop_padding, test.flip))
    labels = list(range(data.num_classes))
    summary = {
        "run": run,
        "seed": trainer.config.seed,
        "test": asdict(score(logits, test.labels)),
        "augmented_test": asdict(score(trainer.logits(augmented, flip), test.labels)),
        "parameters": sum(parameter.size for parameter in trainer.net.trainable_params()),
        "epochs": len(rows),
        "stopped_early": trainer.stopped_early,
        "training_seconds": sum(row.seconds for row in rows),
        "data": {"name": data.name, "fingerprint": data.fingerprint, "classes": list(data.train.classes)},
        "evaluated_on": "held-out training images" if trainer.config.hold_out else "test set",
        "test_images": len(test),
        "training_images": len(trainer.train_set),
        "settings": settings_of(trainer.config),
        "machine": describe(len(os.sched_getaffinity(0))),
    }
    confusion = confusion_matrix(test.labels, logits.argmax(axis=1), labels=labels)
    metrics = (folder / METRICS_NAME).read_text()
    files.write(files.folder_of(results, run, trainer.config.seed), summary, metrics, confusion)


def _rng(trainer: Trainer) -> Any:
    import numpy as np

    return np.random.default_rng((trainer.config.seed, 2**32))


def main() -> None:
    request = json.loads(sys.argv[1])
    channel = _Channel()
    # Before MindSpore is imported, see there.
    with held_interrupts() as interrupted:
        try:
            from ..data import load_data

            data = load_data(request["data"])
            folder, results = Path(request["folder"]), Path(request["results"])
            trainer = train(TrainConfig(**request["config"]), data, folder, channel, interrupted)
            if trainer is not None:
                save_result(trainer, data, request["run"], folder, results)
                channel.send(done=True)
        except MaamError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            print(f"error: {error.filename or request['folder']}: {error.strerror}", file=sys.stderr)
            sys.exit(2)
    sys.exit(0 if trainer is not None else 130)


if __name__ == "__main__":
    main()
