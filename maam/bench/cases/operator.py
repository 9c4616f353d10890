"""Any operator of the inventory beside its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Arrays, Case, normal


@dataclass(frozen=True)
class Operator(Case):
    """One operator's Cell at the sizes of the classifier; the reference is the truth

    Attributes:
        op: as ``maam_ops.info()`` has it.
        batch: images; for "adam" thousands of elements.
        call: "inference", "training" (gradients of parameters and inputs) or "both" one after the other.
    """

    op: str
    batch: int
    call: str

    # Gradients cancel, and ReLU and max-pool turn a rounding into another path.
    tolerance: ClassVar = {"": 2e-2}
    SHAPES: ClassVar = {
        "agent_aggregate": ((128, 16, 16),) * 3,
        "reduce": ((64, 16, 16),),
        "aggregate_reduce": ((64, 16, 16),) * 3,
        "maam": ((3, 32, 32),),
        "maam_deep": ((3, 32, 32),),
        "maam_mix": ((3, 32, 32),),
        "agent_block": ((3, 32, 32),),
        "conv_block": ((64, 16, 16),),
        "dense": ((32768,),),
        "cross_entropy": ((10,),),
        "adam": ((1000,), (1000,)),
    }

    @property
    def label(self) -> str:
        return f"batch {self.batch}, {self.call}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first operand."""
        return (self.batch, *self.SHAPES[self.op][0])

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        arrays = {f"x{i}": normal(rng, (self.batch, *shape)) for i, shape in enumerate(self.SHAPES[self.op])}
        if self.op == "cross_entropy":
            arrays["labels"] = rng.integers(0, 10, self.batch).astype(np.int32)
        return arrays

    def expected(self, inputs: Arrays) -> None:
        return None
