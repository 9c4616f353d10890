"""Architecture of a MAAM classifier as plain data, with its presets and its checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import MaamError

MIN_AGENTS, MAX_AGENTS = 2, 8
IntOrTuple = int | tuple[int, ...]
# What may stand between the widths of a branch.
POOL, RESIDUAL = "pool", "res"


@dataclass(frozen=True)
class MaamConfig:
    """Everything that fixes the shape of a MAAM classifier.

    Attributes:
        num_agents: number N of parallel branches, 2 to 8 (1 is allowed only with ``attention=False``).
        channels: widths of the stacked convolutions of every branch, e.g. ``(64,)`` or ``(64, 128)``. After the first
            width, "pool" stands for a 2x2 max-pool and "res" for a residual block of two convolutions that keeps the
            width: ``(32, "pool", 64, "pool", 128, "res")``.
        kernel_size: odd convolution kernel; one value, or one per branch. Padding keeps the image size.
        stride: stride of a branch's first convolution; one value, or one per branch.
        pool: window and stride of the max-pool that ends a branch (1 = none); one value, or one per branch.
        reduce_channels: output channels of the 1x1 convolution.
        hidden: width d of the hidden dense layer.
        in_channels, image_size: input images are (B, in_channels, image_size, image_size).
        attention: mix the branches with softmax(alpha); False takes their plain mean, which is what softmax
            gives at its initial value, so the ablation starts from the same function and never leaves it.
        reduce: compress with conv1x1-BN-ReLU; False feeds the mixed branches to the classifier.

    Branches whose kernels, strides or pools leave them with different sizes are brought to the smallest
    height and width among them by adaptive average pooling.
    """

    num_agents: int = 3
    channels: int | tuple[int | str, ...] = (64,)
    kernel_size: IntOrTuple = 3
    stride: IntOrTuple = 1
    pool: IntOrTuple = 2
    reduce_channels: int = 128
    hidden: int = 256
    in_channels: int = 3
    image_size: int = 32
    attention: bool = True
    reduce: bool = True

    def __post_init__(self) -> None:
        for name in ("attention", "reduce"):
            if not isinstance(getattr(self, name), bool):
                raise MaamError(f"create_model: {name} must be True or False, got {getattr(self, name)!r}")
        for name in ("num_agents", "reduce_channels", "hidden", "in_channels", "image_size"):
            check_positive(name, getattr(self, name))
        if self.num_agents > MAX_AGENTS or (self.num_agents < MIN_AGENTS and self.attention):
            raise MaamError(
                f"create_model: num_agents must be {MIN_AGENTS} to {MAX_AGENTS} (1 only with attention=False), "
                f"got {self.num_agents}"
            )
        widths = self.channels if _is_sequence(self.channels) else (self.channels,)
        if not widths:
            raise MaamError("create_model: channels must name at least one convolution, got ()")
        for index, width in enumerate(widths):
            if isinstance(width, str) and (width not in (POOL, RESIDUAL) or index == 0):
                raise MaamError(f"create_model: channels must be a width, then widths, 'pool' or 'res', got {widths!r}")
            if not isinstance(width, str):
                check_positive("channels", width)
        object.__setattr__(self, "channels", tuple(widths))
        for name in ("kernel_size", "stride", "pool"):
            object.__setattr__(self, name, self._per_agent(name))
        if any(kernel % 2 == 0 for kernel in self.kernel_size):
            raise MaamError(f"create_model: kernel_size must be odd, got {self.kernel_size}")
        if min(self.branch_sizes) < 1:
            raise MaamError(
                f"create_model: image_size {self.image_size} with stride {self.stride} and pool {self.pool} leaves "
                f"branches of size {self.branch_sizes}; each must be at least 1"
            )

    def _per_agent(self, name: str) -> tuple[int, ...]:
        value = getattr(self, name)
        values = tuple(value) if _is_sequence(value) else (value,) * self.num_agents
        if len(values) != self.num_agents:
            raise MaamError(
                f"create_model: {name} must be one value or one per branch ({self.num_agents}), got {len(values)}"
            )
        for entry in values:
            check_positive(name, entry)
        return values

    @property
    def branch_sizes(self) -> tuple[int, ...]:
        """Height (= width) of each branch's output before the branches are brought to one size."""
        halvings = self.channels.count(POOL)
        return tuple((-(-self.image_size // s) >> halvings) // p for s, p in zip(self.stride, self.pool, strict=True))

    @property
    def width(self) -> int:
        """Channels of every branch's output."""
        return [entry for entry in self.channels if not isinstance(entry, str)][-1]

    @property
    def grid(self) -> int:
        """Height (= width) of the mixed branches."""
        return min(self.branch_sizes)

    @property
    def features(self) -> int:
        """Length of the flattened input of the classifier."""
        return (self.reduce_channels if self.reduce else self.width) * self.grid**2

    def replace(self, **overrides: Any) -> MaamConfig:
        """This configuration with some options changed; unknown names raise :class:`MaamError`."""
        check_known(self, overrides)
        # Per-branch tuples of the old branch count are only kept where they are still one value in disguise.
        values = {name: _collapse(getattr(self, name)) for name in ("kernel_size", "stride", "pool")}
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in values}
        return MaamConfig(**{**rest, **values, **overrides})


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _collapse(values: tuple[int, ...]) -> IntOrTuple:
    return values[0] if len(set(values)) == 1 else values


def check_known(config: Any, names: Iterable[Any]) -> None:
    """Raise :class:`MaamError` for a name that is no field of `config`."""
    known = [field.name for field in fields(config)]
    for name in names:
        if name not in known:
            raise MaamError(f"create_model: unknown option {name!r}; the options are {', '.join(known)}")


def check_positive(name: str, value: object) -> None:
    """Raise :class:`MaamError` unless `value` is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MaamError(f"create_model: {name} must be a positive integer, got {value!r}")


_AUTHORS = MaamConfig()
_DEEP = MaamConfig(channels=(64, 128))

PRESETS: dict[str, MaamConfig] = {
    "authors": _AUTHORS,
    "deep": _DEEP,
    "2.3m": _DEEP.replace(hidden=64),
    "best": MaamConfig(num_agents=2, channels=(32, 64, POOL, RESIDUAL, 128, POOL, RESIDUAL, POOL, 256), hidden=128),
    # Section 3.3 of the paper: branches at 32x32, 16x16 and 8x8 with kernels of their own.
    "multi-scale": _AUTHORS.replace(kernel_size=(3, 5, 7), pool=(1, 2, 4)),
    "no-attention": _AUTHORS.replace(attention=False),
    "no-reduce": _AUTHORS.replace(reduce=False),
    "plain-cnn": _AUTHORS.replace(num_agents=1, attention=False),
}
