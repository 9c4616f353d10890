"""Inputs that differ in their last places, to learn what rounding alone does to a result.

A ReLU close to 0 or a max-pool close to a tie decides otherwise after the slightest change; two right answers may then
be far apart.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

EPSILON = {ms.float64: 2.0**-52, ms.float32: 2.0**-23, ms.float16: 2.0**-10, ms.bfloat16: 2.0**-7}
# How often inputs are moved, and how much further than a result moves then another may be from it. A gradient whose
# terms cancel to nothing is noise on both sides: of 50 the kernel's was up to 2.95 times as far as the moves went.
MOVES, FACTOR = 4, 4.0
# By how many epsilons: about the rounding of a convolution, which the moved inputs stand for. Half types are added in
# float32, and rounded once.
_EPSILONS = {ms.float64: 8.0, ms.float32: 8.0, ms.float16: 1.0, ms.bfloat16: 1.0}


def moved(inputs: Any, seed: int) -> Any:
    """The inputs with every floating-point element a few epsilons larger or smaller; lists and tuples as lists."""
    rng = np.random.default_rng(seed)

    def move(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return [move(inner) for inner in item]
        if not isinstance(item, Tensor) or item.dtype not in EPSILON:
            return item
        factor = 1 + _EPSILONS[item.dtype] * EPSILON[item.dtype] * rng.choice([-1.0, 1.0], item.shape)
        return Tensor(as_double(item) * factor).astype(item.dtype)

    return move(inputs)


def as_double(tensor: Tensor) -> np.ndarray:
    """The values of a Tensor of any real dtype."""
    narrow = tensor.dtype in (ms.bfloat16, ms.float16)
    return (tensor.float() if narrow else tensor).asnumpy().astype(np.float64)
