"""The reduce in inference by the Ascend C operator of ``csrc/reduce/ascend``, on an Ascend card.

It is no ``impl=`` of ``maam_ops.functional.reduce``: it has no training form and no gradient.
"""

from __future__ import annotations

from typing import Any

from mindspore import ops
from mindspore.ops import CustomRegOp

from maam_ops.ascend import _aclnn

available = _aclnn.missing


def registration() -> dict[str, Any]:
    """g (B, C, H, W), weight (O, C, 1, 1), scale and shift (O,) -> f (B, O, H, W)."""
    info = CustomRegOp("aclnnAgentReduce").input(0, "g", "required").input(1, "weight", "required")
    info = info.input(2, "scale", "required").input(3, "shift", "required").output(0, "f", "required")
    return _aclnn.with_types(info, "ddppd")


def make_op() -> ops.Custom:
    """f = relu(scale * (weight g) + shift), as an operator; g and weight of one type, scale and shift float32.

    scale = gamma / sqrt(moving_variance + eps) and shift = beta - moving_mean * scale fold a batch normalisation.
    """
    return ops.Custom("aclnnAgentReduce", _out_shape, _out_dtype, "aot", reg_info=registration())


def _out_shape(g, weight, scale, shift):
    return g[0], weight[0], g[2], g[3]


def _out_dtype(g, weight, scale, shift):
    return g
