"""Whole classifiers: inference, training steps and their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case


@dataclass(frozen=True)
class Model(Case):
    batch: int
    preset: str = "authors"

    @property
    def label(self) -> str:
        return f"batch {self.batch}"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        images = rng.random((self.batch, 3, 32, 32), dtype=np.float32)
        return {"images": images, "labels": rng.integers(0, 10, self.batch).astype(np.int32)}

    def expected(self, inputs: Arrays) -> None:
        """The plain MindSpore side is the truth: there is no second implementation of the whole model."""
        return None


@dataclass(frozen=True)
class ModelInference(Model):
    """images -> logits"""

    tolerance: ClassVar = {"": 1e-4}


@dataclass(frozen=True)
class ModelInferenceInt8(ModelInference):
    """As :class:`ModelInference`, on bytes, calibrated on images of the same kind"""

    tolerance: ClassVar = {"": 2e-1}

    def inputs(self) -> Arrays:
        images = np.random.default_rng(0).random((64, 3, 32, 32), dtype=np.float32)
        return {**super().inputs(), "calibration": images}


@dataclass(frozen=True)
class ModelStep(Model):
    """images, labels -> loss; checked: loss, logits, and every gradient as Adam's first moment holds it"""

    tolerance: ClassVar = {"": 1e-3, "logits": 1e-4, "loss": 1e-5}


@dataclass(frozen=True)
class DeepModelStep(ModelStep):
    """As :class:`ModelStep`, with two convolutions a branch"""

    preset: str = "deep"
    # Of two million pooling windows a branch, a few have their largest pixels within a rounding of each other. There
    # the sides take different paths, which changes the gradients of one channel by up to two hundredths of the largest;
    # all other channels agree to 3e-6. Either gradient is the exact one of its path.
    tolerance: ClassVar = {"": 5e-2, "logits": 1e-4, "loss": 1e-5}


class _Stored:
    """Images, labels and weights of a model from a file, for sides of other frameworks to work on the same.

    Attributes:
        path: .npz of images, labels, calibration images, and each parameter by the name MindSpore has for it.
    """

    path: str
    batch: int

    def inputs(self) -> Arrays:
        with np.load(self.path) as stored:
            arrays = dict(stored)
        return arrays | {name: arrays[name][: self.batch] for name in ("images", "labels")}


@dataclass(frozen=True)
class StoredInference(_Stored, ModelInference):
    """images -> logits, computed in `precision`; the truth is always that of float32"""

    path: str = ""
    precision: str = "float32"

    # What a change of arithmetic may cost, relative to the largest logit.
    TOLERANCES: ClassVar = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 2e-1}

    @property
    def tolerance(self) -> dict[str, float]:
        return {"": self.TOLERANCES[self.precision]}

    @property
    def label(self) -> str:
        return f"{self.precision}, batch {self.batch}"


@dataclass(frozen=True)
class StoredStep(_Stored, ModelStep):
    """As :class:`ModelStep`"""

    path: str = ""
    # A rounding turns ReLU and max-pool in the flat parts of real images, many pixels at once: measured, that moves one
    # normalisation's gradient by 1.1e-2 in MindSpore, where PyTorch and the fused operators agree to 2e-4.
    tolerance: ClassVar = {"": 3e-2, "logits": 1e-4, "loss": 1e-5}


@dataclass(frozen=True)
class ModelLosses(Model):
    """images, labels -> losses of the first optimisation steps, which no wrong gradient or optimizer would give

    The initial weights come from :meth:`weight`, so that another framework can start from them.
    """

    tolerance: ClassVar = {"": 1e-3}
    STEPS: ClassVar = 3

    @staticmethod
    def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The same values for a name everywhere: uniform, as wide as He et al. have it for ReLU."""
        rng = np.random.default_rng(list(name.encode()))
        limit = np.sqrt(6 / max(int(np.prod(shape[1:])), 1))
        return rng.uniform(-limit, limit, shape).astype(np.float32)


@dataclass(frozen=True)
class ModelLossesHalf(ModelLosses):
    """As :class:`ModelLosses`, computed in half precision."""

    tolerance: ClassVar = {"": 5e-2}
