"""Random cases of the operators on bytes, for ``python -m maam_ops.compare``."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from maam_ops import _int8, dense_int8, maam_deep_int8, maam_int8

OPERATORS = (dense_int8.OP, maam_int8.OP, maam_deep_int8.OP)


def case(op: str, shape: tuple[int, ...], branches: int, channels: int) -> tuple[nn.Cell, Tensor]:
    """A Cell of random whole numbers and its input; scales that spread its results over all bytes."""
    rng = np.random.default_rng(0)

    def conv(outputs: int, *taps: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(-_int8.MAX_WEIGHT, _int8.MAX_WEIGHT + 1, (outputs, *taps)), rng.integers(-999, 999, outputs)

    def scale(outputs: int, *taps: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, outputs) / (70 * np.sqrt(np.prod(taps)))

    if op == dense_int8.OP:
        inputs = _int8.round_up(int(np.prod(shape[1:])), _int8.QUAD)
        cell = dense_int8.DenseInt8(*conv(channels, inputs), scale(channels, inputs), relu=True)
        return cell, Tensor(rng.integers(0, _int8.MAX_ACTIVATION + 1, (shape[0], inputs)).astype(np.uint8))
    width = shape[1]
    taps = (width, 3, 3) if op == maam_deep_int8.OP else (3, 3, 3)
    tail = scale(width, branches, *taps), *conv(channels, width, 1, 1), scale(channels, width)
    if op == maam_int8.OP:
        cell = maam_int8.MaamInt8((30.0, 64), [conv(width, 3, 3, 3) for _ in range(branches)], *tail)
    else:
        both = [(*conv(width, 3, 3, 3), scale(width, 27), *conv(width, *taps)) for _ in range(branches)]
        cell = maam_deep_int8.MaamDeepInt8((30.0, 64), both, *tail)
    return cell, Tensor(rng.standard_normal((shape[0], 3, 2 * shape[2], 2 * shape[3])).astype(np.float32))
