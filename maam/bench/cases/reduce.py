"""conv1x1, BatchNorm and ReLU (Eq. 3), in inference and in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case, Traffic, normal

EPS, MOMENTUM = 1e-5, 0.9
TRAINING_TOLERANCE = {"": 1e-4, "dweight": 1e-3, "dgamma": 1e-3, "dbeta": 1e-3, "dalpha": 5e-3}


@dataclass(frozen=True)
class Reduce(Case):
    batch: int
    channels: int = 64
    out_channels: int = 128
    grid: int = 16

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.channels, self.grid, self.grid)

    @property
    def label(self) -> str:
        return f"{'x'.join(map(str, self.shape))} -> {self.out_channels}"

    @property
    def size(self) -> int:
        return self.batch * self.channels * self.grid**2

    @property
    def flops(self) -> float:
        return 2.0 * self.size * self.out_channels

    def small_inputs(self) -> Arrays:
        """Weight, normalisation and running statistics."""
        rng = np.random.default_rng(7)
        width = self.out_channels
        weight = normal(rng, (width, self.channels, 1, 1)) / np.float32(np.sqrt(self.channels))
        vectors = {name: rng.uniform(0.5, 1.5, width).astype(np.float32) for name in ("gamma", "moving_variance")}
        vectors |= {name: normal(rng, (width,)) for name in ("beta", "moving_mean")}
        return {"weight": weight, **vectors}

    def inputs(self) -> Arrays:
        return {**self.small_inputs(), "g": normal(np.random.default_rng(self.batch), self.shape)}


@dataclass(frozen=True)
class ReduceInference(Reduce):
    """G -> F by running statistics"""

    def expected(self, inputs: Arrays) -> Arrays:
        return {"f": reduce_inference(inputs["g"].astype(np.float64), inputs)}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, self.out_channels // self.channels, self.size, self.flops)


@dataclass(frozen=True)
class ReduceTraining(Reduce):
    """G, dF -> dG, dW, d gamma, d beta, and updated running statistics"""

    tolerance: ClassVar = TRAINING_TOLERANCE

    def inputs(self) -> Arrays:
        arrays = super().inputs()
        return {**arrays, "df": away_from_kink(arrays["g"], arrays)}

    def expected(self, inputs: Arrays) -> Arrays:
        return reduce_training(inputs["g"].astype(np.float64), inputs)


def reduce_inference(g: np.ndarray, small: Arrays) -> np.ndarray:
    scale = _column(small["gamma"]) / np.sqrt(_column(small["moving_variance"]) + EPS)
    z = _conv1x1(g, small["weight"])
    return np.maximum((z - _column(small["moving_mean"])) * scale + _column(small["beta"]), 0)


def reduce_training(g: np.ndarray, inputs: Arrays) -> Arrays:
    x, inverse, mean, variance = _normalised(g, inputs)
    gamma = inputs["gamma"].astype(np.float64)
    dy = np.where(x * _column(gamma) + _column(inputs["beta"]) > 0, inputs["df"].astype(np.float64), 0)
    count = x.size // x.shape[1]
    dbeta, dgamma = dy.sum((0, 2, 3)), (dy * x).sum((0, 2, 3))
    dz = _column(gamma * inverse) * (dy - _column(dbeta) / count - x * _column(dgamma) / count)
    weight = inputs["weight"].astype(np.float64)
    dweight = np.einsum("bop,bcp->oc", dz.reshape(*dz.shape[:2], -1), g.reshape(*g.shape[:2], -1), optimize=True)
    return {
        "dg": _conv1x1(dz, weight.reshape(weight.shape[0], -1).T),
        "dweight": dweight.reshape(weight.shape),
        "dgamma": dgamma,
        "dbeta": dbeta,
        "moving_mean": MOMENTUM * inputs["moving_mean"].astype(np.float64) + (1 - MOMENTUM) * mean,
        "moving_variance": MOMENTUM * inputs["moving_variance"].astype(np.float64)
        + (1 - MOMENTUM) * variance * count / (count - 1),
    }


def away_from_kink(g: np.ndarray, small: Arrays) -> np.ndarray:
    """A random dF, zero where ReLU's input is so near zero that rounding would decide about the gradient."""
    x, *_ = _normalised(g, small)
    near = np.abs(x * _column(small["gamma"]) + _column(small["beta"])) < 1e-3
    return np.where(near, np.float32(0), normal(np.random.default_rng(11), x.shape))


def _normalised(g: np.ndarray, small: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Batch-normalised convolution, before scale and shift; 1 / deviation; mean; biased variance."""
    z = _conv1x1(g.astype(np.float64), small["weight"])
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
    inverse = 1 / np.sqrt(variance + EPS)
    return (z - _column(mean)) * _column(inverse), inverse, mean, variance


def _conv1x1(g: np.ndarray, weight: np.ndarray) -> np.ndarray:
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    return np.matmul(matrix, g.reshape(*g.shape[:2], -1)).reshape(g.shape[0], -1, *g.shape[2:])


def _column(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float64).reshape(1, -1, 1, 1)
