"""The MAAM classifier: parallel branches, agent attention, 1x1 reduction, two dense layers.

    A_i = AgentBlock_i(X)                  i = 1..N
    G   = sum_i softmax(alpha)_i * A_i
    F   = ReLU(BN(Conv1x1(G)))
    y   = W2 ReLU(W1 flatten(F) + b1) + b2

Parameters always belong to the plain cells (`agent<i>`, `fusion`, `reduce`, `classifier`). A fused implementation
adopts those parameters, so both implementations have the same names, initial values and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

import maam_ops

from ..errors import MaamError
from .config import POOL, RESIDUAL, MaamConfig

_CONV_NORM = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)
DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16}


def _convolution(in_channels: int, width: int, kernel_size: int, stride: int = 1) -> list[nn.Cell]:
    conv = nn.Conv2d(in_channels, width, kernel_size, stride=stride, pad_mode="pad", padding=kernel_size // 2)
    return [conv, nn.BatchNorm2d(width), nn.ReLU()]


class Residual(nn.Cell):
    """x + two (conv - BN - ReLU) of x, all of one width."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        cells = [*_convolution(width, width, kernel_size), *_convolution(width, width, kernel_size)]
        self.block = nn.SequentialCell(*cells)

    def construct(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class AgentBlock(nn.Cell):
    """One branch: the entries of `channels` in their order, then max-pool.

    A width is (conv - BN - ReLU), "pool" a 2x2 max-pool, "res" a :class:`Residual`. Images (B, in_channels, S, S)
    -> (B, last width, H, H) with H = ceil(S / stride) // 2 for each "pool" // pool.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int | str], kernel_size: int, stride: int, pool: int
    ) -> None:
        super().__init__()
        cells: list[nn.Cell] = []
        for index, entry in enumerate(channels):
            if entry == POOL:
                cells.append(nn.MaxPool2d(2, 2))
            elif entry == RESIDUAL:
                cells.append(Residual(in_channels, kernel_size))
            else:
                cells += _convolution(in_channels, entry, kernel_size, stride if index == 0 else 1)
                in_channels = entry
        if pool > 1:
            cells.append(nn.MaxPool2d(pool, pool))
        self.block = nn.SequentialCell(*cells)

    def construct(self, x: Tensor) -> Tensor:
        return self.block(x)


class FusedAgent(nn.Cell):
    """A branch through the fused operators as far as they cover it; its Cells and their parameters stay as they are.

    Two convolutions with a max-pool behind, first in the branch, are one operator in training. So is each other 3x3
    convolution with its normalisation and ReLU, and with the max-pool or the residual sum that follows it. A single
    convolution of another size with a max-pool behind is the mix of one branch.
    """

    def __init__(self, agent: AgentBlock, impl: str) -> None:
        super().__init__()
        layers = list(agent.block)
        head = [nn.SequentialCell(*layers[:7])] if _kinds(layers[:7]) == (*_CONV_NORM * 2, nn.MaxPool2d) else []
        steps = _fused_steps(layers, impl)
        # Both from the first to the last layer: the one for training begins with the head.
        in_training = [*(maam_ops.FusedAgentBlock(block, impl=impl) for block in head), *steps[2 * len(head) :]]
        self.in_evaluation = nn.CellList(steps, auto_prefix=False)
        self.in_training = nn.CellList(in_training, auto_prefix=False)

    def construct(self, x: Tensor) -> Tensor:
        if self.training:
            for step in self.in_training:
                x = step(x)
        else:
            for step in self.in_evaluation:
                x = step(x)
        return x


def _kinds(layers: Sequence[nn.Cell]) -> tuple[type, ...]:
    return tuple(type(layer) for layer in layers)


def _fused_steps(layers: list[nn.Cell], impl: str) -> list[nn.Cell]:
    """The layers in their order, fused operators in place of convolutions with what follows them."""
    if _kinds(layers) == (*_CONV_NORM, nn.MaxPool2d) and layers[-1].kernel_size in (2, 4):
        # A max of 4x4 pixels is that of 2x2 of 2x2.
        rest = [nn.MaxPool2d(2, 2)] if layers[-1].kernel_size == 4 else []
        return [maam_ops.FusedMix([nn.SequentialCell(*layers[:3], nn.MaxPool2d(2, 2))], impl=impl), *rest]
    steps: list[nn.Cell] = []
    while layers:
        layer = layers[0]
        if isinstance(layer, Residual):
            steps.append(_FusedResidual(layer, impl) if _covered(layer.block[0]) else layer)
            layers = layers[1:]
        elif isinstance(layer, nn.Conv2d) and _covered(layer):
            pools = len(layers) > 3 and isinstance(layers[3], nn.MaxPool2d) and layers[3].kernel_size == 2
            steps.append(maam_ops.FusedConvBlock(layer, layers[1], layers[3] if pools else None, impl))
            layers = layers[4:] if pools else layers[3:]
        else:
            steps.append(layer)
            layers = layers[1:]
    return steps


def _covered(conv: nn.Conv2d) -> bool:
    """Whether `maam_ops.FusedConvBlock` has this convolution."""
    return conv.kernel_size == (3, 3) and conv.stride == (1, 1)


class _FusedResidual(nn.Cell):
    """A :class:`Residual` of two fused convolutions."""

    def __init__(self, residual: Residual, impl: str) -> None:
        super().__init__()
        first, first_bn, _, second, second_bn, _ = residual.block
        self.first = maam_ops.FusedConvBlock(first, first_bn, impl=impl)
        self.second = maam_ops.FusedConvBlock(second, second_bn, impl=impl)

    def construct(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x)


class AgentAttention(nn.Cell):
    """Weighted sum of N equal-shaped branches; the weights are softmax(attn_weights), learned, initially equal."""

    def __init__(self, num_agents: int) -> None:
        super().__init__()
        self.attn_weights = Parameter(ops.ones((num_agents, 1, 1, 1), ms.float32), name="attn_weights")

    def construct(self, branches: Sequence[Tensor]) -> Tensor:
        weights = ops.softmax(self.attn_weights, 0)
        # Starting from the first product spares the `0 + ...` that Python's sum() would put into the graph.
        mixed = weights[0] * branches[0]
        for index in range(1, len(branches)):
            mixed = mixed + weights[index] * branches[index]
        return mixed


class BranchMean(nn.Cell):
    """Plain mean of the branches: the ablation of agent attention."""

    def construct(self, branches: Sequence[Tensor]) -> Tensor:
        mixed = branches[0]
        for index in range(1, len(branches)):
            mixed = mixed + branches[index]
        return mixed if len(branches) == 1 else mixed * (1.0 / len(branches))


def _fits_whole_module(config: MaamConfig) -> bool:
    """Whether the branches are of the kind that `maam_ops.FusedMAAM` runs as one operator in evaluation."""
    if any(isinstance(entry, str) for entry in config.channels):
        return False
    kernels = {1: {1, 3, 5, 7}, 2: {3}}.get(len(config.channels), set())
    return set(config.stride) == {1} and set(config.pool) == {2} and set(config.kernel_size) <= kernels


def _resize(size: int, grid: int) -> nn.Cell:
    """Adaptive average pooling from size x size to grid x grid."""
    if size == grid:
        return nn.Identity()
    if size % grid == 0:  # the same; forward and backward together 3.5 times as fast
        return nn.AvgPool2d(size // grid, size // grid)
    return nn.AdaptiveAvgPool2d((grid, grid))


class MultiAgentModule(nn.Cell):
    """Branches, their mix and the reduction, in plain cells: images (B, C, S, S) -> features (B, O, H, H)."""

    def __init__(self, config: MaamConfig) -> None:
        super().__init__()
        agents = []
        for index in range(config.num_agents):
            agent = AgentBlock(
                config.in_channels,
                config.channels,
                config.kernel_size[index],
                config.stride[index],
                config.pool[index],
            )
            setattr(self, f"agent{index + 1}", agent)
            agents.append(agent)
        # Plain tuples: a CellList would rename the parameters of its cells.
        self._plain_agents = self._agents = tuple(agents)
        self._resizes = tuple(_resize(size, config.grid) for size in config.branch_sizes)
        self.fusion = AgentAttention(config.num_agents) if config.attention else BranchMean()
        self.reduce = nn.Identity()
        if config.reduce:
            width = config.reduce_channels
            self.reduce = nn.SequentialCell(nn.Conv2d(config.width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self._stages = (self.fusion, self.reduce)
        self._whole = False

    def fuse(self, config: MaamConfig, impl: str) -> None:
        """Run through the fused operators from now on, as far as they go; the parameters stay where they are."""
        with maam_ops.names_kept(self):
            self._fuse(config, impl)

    def _fuse(self, config: MaamConfig, impl: str) -> None:
        alpha = self.fusion.attn_weights if config.attention else None
        last = (self.reduce[0], self.reduce[1]) if config.reduce else None
        blocks = [agent.block for agent in self._agents]
        fits = _fits_whole_module(config)
        if config.attention and config.reduce and fits:
            self.fused = maam_ops.FusedMAAM.from_cells(blocks, alpha, *last, impl=impl)
            self._whole, self._stages = True, (nn.Identity(),)
        elif fits and len(config.channels) == 1:
            self.fused = maam_ops.FusedMix(blocks, alpha, impl=impl)
            self.rest = maam_ops.FusedReduce.from_cells(*last, impl=impl) if config.reduce else nn.Identity()
            self._whole, self._stages = True, (self.rest,)
        else:
            agents = [FusedAgent(agent, impl) for agent in self._agents]
            self.fused_agents = nn.CellList(agents, auto_prefix=False)
            self._agents = tuple(agents)
            self._fuse_mix(alpha, last, impl)

    def _fuse_mix(self, alpha: Parameter | None, last: tuple[nn.Cell, nn.Cell] | None, impl: str) -> None:
        """Mix and reduction of branches that are operators, or layers, of their own."""
        if alpha is not None and last is not None:
            self.fused = maam_ops.FusedAggregateReduce.from_cells(alpha, *last, impl=impl)
            self._stages = (self.fused, nn.Identity())
        elif alpha is not None:
            self.fused = maam_ops.FusedAgentAggregate.from_parameter(alpha, impl=impl)
            self._stages = (self.fused, nn.Identity())
        elif last is not None:
            self.fused = maam_ops.FusedReduce.from_cells(*last, impl=impl)
            self._stages = (self.fusion, self.fused)

    @property
    def agents(self) -> Sequence[AgentBlock]:
        """The branches in plain cells."""
        return self._plain_agents

    def construct(self, x: Tensor) -> Tensor:
        if self._whole:
            return self._stages[0](self.fused(x))
        branches = []
        for agent, resize in zip(self._agents, self._resizes):  # noqa: B905 - graph mode has no strict=
            branches.append(resize(agent(x)))
        return self._stages[1](self._stages[0](branches))


class Maam(nn.Cell):
    """The whole classifier: images (B, in_channels, S, S) float32 in [0, 1] -> logits (B, num_classes).

    Args:
        config: architecture.
        num_classes: number of logits.
        impl: "reference" stays with plain MindSpore cells; any other value is handed to the fused operators.
    """

    def __init__(self, config: MaamConfig, num_classes: int, impl: str) -> None:
        super().__init__()
        self._half = None
        self.maam = MultiAgentModule(config)
        self.classifier = nn.SequentialCell(
            nn.Flatten(), nn.Dense(config.features, config.hidden), nn.ReLU(), nn.Dense(config.hidden, num_classes)
        )
        # After every plain cell exists: a fused cell draws random numbers too, which would shift the initial values.
        if impl != "reference":
            self.maam.fuse(config, impl)
            self._fuse_classifier(impl)

    def _fuse_classifier(self, impl: str) -> None:
        """Dense layers, the first with its ReLU, as fused operators in the places of the plain ones.

        They flatten the features themselves: MindSpore has no Flatten or Reshape of bfloat16 on CPU.
        """
        _, hidden, _, output = self.classifier
        with maam_ops.names_kept(self):
            self.classifier = nn.SequentialCell(
                nn.Identity(),
                maam_ops.FusedDense.from_cell(hidden, relu=True, impl=impl),
                nn.Identity(),
                maam_ops.FusedDense.from_cell(output, impl=impl),
            )

    def store_as(self, dtype: str) -> Maam:
        """Keep weights and feature maps in a half type from now on, for inference; returns the net.

        Weights of convolutions and dense layers take it, and images are cast to it; normalisations, the branches'
        shares, all arithmetic and the logits stay float32. A checkpoint is loaded before.

        Args:
            dtype: "float16", "bfloat16", or "float32", which changes nothing.

        Raises:
            MaamError: another dtype, or a model whose branches are not one fused operator.
        """
        if dtype not in DTYPES:
            raise MaamError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if dtype == "float32":
            return self
        fused = getattr(self.maam, "fused", None)
        if not isinstance(fused, maam_ops.FusedMAAM) or fused.choice.impl != "native":
            raise MaamError(
                f"dtype {dtype}: the branches of this model do not run as one compiled operator here, and MindSpore's "
                "own layers have no half form on CPU; use dtype float32 (maam_ops.explain(net) says why)"
            )
        self._half = DTYPES[dtype]
        for parameter in self.get_parameters():
            if parameter.ndim > 1 and parameter is not self.maam.fusion.attn_weights:
                parameter.set_dtype(self._half)
        for layer in (self.classifier[1], self.classifier[3]):
            layer.bias.set_dtype(self._half)
        return self

    def construct(self, x: Tensor) -> Tensor:
        if self._half is not None and not self.training:
            return self.classifier(self.maam(x.astype(self._half))).astype(ms.float32)
        return self.classifier(self.maam(x))
