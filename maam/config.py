"""Settings of a training run as plain data; needs no MindSpore, so that the command line can check them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import MaamError

AMP_LEVELS = ("O0", "O2", "O3")
SCHEDULES = ("constant", "cosine", "one-cycle")
DECAYS = ("l2", "decoupled")
# Files of a run folder.
CHECKPOINT_NAME, METRICS_NAME = "last.ckpt", "metrics.csv"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run; it is stored in the checkpoint.

    Attributes:
        preset, overrides, impl: as in :func:`maam.create_model`.
        epochs, batch_size, seed: length, images per step, and the source of all random numbers.
        learning_rate: of Adam; the highest one where a schedule changes it.
        schedule, warmup: course of the learning rate, see :func:`maam.schedule.rate_at`; `warmup` is the share of all
            steps over which it rises.
        weight_decay, decay: "l2" adds the decay to the gradient, as the paper's code does; "decoupled" takes it off
            the weight beside Adam's step (AdamW). Batch normalisation is never decayed.
        clip_norm: gradients are scaled down to at most this Euclidean length, all together (0 = never).
        label_smoothing: share of a label's weight that is spread over all classes.
        ema: decay per step of a running average of the weights, which is then evaluated instead (0 = none).
        augment: random crops and, where the data allow it, flips of the training images.
        cutout: side in pixels of a square that is blackened at a random place of each training image (0 = none).
        amp: level of `mindspore.amp.auto_mixed_precision`: "O0" float32, "O2" float16 with float32 batch norm,
            "O3" float16.
        test_flip: at the end of the run, average the logits of each test image and its mirror image; only where the
            data allow flips.
        patience, min_improvement: stop once the lowest training loss of the last `patience` epochs is not at least
            the share `min_improvement` below the lowest before them (patience 0 = never). Test data play no part.
        hold_out: take the last so many training images out of training and evaluate on them instead of the test set.
        num_workers: threads that prepare batches ahead; 0 prepares each batch when it is needed, which is cheaper.
        train_images, test_images: use only the first so many images (None = all).
    """

    preset: str = "authors"
    overrides: dict[str, Any] = field(default_factory=dict)
    impl: str = "auto"
    epochs: int = 10
    batch_size: int = 64
    seed: int = 0
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 1e-4
    decay: str = "l2"
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    augment: bool = True
    cutout: int = 0
    amp: str = "O0"
    test_flip: bool = False
    patience: int = 0
    min_improvement: float = 0.01
    hold_out: int = 0
    num_workers: int = 0
    train_images: int | None = None
    test_images: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._check(name, getattr(self, name) >= 1, "at least 1")
        for name in ("num_workers", "cutout", "patience", "hold_out"):
            self._check(name, getattr(self, name) >= 0, "at least 0")
        if not 0 <= self.seed < 2**32:
            raise MaamError(f"seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise MaamError(f"learning rate must be a positive number, got {self.learning_rate}")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            self._check(name, math.isfinite(value) and value >= 0, "a number of at least 0")
        for name in ("warmup", "label_smoothing", "ema", "min_improvement"):
            self._check(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name, choices in (("amp", AMP_LEVELS), ("schedule", SCHEDULES), ("decay", DECAYS)):
            if getattr(self, name) not in choices:
                raise MaamError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.decay == "decoupled" and self.amp != "O0":
            raise MaamError(f"decay 'decoupled' has no loss scaling, expected amp O0, got {self.amp!r}")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            label = name.replace("_", " ") if name == "weight_decay" else name
            raise MaamError(f"{label} must be {expected}, got {getattr(self, name)}")


def _number_hint(text: str) -> str:
    """What to write in place of a number that YAML reads as text, such as 1e-3; "" for other text."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return ""
    if not number.is_finite() or abs(number.adjusted()) > 20:
        return ""
    return f", which YAML reads as text; write {number:f}, or a point and a sign as in 1.0e-3"


def from_settings(settings: Any) -> TrainConfig:
    """The configuration of settings by name, as they come out of a file.

    Raises:
        MaamError: they are none, or one is unknown, of a wrong type or out of range; it is named.
    """
    if not isinstance(settings, dict):
        raise MaamError(f"train is {settings!r}, expected settings by name")
    default = TrainConfig()
    known = [entry.name for entry in fields(TrainConfig)]
    for name, value in settings.items():
        if name not in known:
            raise MaamError(f"unknown setting {name!r}; the settings are {', '.join(known)}")
        usual = getattr(default, name)
        kind = int if usual is None else type(usual)
        fits = type(value) is kind or (kind is float and type(value) is int) or (usual is None and value is None)
        if not fits:
            hint = _number_hint(value) if kind in (int, float) and isinstance(value, str) else ""
            raise MaamError(f"{name} must be of type {kind.__name__}, got {value!r}{hint}")
    return TrainConfig(**settings)
