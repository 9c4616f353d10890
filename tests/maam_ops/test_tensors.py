"""Operands that are no Tensors are said to be none, and not to have a wrong dtype of the right name."""

import numpy as np
import pytest
from mindspore import Tensor

from maam_ops import functional

pytestmark = pytest.mark.usefixtures("pynative")
ARRAY = np.ones((2, 3), np.float32)
MATRIX, VECTOR, IMAGES = Tensor(ARRAY), Tensor(ARRAY[0]), np.ones((2, 3, 4, 4), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: functional.dense(ARRAY, MATRIX), "dense: x"),
        (lambda: functional.dense(MATRIX, ARRAY), "dense: weight"),
        (lambda: functional.dense(MATRIX, MATRIX, ARRAY[:, 0]), "dense: bias"),
        (lambda: functional.cross_entropy(ARRAY, Tensor([0, 1])), "cross_entropy: logits"),
        (lambda: functional.cross_entropy(MATRIX, np.array([0, 1])), "cross_entropy: labels"),
        (lambda: functional.agent_aggregate(ARRAY, MATRIX, MATRIX), "agent_aggregate: alpha"),
        (lambda: functional.agent_aggregate(VECTOR, MATRIX, ARRAY), "agent_aggregate: branch 1"),
        (lambda: functional.reduce(IMAGES, MATRIX, *[VECTOR] * 4, training=False), "reduce: g"),
    ],
)
def test_numpy(call, message):
    with pytest.raises(TypeError, match=f"maam_ops.{message}: got a numpy.ndarray, expected a mindspore.Tensor"):
        call()
