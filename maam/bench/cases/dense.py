"""The dense layer and its gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import Arrays, Case, Traffic, normal


@dataclass(frozen=True)
class _Dense(Case):
    batch: int
    features: int = 32768
    outputs: int = 256

    @property
    def label(self) -> str:
        return f"{self.batch}x{self.features} -> {self.outputs}"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        weight = normal(rng, (self.outputs, self.features)) / np.float32(np.sqrt(self.features))
        return {
            "x": normal(rng, (self.batch, self.features)),
            "weight": weight,
            "bias": normal(rng, (self.outputs,)),
        }

    @property
    def flops(self) -> float:
        return 2.0 * self.batch * self.features * self.outputs


@dataclass(frozen=True)
class DenseForward(_Dense):
    """x, W, b -> y"""

    def expected(self, inputs: Arrays) -> Arrays:
        x, weight, bias = (inputs[name].astype(np.float64) for name in ("x", "weight", "bias"))
        return {"y": x @ weight.T + bias}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, 1, self.batch * self.features, self.flops)


@dataclass(frozen=True)
class DenseBackward(_Dense):
    """x, W, dy -> dx, dW, db"""

    def inputs(self) -> Arrays:
        return {**super().inputs(), "dy": normal(np.random.default_rng(self.batch + 1), (self.batch, self.outputs))}

    def expected(self, inputs: Arrays) -> Arrays:
        x, weight, dy = (inputs[name].astype(np.float64) for name in ("x", "weight", "dy"))
        return {"dx": dy @ weight, "dweight": dy.T @ x, "dbias": dy.sum(0)}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, 1, self.batch * self.features, 2 * self.flops)
