"""A random case of each operator, for ``python -m maam_ops.compare``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from maam_ops import (
    _compare_int8,
    _select,
    adam,
    agent_block,
    aggregate,
    aggregate_reduce,
    conv_block,
    cross_entropy,
    dense,
    maam,
    maam_deep,
    maam_mix,
    reduce,
)
from maam_ops.compare import Report, compare, difference
from maam_ops.explain import kernels_run

_STEPS = 3  # of the optimizer


@dataclass(frozen=True)
class Draw:
    """What one case is made of; the same numbers whichever cases ran before.

    Attributes:
        shape: (B, C, H, W) of a branch.
        branches: how many.
        channels: of the output, or classes.
        dtype: of the data; operators that have it in float32 alone, and all weights below float64, are float32.
    """

    shape: tuple[int, ...]
    branches: int
    channels: int
    dtype: ms.Type
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0), init=False)

    @property
    def wide(self) -> ms.Type:
        return ms.float64 if self.dtype == ms.float64 else ms.float32

    @property
    def features(self) -> int:
        """Elements of one item."""
        return int(np.prod(self.shape[1:]))

    def data(self, *extents: int) -> Tensor:
        return Tensor(self.rng.standard_normal(extents)).astype(self.dtype)

    def tensors(self) -> list[Tensor]:
        """The branches."""
        return [self.data(*self.shape) for _ in range(self.branches)]

    def alpha(self) -> Tensor:
        return Tensor(self.rng.standard_normal(self.branches)).astype(self.wide)

    def vectors(self, channels: int, count: int = 4) -> list[Tensor]:
        """As gamma, beta, mean and variance may be."""
        return [Tensor(self.rng.uniform(0.5, 1.5, channels)).astype(self.wide) for _ in range(count)]

    def weight(self, outputs: int, inputs: int, *kernel: int) -> Tensor:
        """Such that its products are of the size of its inputs."""
        values = self.rng.standard_normal((outputs, inputs, *kernel)) / np.sqrt(inputs * np.prod(kernel))
        return Tensor(values).astype(self.wide)

    def images(self) -> Tensor:
        return self.data(self.shape[0], 3, 2 * self.shape[2], 2 * self.shape[3])

    def conv_norm(self, inputs: int) -> list[Tensor]:
        """A 3x3 convolution to as many channels as a branch has, and its normalisation."""
        return [self.weight(self.shape[1], inputs, 3, 3), *self.vectors(self.shape[1])]

    def reduction(self) -> list[Tensor]:
        return [self.weight(self.channels, self.shape[1], 1, 1), *self.vectors(self.channels)]


def run(op: str, shape: tuple[int, ...], branches: int, channels: int, dtype: ms.Type) -> Report:
    """Compare an operator with its reference on the case of these extents, see :class:`Draw`."""
    if op in _compare_int8.OPERATORS:
        return compare(*_compare_int8.case(op, shape, branches, channels), grad=False)
    return _CASES[op](Draw(shape, branches, channels, dtype))


def _aggregate(draw: Draw) -> Report:
    return compare(aggregate.agent_aggregate, draw.alpha(), *draw.tensors())


def _reduce(draw: Draw) -> Report:
    return compare(reduce.reduce, draw.data(*draw.shape), *draw.reduction(), training=True)


def _aggregate_reduce(draw: Draw) -> Report:
    function = aggregate_reduce.aggregate_reduce
    return compare(function, draw.alpha(), draw.tensors(), *draw.reduction(), training=True)


def _dense(draw: Draw) -> Report:
    x, weight = draw.data(draw.shape[0], draw.features), draw.weight(draw.channels, draw.features)
    return compare(dense.dense, x, weight, *draw.vectors(draw.channels, 1), relu=True)


def _cross_entropy(draw: Draw) -> Report:
    labels = Tensor(draw.rng.integers(0, draw.channels, draw.shape[0]).astype(np.int32))
    logits = draw.data(draw.shape[0], draw.channels)
    return compare(cross_entropy.cross_entropy, logits, labels, label_smoothing=0.1)


def _agent_block(draw: Draw) -> Report:
    return compare(agent_block.agent_block, draw.images(), draw.conv_norm(3), draw.conv_norm(draw.shape[1]))


def _conv_block(draw: Draw) -> Report:
    return compare(conv_block.conv_block, draw.images(), *draw.conv_norm(3), pool=True, training=True)


def _maam_mix(draw: Draw) -> Report:
    branches = [draw.conv_norm(3) for _ in range(draw.branches)]
    return compare(maam_mix.maam_mix, draw.images(), draw.alpha(), branches, grad=False)


def _maam(draw: Draw) -> Report:
    branches = [draw.conv_norm(3) for _ in range(draw.branches)]
    return compare(maam.maam, draw.images(), draw.alpha(), branches, *draw.reduction(), grad=False)


def _maam_deep(draw: Draw) -> Report:
    branches = [draw.conv_norm(3) + draw.conv_norm(draw.shape[1]) for _ in range(draw.branches)]
    return compare(maam_deep.maam_deep, draw.images(), draw.alpha(), branches, *draw.reduction(), grad=False)


def _adam(draw: Draw) -> Report:
    """A few steps on two parameters, float32 whatever the data: they and the states that the steps leave."""
    extents = [(draw.channels, draw.shape[1]), (draw.channels,)]

    def random() -> list[np.ndarray]:
        return [draw.rng.standard_normal(shape).astype(np.float32) for shape in extents]

    start, gradients = random(), [random() for _ in range(_STEPS)]

    def state_after(optimizer_class: type[nn.Optimizer], impl: str) -> tuple[str, list[Parameter]]:
        parameters = [Parameter(Tensor(value.copy()), name=name) for name, value in zip("wb", start, strict=True)]
        optimizer = optimizer_class(parameters, 1e-2, weight_decay=1e-2, impl=impl)
        for step in gradients:
            optimizer(tuple(Tensor(gradient) for gradient in step))
        return optimizer.impl, [*parameters, *optimizer._moments]

    optimizers = (adam.FusedAdam, adam.FusedAdamWeightDecay)
    states: list[tuple[str, list[Parameter]]] = []

    def run_kernels() -> list[Parameter]:
        states.extend(state_after(optimizer, _select.AUTO) for optimizer in optimizers)
        return [value for _, values in states for value in values]

    kernels = kernels_run(run_kernels)
    rows = []
    for optimizer, (_, got) in zip(optimizers, states, strict=True):
        _, expected = state_after(optimizer, _select.REFERENCE)
        rows += [
            difference(f"{left.name} after {_STEPS} steps of {optimizer.__name__}", left, right)
            for left, right in zip(got, expected, strict=True)
        ]
    return Report(adam.OP, states[0][0], kernels, rows)


_CASES: dict[str, Callable[[Draw], Report]] = {
    aggregate.OP: _aggregate,
    reduce.OP: _reduce,
    aggregate_reduce.OP: _aggregate_reduce,
    dense.OP: _dense,
    cross_entropy.OP: _cross_entropy,
    adam.OP: _adam,
    agent_block.OP: _agent_block,
    conv_block.OP: _conv_block,
    maam_mix.OP: _maam_mix,
    maam.OP: _maam,
    maam_deep.OP: _maam_deep,
}
# Operators whose case float64 makes sense for.
DOUBLE = frozenset({aggregate.OP, reduce.OP, aggregate_reduce.OP, cross_entropy.OP, adam.OP})
