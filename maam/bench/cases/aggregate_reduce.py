"""The aggregate and the reduce in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .aggregate import AggregateForward, aggregate_backward, softmax, weighted_sum
from .base import Arrays, Traffic
from .reduce import TRAINING_TOLERANCE, Reduce, away_from_kink, reduce_inference, reduce_training


@dataclass(frozen=True)
class _AggregateReduce(Reduce):
    agents: int = 3

    @property
    def label(self) -> str:
        return f"{self.agents} x {super().label}"

    def branches(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[f"a{i}"] for i in range(self.agents)]

    def inputs(self) -> Arrays:
        return {**self.small_inputs(), **AggregateForward(self.batch, self.channels, self.agents, self.grid).inputs()}


@dataclass(frozen=True)
class AggregateReduceInference(_AggregateReduce):
    """alpha, A_1..A_N -> F by running statistics"""

    def expected(self, inputs: Arrays) -> Arrays:
        return {"f": reduce_inference(weighted_sum(softmax(inputs["alpha"]), self.branches(inputs)), inputs)}

    @property
    def traffic(self) -> Traffic:
        flops = self.flops + 2.0 * self.agents * self.size
        return Traffic(self.agents, self.out_channels // self.channels, self.size, flops)


@dataclass(frozen=True)
class AggregateReduceTraining(_AggregateReduce):
    """alpha, A_1..A_N, dF -> d alpha, dA_1..dA_N, dW, d gamma, d beta, and updated running statistics"""

    tolerance: ClassVar = TRAINING_TOLERANCE

    def inputs(self) -> Arrays:
        arrays = super().inputs()
        g = weighted_sum(softmax(arrays["alpha"]), self.branches(arrays))
        return {**arrays, "df": away_from_kink(g, arrays)}

    def expected(self, inputs: Arrays) -> Arrays:
        weights, branches = softmax(inputs["alpha"]), self.branches(inputs)
        results = reduce_training(weighted_sum(weights, branches), inputs)
        dg = results.pop("dg")
        return results | aggregate_backward(weights, branches, dg)
