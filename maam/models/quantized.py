"""A trained classifier on bytes."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

import maam_ops

from ..errors import MaamError
from .network import AgentAttention, Maam

CALIBRATION_IMAGES = 256


def quantize(net: nn.Cell, images: np.ndarray | Tensor, *, rule: str = "best", impl: str = "auto") -> nn.Cell:
    """The classifier in evaluation on int8 operators, calibrated on images; see :func:`maam_ops.quantize`.

    Its weights are copied: it does not follow `net` when that is trained further or loads a checkpoint.

    Args:
        net: from :func:`create_model`, of a preset whose branches are one or two convolutions and a max-pool of 2
            ("authors", "deep", "2.3m", or with other widths and kernels), with attention and reduction.
        images: (B, C, S, S) in [0, 1] as the net takes them, some hundreds of the training images.
        rule: "best", "max", "percentile" or "mse".
        impl: "auto", "native" or "reference".

    Returns:
        ``maam_ops.QuantizedClassifier``: images (B, C, S, S) -> logits (B, num_classes).

    Raises:
        MaamError: a net that has no int8 operators, or images that do not fit it.
    """
    if not isinstance(net, Maam):
        raise MaamError(
            f"quantize: got a {type(net).__name__}, expected a MAAM classifier (presets authors, deep, 2.3m): other "
            "models have no int8 operators"
        )
    module = net.maam
    if not isinstance(module.fusion, AgentAttention) or not isinstance(module.reduce, nn.SequentialCell):
        raise MaamError(
            "quantize: got a classifier without attention or reduction, expected one with both: evaluate this one in "
            "float32"
        )
    branches = [agent.block for agent in module.agents]
    dense = [cell for cell in net.classifier if isinstance(cell, (nn.Dense, maam_ops.FusedDense))]
    try:
        return maam_ops.quantize(
            branches,
            module.fusion.attn_weights,
            module.reduce[0],
            module.reduce[1],
            dense,
            images,
            rule=rule,
            impl=impl,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise MaamError(str(error)) from error
