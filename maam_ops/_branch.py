"""Which branches the operators of the whole module cover: the layers of an AgentBlock, read from its Cell."""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import nn

KERNEL_SIZES = (1, 3, 5, 7)
_CONV_NORM = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


def layers_of(branch: nn.Cell) -> list[nn.Cell]:
    """The layers of an ``nn.SequentialCell``; none of any other Cell, whose way of calling them is its own."""
    return list(branch) if type(branch) is nn.SequentialCell else []


def convolutions_of(branch: nn.Cell) -> int:
    """How often a branch repeats Conv2d, BatchNorm2d, ReLU before its MaxPool2d; 0 if that is not what it does."""
    kinds = tuple(type(layer) for layer in layers_of(branch))
    count = len(kinds) // 3
    return count if count and kinds == (*_CONV_NORM * count, nn.MaxPool2d) else 0


def kinds_of(branch: nn.Cell) -> str:
    """The branch in words."""
    inside = ", ".join(type(layer).__name__ for layer in layers_of(branch))
    return f"a {type(branch).__name__}{f' of {inside}' if inside else ''}"


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether the output of a convolution with stride 1 and an odd, square kernel is as large as its input."""
    padding = conv.padding if isinstance(conv.padding, tuple) else (conv.padding,)
    return conv.pad_mode == "same" or set(padding) == {conv.kernel_size[0] // 2}


def normalisations_of(branch: nn.Cell) -> tuple[nn.Cell, ...]:
    """The normalisation behind each convolution."""
    return tuple(branch)[1::3]


def operands_of(block):
    """Weight, gamma, beta and running statistics of each convolution of a branch, a tuple of its Cells."""
    operands = ()
    for k in range(len(block) // 3):
        conv, bn = block[3 * k], block[3 * k + 1]
        operands = (*operands, conv.weight, bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
    return operands


def why_not_conv(
    conv: nn.Conv2d, bn: nn.BatchNorm2d, channels: int, kernels: Sequence[int] = KERNEL_SIZES
) -> str | None:
    """Why a convolution and its normalisation are not covered, or None where they are."""
    *some, last = map(str, kernels)
    return _first_wrong(
        (
            ("kernel_size", conv.kernel_size, conv.kernel_size in [(k, k) for k in kernels],
             f"{', '.join(some)} or {last}" if some else last),
            ("stride", conv.stride, conv.stride == (1, 1), "1"),
            ("dilation", conv.dilation, conv.dilation == (1, 1), "1"),
            ("group", conv.group, conv.group == 1, "1"),
            ("has_bias", conv.has_bias, not conv.has_bias, "False"),
            ("pad_mode and padding", (conv.pad_mode, conv.padding), keeps_size(conv), "what keeps the size"),
            ("out_channels", conv.out_channels, conv.out_channels == channels, str(channels)),
            ("num_features", bn.num_features, bn.num_features == channels, str(channels)),
            ("use_batch_statistics", bn.use_batch_statistics, bn.use_batch_statistics is None, "None"),
        )
    )  # fmt: skip


def why_not_pool(pool: nn.MaxPool2d) -> str | None:
    """The same for the pooling."""
    return _first_wrong(
        (
            ("pooling", (pool.kernel_size, pool.stride), (pool.kernel_size, pool.stride) == (2, 2),
             "2x2 with stride 2"),
            ("pad_mode of the pooling", pool.pad_mode, pool.pad_mode.lower() == "valid", "valid"),
            ("return_indices", pool.return_indices, not pool.return_indices, "False"),
        )
    )  # fmt: skip


def _first_wrong(table) -> str | None:
    for what, got, right, expected in table:
        if not right:
            return f"has {what} {got}, not {expected}"
    return None
