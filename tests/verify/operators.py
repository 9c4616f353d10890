"""The one list of operators that accuracy, guards, determinism, processes and random cases go through.

A new operator is one entry here: how to draw a random case of it. A case launches its entry points through
``tests.maam_ops.native.launch``, forward and backward, and its ``check()`` raises where a result is further from the
oracle than the operator's tolerance allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from tests.maam_ops import native, oracle
from tests.maam_ops.adam_case import AdamCase
from tests.maam_ops.agent_block_case import MAX_BOUND as BLOCK_BOUND
from tests.maam_ops.agent_block_case import AgentBlockCase
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.conv_block_case import ConvBlockCase
from tests.maam_ops.cross_entropy_case import CrossEntropyCase
from tests.maam_ops.dense_case import DenseCase, DenseGradientCase
from tests.maam_ops.int8_case import MaamDeepInt8Case, MaamInt8Case
from tests.maam_ops.layers import BatchNorm, conv_same, first_largest
from tests.maam_ops.maam_case import MaamCase
from tests.maam_ops.maam_deep_case import MAX_BOUND, MaamDeepCase
from tests.maam_ops.maam_mix_case import MaamMixCase
from tests.maam_ops.maam_training_case import MaamTrainingCase
from tests.maam_ops.native import Array, assert_close
from tests.maam_ops.reduce_case import ReduceCase

from . import int8_draw
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
    shape = draw.size(9), draw.size(70), draw.size(300 if draw.rng.random() < 0.2 else 140)
    weight = draw.pick((dtype, native.parameter_dtype(dtype)))
    case = ReduceCase(shape, draw.size(70), dtype, branches=branches, weight_dtype=weight, offset=draw.offset(),
                      seed=draw.seed)  # fmt: skip
    case.a = [_redraw(draw, a) for a in case.a]
    return case


def _aggregate_reduce(draw: Draw, dtype: str) -> ReduceCase:
    return _reduce(draw, dtype, branches=draw.pick(range(2, 9)))


def _dense(draw: Draw, dtype: str) -> DenseCase:
    long = draw.rng.random() < 0.1
    case = DenseCase(draw.size(70), draw.size(10_000 if long else 300), draw.size(40), dtype,
                     weight_dtype=draw.pick((dtype, "float32")), bias=draw.pick((True, False)),
                     relu=draw.pick((True, False)), offset=draw.offset(), seed=draw.seed)  # fmt: skip
    case.x = _redraw(draw, case.x)
    return case


def _maam(draw: Draw, dtype: str) -> MaamCase:
    height, width = draw.image(600)
    kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((2, 3, 3, 4, 8)))]
    images = draw.size(4), draw.size(6), max(2, height), max(2, width)
    case = MaamCase(images, draw.size(20), draw.size(40), kernels, dtype=dtype,
                    weight_dtype=draw.pick((dtype, "float32")), offset=draw.offset(), seed=draw.seed)  # fmt: skip
    case.x = case.images(draw.values(case.x.values))
    return case


class SmallMaamTraining(MaamTrainingCase):
    """Few pixels vary little by chance, and dividing by their deviation enlarges what was rounded before."""

    def check(self, steps=256):
        super().check(steps)


def _maam_training(draw: Draw, dtype: str) -> MaamTrainingCase:
    while True:
        kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((2, 3, 3, 4, 8)))]
        images = draw.pick((1, 2, 3)), draw.size(3), draw.pick(range(4, 12)), draw.pick(range(4, 12))
        case = SmallMaamTraining(images, draw.size(6), draw.size(20), kernels, offset=draw.offset(), seed=draw.seed)
        if _decided(case):
            return case
        draw.seed += 1


class SmallMaamMix(MaamMixCase):
    """As :class:`SmallMaamTraining`."""

    def check(self, steps=256):
        super().check(steps)


def _maam_mix(draw: Draw, dtype: str) -> MaamMixCase:
    while True:
        kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((1, 1, 2, 3, 8)))]
        images = draw.pick((1, 2, 3)), draw.size(3), draw.pick(range(4, 12)), draw.pick(range(4, 12))
        case = SmallMaamMix(images, draw.size(6), kernels, offset=draw.offset(), seed=draw.seed)
        if all(_clear_pool(_normalised(case.x.values, branch)) for branch in case.branches):
            return case
        draw.seed += 1


def _normalised(x: np.ndarray, operands: list[Array]) -> np.ndarray:
    weight, gamma, beta = (operand.values for operand in operands[:3])
    return BatchNorm(conv_same(x, weight), gamma, beta).y


def _clear_pool(y: np.ndarray) -> bool:
    """Whether no pixel that a 2x2 max-pool looks at is near another of its window, or near 0."""
    batch, channels, height, width = y.shape
    windows = y[:, :, : height // 2 * 2, : width // 2 * 2].reshape(batch, channels, height // 2, 2, width // 2, 2)
    values = np.sort(windows.transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4))
    return np.abs(values).min() > MARGIN and np.diff(values).min() > MARGIN


def _decided(case: MaamTrainingCase) -> bool:
    """Whether no rounding can decide which pixel a max-pool takes, or whether a ReLU lets it pass."""
    agents = [_normalised(case.x.values, branch) for branch in case.branches]
    if not all(map(_clear_pool, agents)):
        return False
    g = oracle.aggregate(case.alpha.values, [first_largest(y)[0] for y in agents])
    return np.abs(_normalised(g, case.reduce)).min() > MARGIN


class SmallAgentBlock(AgentBlockCase):
    """Beside the terms of the sums over the pixels: of few sums that cancel, the mean square says little."""

    def check(self):
        forward, backward = self.expected()
        terms = np.abs(self.da.values).sum((0, 2, 3)).max()
        # What is rounded may cancel: gamma times a normal value and beta in A, the values themselves in their mean.
        gamma, beta = (operand.values for operand in self.second[1:3])
        spreads = [np.abs(gamma).max() + np.abs(beta).max(), forward[2].max() ** 0.5, 0, forward[4].max() ** 0.5, 0]
        for got, expected, spread in zip(self.forward(), forward, spreads, strict=True):
            assert_close(got.values, expected, BLOCK_BOUND * max(np.abs(expected).max(), spread), "forward")
        for got, expected in zip(self.backward(), backward, strict=True):
            assert_close(got.values, expected, BLOCK_BOUND * max(np.abs(expected).max(), terms), "backward")


def _agent_block(draw: Draw, dtype: str) -> AgentBlockCase:
    while True:
        # Behind a normalisation the size of a weight counts nothing: with a single one its gradient is all rounding.
        images = 2, draw.pick((2, 3, 4)), draw.pick(range(4, 12)), draw.pick(range(4, 12))
        case = SmallAgentBlock(images, draw.size(6), draw.size(6), offset=draw.offset(), seed=draw.seed)
        y = _normalised(case.x.values, case.first)
        if np.abs(y).min() > MARGIN and _clear_pool(_normalised(np.maximum(y, 0), case.second)):
            return case
        draw.seed += 1


class SmallConvBlock(ConvBlockCase):
    """As :class:`SmallAgentBlock`."""

    def check(self):
        terms = np.abs(self.da.values).sum((0, 2, 3)).max()
        results = self.results()
        gamma, beta = (operand.values for operand in self.operands[1:3])
        spread = np.abs(gamma).max() + np.abs(beta).max()
        for name, expected in self.expected().items():
            scale = max(np.abs(expected).max(), terms if name.startswith("d") else spread)
            assert_close(results[name].values, expected, BLOCK_BOUND * scale, name)


def _conv_block(draw: Draw, dtype: str) -> ConvBlockCase:
    while True:
        images = 2, draw.size(6), draw.pick(range(4, 12)), draw.pick(range(4, 12))
        end = draw.pick(({}, {"pool": True}, {"residual": True}))
        case = SmallConvBlock(images, draw.size(6), offset=draw.offset(), seed=draw.seed, **end)
        if _clear_pool(_normalised(case.x.values, case.operands)):
            return case
        draw.seed += 1


class SmallMaamDeep(MaamDeepCase):
    """The largest error alone, beside the largest result: of few numbers the mean square says little."""

    def check(self):
        expected = self.expected()
        bound = MAX_BOUND * np.abs(expected).max(initial=0) + 1e-6 + native.rounding(self.dtype, expected)
        assert_close(self.run().values, expected, bound, "F")


def _maam_deep(draw: Draw, dtype: str) -> MaamDeepCase:
    height, width = draw.image(400)
    kernels = [draw.pick((1, 3, 3)) for _ in range(draw.pick((2, 3, 3, 4)))]
    images = draw.size(3), draw.size(4), max(2, height), max(2, width)
    return SmallMaamDeep(images, draw.size(20), draw.size(20), draw.size(20), kernels, dtype=dtype,
                        weight_dtype=draw.pick((dtype, "float32")), offset=draw.offset(),
                        seed=draw.seed)  # fmt: skip


def _dense_gradients(draw: Draw, dtype: str) -> DenseGradientCase:
    case = DenseGradientCase(draw.size(300), draw.size(300), draw.size(300), dtype,
                             weight_dtype=draw.pick((dtype, "float32")), relu=draw.pick((True, False)),
                             offset=draw.offset(), seed=draw.seed)  # fmt: skip
    case.x, case.dy = _redraw(draw, case.x), _redraw(draw, case.dy)
    return case


def _cross_entropy(draw: Draw, dtype: str) -> CrossEntropyCase:
    rows, classes = draw.size(300), draw.size(1100)
    ignored = np.flatnonzero(draw.rng.random(rows) < draw.pick((0, 0, 0.3)))[1:]
    case = CrossEntropyCase(rows, classes, dtype, smoothing=draw.pick((0, 0, 0.1, 0.25)), offset=draw.offset(),
                            ignored=ignored, seed=draw.seed)  # fmt: skip
    case.logits = _redraw(draw, case.logits)
    return case


def _adam(draw: Draw, dtype: str, rules: tuple[str, ...] = ("plain", "nesterov")) -> AdamCase:
    sizes = [draw.size(3000) for _ in range(draw.size(6))]
    return AdamCase(*sizes, rule=draw.pick(rules), scale=draw.pick((1.0, 0.5)), offset=draw.offset(), seed=draw.seed)


def _few_zeros(case: ReduceCase) -> ReduceCase:
    """Moved up, so that the ReLU leaves most of F."""
    case.beta = case.vector(np.abs(case.beta.values) + 2)
    return case


def _lifted(case: MaamDeepCase) -> MaamDeepCase:
    case.reduce[2] = case.array(case.reduce[2].values + 3)
    return case


def _plain_training() -> MaamTrainingCase:
    case = MaamTrainingCase((2, 3, 9, 10), offset=1)
    for group in (*case.branches, case.reduce):
        group[2] = case.array(group[2].values + 3)
    return case


# Of kernels that compute in float32.
SINGLE = ("float32", "float16", "bfloat16")

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
        SINGLE,
        _dense,
        lambda dtype: DenseCase(13, 333, 10, dtype, offset=1),
        lambda dtype: DenseCase(20, 9001, 30, dtype),
    ),
    Operator(
        "dense_gradients",
        "dense_product",
        SINGLE,
        _dense_gradients,
        lambda dtype: DenseGradientCase(13, 333, 10, dtype, offset=1),
        lambda dtype: DenseGradientCase(70, 2001, 300, dtype),
    ),
    Operator(
        "cross_entropy",
        "cross_entropy",
        native.DTYPES,
        _cross_entropy,
        lambda dtype: CrossEntropyCase(50, 10, dtype, smoothing=0.1, offset=1),
        lambda dtype: CrossEntropyCase(9000, 10, dtype, ignored=range(0, 9000, 7)),
    ),
    Operator(
        "adam",
        "adam_update",
        ("float32",),
        _adam,
        lambda _: AdamCase(1000, 3, offset=1),
        lambda _: AdamCase(200_001, 3, 70_000),
    ),
    Operator(
        "adam_weight_decay",
        "adam_update",
        ("float32",),
        partial(_adam, rules=("decoupled",)),
        lambda _: AdamCase(1000, 3, rule="decoupled", offset=1),
        lambda _: AdamCase(200_001, 3, 70_000, rule="decoupled"),
    ),
    Operator(
        "maam",
        "maam_inference",
        SINGLE,
        _maam,
        lambda dtype: MaamCase((3, 3, 17, 18), dtype=dtype, weight_dtype=dtype, offset=1, lift=3),
        lambda dtype: MaamCase((5, 3, 34, 30), dtype=dtype, weight_dtype=dtype, offset=3),
    ),
    Operator(
        "maam_training",
        "maam_mix",
        ("float32",),
        _maam_training,
        lambda _: _plain_training(),
        lambda _: MaamTrainingCase((5, 3, 34, 30), offset=3),
    ),
    Operator(
        "maam_mix",
        "maam_mix",
        ("float32",),
        _maam_mix,
        lambda _: MaamMixCase((2, 3, 9, 10), kernels=(3, 3, 3), offset=1),
        lambda _: MaamMixCase((5, 3, 34, 30), kernels=(3, 3, 3), offset=3),
    ),
    Operator(
        "maam_deep",
        "maam_deep_inference",
        SINGLE,
        _maam_deep,
        lambda dtype: _lifted(MaamDeepCase((3, 3, 17, 18), dtype=dtype, offset=1)),
        lambda dtype: MaamDeepCase((5, 3, 34, 30), dtype=dtype, offset=3),
    ),
    Operator(
        "agent_block",
        "agent_block_forward",
        ("float32",),
        _agent_block,
        lambda _: AgentBlockCase((2, 3, 9, 10), channels=32, offset=1),
        lambda _: AgentBlockCase((5, 3, 34, 30), offset=3),
    ),
    Operator(
        "conv_block",
        "conv_block_forward",
        ("float32",),
        _conv_block,
        lambda _: ConvBlockCase((2, 5, 9, 10), channels=32, residual=True, offset=1),
        lambda _: ConvBlockCase((5, 3, 34, 30), pool=True, offset=3),
    ),
    Operator(
        "dense_int8",
        "dense_int8",
        ("int8",),
        int8_draw.dense,
        lambda _: int8_draw.DenseInt8Both(13, 333, 10, offset=1),
        lambda _: int8_draw.DenseInt8Both(20, 9001, 70),
    ),
    Operator(
        "maam_int8",
        "maam_int8",
        ("int8",),
        int8_draw.maam,
        lambda _: MaamInt8Case((3, 3, 17, 18), offset=1),
        lambda _: MaamInt8Case((5, 3, 34, 30), offset=3),
    ),
    Operator(
        "maam_deep_int8",
        "maam_deep_int8",
        ("int8",),
        int8_draw.maam_deep,
        lambda _: MaamDeepInt8Case((3, 3, 17, 18), offset=1),
        lambda _: MaamDeepInt8Case((5, 3, 34, 30), offset=3),
    ),
)

# Each operator in each dtype and variant of its own.
EVERY = [(operator, dtype, isa) for operator in OPERATORS for dtype in operator.dtypes for isa in operator.isas]
NAMES = [f"{operator.name}-{dtype}-{isa}" for operator, dtype, isa in EVERY]
