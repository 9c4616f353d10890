"""The softmax-weighted sum of the branches (Eq. 9) and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case, Traffic, normal


@dataclass(frozen=True)
class _Aggregate(Case):
    batch: int
    channels: int = 128
    agents: int = 3
    grid: int = 16

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.channels, self.grid, self.grid)

    @property
    def size(self) -> int:
        return self.batch * self.channels * self.grid**2

    @property
    def label(self) -> str:
        return f"{self.agents} x {'x'.join(map(str, self.shape))}"

    def branches(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[f"a{i}"] for i in range(self.agents)]

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        alpha = rng.uniform(-1, 1, self.agents).astype(np.float32)
        return {"alpha": alpha, **{f"a{i}": normal(rng, self.shape) for i in range(self.agents)}}


@dataclass(frozen=True)
class AggregateForward(_Aggregate):
    """alpha, A_1..A_N -> G"""

    def expected(self, inputs: Arrays) -> Arrays:
        weights = softmax(inputs["alpha"])
        return {"g": weighted_sum(weights, self.branches(inputs))}

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.agents, 1, self.size, (2.0 * self.agents - 1) * self.size)


@dataclass(frozen=True)
class AggregateBackward(_Aggregate):
    """alpha, A_1..A_N, dG -> d alpha, dA_1..dA_N"""

    # d alpha is a difference of sums over every element, in which most of it cancels.
    tolerance: ClassVar = {"": 1e-5, "dalpha": 2e-3}

    def inputs(self) -> Arrays:
        return {**super().inputs(), "dg": normal(np.random.default_rng(self.batch + 1), self.shape)}

    def expected(self, inputs: Arrays) -> Arrays:
        return aggregate_backward(softmax(inputs["alpha"]), self.branches(inputs), inputs["dg"])

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.agents + 1, self.agents, self.size, 3.0 * self.agents * self.size)


def softmax(alpha: np.ndarray) -> np.ndarray:
    e = np.exp(alpha.astype(np.float64) - alpha.max())
    return e / e.sum()


def weighted_sum(weights: np.ndarray, branches: list[np.ndarray]) -> np.ndarray:
    total = weights[0] * branches[0].astype(np.float64)
    for weight, branch in zip(weights[1:], branches[1:], strict=True):
        # A float64 scalar times a float32 array would be float32.
        total += weight * branch.astype(np.float64)
    return total


def aggregate_backward(weights: np.ndarray, branches: list[np.ndarray], dg: np.ndarray) -> Arrays:
    dg = dg.astype(np.float64)
    dots = np.array([np.vdot(dg, branch.astype(np.float64)) for branch in branches])
    results = {"dalpha": weights * (dots - weights @ dots)}
    return results | {f"da{i}": weight * dg for i, weight in enumerate(weights)}
