"""The one list of operators that every tier of the verification goes through.

A new operator is one entry here: how to draw a random case of it. A case launches its entry points through
``tests.maam_ops.native.launch``, forward and backward, and its ``check()`` raises where a result is further from the
oracle than the operator's tolerance allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tests.maam_ops import native, oracle
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.dense_case import DenseCase
from tests.maam_ops.maam_case import MaamCase, conv_same
from tests.maam_ops.maam_training_case import BatchNorm, MaamTrainingCase, first_largest
from tests.maam_ops.native import Array
from tests.maam_ops.reduce_case import ReduceCase

from .draw import Draw

# Distance from a tie, or from 0, that no rounding bridges.
MARGIN = 2e-5


class Case(Protocol):
    def check(self) -> None: ...


@dataclass(frozen=True)
class Operator:
    """
    Attributes:
        name: as users know it.
        kernel: one of its lines in csrc/<op>/kernels.inc, whose variants are those of the operator.
        dtypes: of the data.
        draw: a random case.
        plain: a case of ordinary values and middling size, few of whose results are zero.
        pieces: a case large enough to be cut into several pieces of work.
    """

    name: str
    kernel: str
    dtypes: tuple[str, ...]
    draw: Callable[[Draw, str], Case]
    plain: Callable[[str], Case]
    pieces: Callable[[str], Case]

    def __str__(self) -> str:
        return self.name

    @property
    def isas(self) -> list[str]:
        return native.isas(self.kernel)


def _redraw(draw: Draw, array: Array) -> Array:
    return Array(draw.values(array.values), array.dtype, draw.offset())


def _aggregate(draw: Draw, dtype: str) -> AggregateCase:
    shape = (draw.size(8), draw.size(70_000 if draw.rng.random() < 0.1 else 2_000))
    case = AggregateCase(shape, draw.pick(range(2, 9)), dtype, draw.seed, draw.offset())
    case.a = [_redraw(draw, a) for a in case.a]
    case.dg = _redraw(draw, case.dg)
    return case


def _reduce(draw: Draw, dtype: str, branches: int = 1) -> ReduceCase:
    shape = draw.size(9), draw.size(70), draw.size(300)
    weight = draw.pick((dtype, native.parameter_dtype(dtype)))
    case = ReduceCase(shape, draw.size(70), dtype, branches=branches, weight_dtype=weight, offset=draw.offset(),
                      seed=draw.seed)  # fmt: skip
    case.a = [_redraw(draw, a) for a in case.a]
    return case


def _aggregate_reduce(draw: Draw, dtype: str) -> ReduceCase:
    return _reduce(draw, dtype, branches=draw.pick(range(2, 9)))


def _dense(draw: Draw, dtype: str) -> DenseCase:
    long = draw.rng.random() < 0.1
    case = DenseCase(draw.size(70), draw.size(10_000 if long else 300), draw.size(40), bias=draw.pick((True, False)),
                     relu=draw.pick((True, False)), offset=draw.offset(), seed=draw.seed)  # fmt: skip
    case.x = _redraw(draw, case.x)
    return case


def _maam(draw: Draw, dtype: str) -> MaamCase:
    height, width = draw.image(600)
    kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((2, 3, 3, 4, 8)))]
    images = draw.size(4), draw.size(6), max(2, height), max(2, width)
    case = MaamCase(images, draw.size(20), draw.size(40), kernels, offset=draw.offset(), seed=draw.seed)
    case.x = case.array(draw.values(case.x.values))
    return case


def _maam_training(draw: Draw, dtype: str) -> MaamTrainingCase:
    while True:
        kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((2, 3, 3, 4, 8)))]
        images = draw.pick((1, 2, 3)), draw.size(3), draw.pick(range(4, 12)), draw.pick(range(4, 12))
        case = MaamTrainingCase(images, draw.size(6), draw.size(20), kernels, offset=draw.offset(), seed=draw.seed)
        if _decided(case):
            return case
        draw.seed += 1


def _decided(case: MaamTrainingCase) -> bool:
    """Whether no rounding can decide which pixel a max-pool takes, or whether a ReLU lets it pass."""

    def normalised(x, operands):
        weight, gamma, beta = (operand.values for operand in operands[:3])
        return BatchNorm(conv_same(x, weight), gamma, beta, case.eps.values[0]).y

    agents = []
    for branch in case.branches:
        y = normalised(case.x.values, branch)
        batch, channels, height, width = y.shape
        windows = y[:, :, : height // 2 * 2, : width // 2 * 2].reshape(batch, channels, height // 2, 2, width // 2, 2)
        values = np.sort(windows.transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4))
        if np.abs(values).min() < MARGIN or np.diff(values).min() < MARGIN:
            return False
        agents.append(first_largest(y)[0])
    g = oracle.aggregate(case.alpha.values, agents)
    return np.abs(normalised(g, case.reduce)).min() > MARGIN


def _few_zeros(case: ReduceCase) -> ReduceCase:
    """Moved up, so that the ReLU leaves most of F."""
    case.beta = case.vector(np.abs(case.beta.values) + 2)
    return case


def _plain_training() -> MaamTrainingCase:
    case = MaamTrainingCase((2, 3, 9, 10), offset=1)
    for group in (*case.branches, case.reduce):
        group[2] = case.array(group[2].values + 3)
    return case


OPERATORS = (
    Operator(
        "aggregate",
        "aggregate_forward",
        native.DTYPES,
        _aggregate,
        lambda dtype: AggregateCase((3, 1237), 3, dtype, offset=1),
        lambda dtype: AggregateCase(200_001, 3, dtype),
    ),
    Operator(
        "reduce",
        "reduce_infer",
        native.DTYPES,
        _reduce,
        lambda dtype: _few_zeros(ReduceCase((5, 17, 49), 13, dtype, offset=1)),
        lambda dtype: ReduceCase((37, 12, 49), 18, dtype),
    ),
    Operator(
        "aggregate_reduce",
        "reduce_infer",
        native.DTYPES,
        _aggregate_reduce,
        lambda dtype: _few_zeros(ReduceCase((5, 17, 49), 13, dtype, branches=3, offset=1)),
        lambda dtype: ReduceCase((37, 12, 49), 18, dtype, branches=3),
    ),
    Operator(
        "dense",
        "dense_segment",
        ("float32",),
        _dense,
        lambda _: DenseCase(13, 333, 10, offset=1),
        lambda _: DenseCase(20, 9001, 30),
    ),
    Operator(
        "maam",
        "maam_inference",
        ("float32",),
        _maam,
        lambda _: MaamCase((3, 3, 17, 18), offset=1, lift=3),
        lambda _: MaamCase((5, 3, 34, 30), offset=3),
    ),
    Operator(
        "maam_training",
        "maam_mix",
        ("float32",),
        _maam_training,
        lambda _: _plain_training(),
        lambda _: MaamTrainingCase((5, 3, 34, 30), offset=3),
    ),
)

# Each operator in each dtype and variant of its own.
EVERY = [(operator, dtype, isa) for operator in OPERATORS for dtype in operator.dtypes for isa in operator.isas]
NAMES = [f"{operator.name}-{dtype}-{isa}" for operator, dtype, isa in EVERY]
