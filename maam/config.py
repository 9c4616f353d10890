"""Settings of a training run as plain data; needs no MindSpore, so that the command line can check them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .errors import MaamError

AMP_LEVELS = ("O0", "O2", "O3")
# Files of a run folder.
CHECKPOINT_NAME, METRICS_NAME = "last.ckpt", "metrics.csv"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that fixes a training run; it is stored in the checkpoint.

    Attributes:
        preset, overrides, impl: as in :func:`maam.create_model`.
        epochs, batch_size, seed: length, images per step, and the source of all random numbers.
        learning_rate, weight_decay: of Adam.
        amp: level of `mindspore.amp.auto_mixed_precision`: "O0" float32, "O2" float16 with float32 batch norm,
            "O3" float16.
        num_workers: threads that prepare batches.
        train_images, test_images: use only the first so many images (None = all).
    """

    preset: str = "authors"
    overrides: dict[str, Any] = field(default_factory=dict)
    impl: str = "auto"
    epochs: int = 10
    batch_size: int = 64
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    amp: str = "O0"
    num_workers: int = 4
    train_images: int | None = None
    test_images: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "num_workers"):
            if getattr(self, name) < 1:
                raise MaamError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.seed < 2**32:
            raise MaamError(f"seed must be 0 to {2**32 - 1}, got {self.seed}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise MaamError(f"learning rate must be a positive number, got {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise MaamError(f"weight decay must be a number of at least 0, got {self.weight_decay}")
        if self.amp not in AMP_LEVELS:
            raise MaamError(f"amp must be one of {', '.join(AMP_LEVELS)}, got {self.amp!r}")
