"""agent_aggregate by the Ascend C operators of ``csrc/aggregate/ascend``, ``impl="ascendc"``, on an Ascend card.

The operator package must have been built and installed with ``csrc/ascend_build.sh``; see ``docs/ascend.md``.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import CustomRegOp

from maam_ops.ascend import _aclnn


def available() -> str | None:
    """Why the operators cannot run here, or None where they can."""
    if _aclnn.missing() is None and _FORWARD is None:
        return "the device target was set to Ascend after maam_ops was imported: set it before"
    return _aclnn.missing()


def agent_aggregate(alpha: Tensor, *branches: Tensor) -> Tensor:
    """As ``maam_ops.functional.agent_aggregate``, for float32, float16 and bfloat16 branches."""
    return _FORWARD(alpha.astype(ms.float32), branches)


def forward_registration() -> dict[str, Any]:
    """alpha, (A_1, ..., A_N) -> g."""
    info = CustomRegOp("aclnnAgentAggregate").input(0, "alpha", "required").input(1, "branches", "dynamic")
    return _aclnn.with_types(info.output(0, "g", "required"), "pdd")


def backward_registration() -> dict[str, Any]:
    """alpha, dg, (A_1, ..., A_N) -> d alpha, (dA_1, ..., dA_N)."""
    info = CustomRegOp("aclnnAgentAggregateGrad").input(0, "alpha", "required").input(1, "dg", "required")
    info = info.input(2, "branches", "dynamic").output(0, "dalpha", "required").output(1, "dbranches", "dynamic")
    return _aclnn.with_types(info, "pddpd")


def make_ops() -> ops.Custom:
    """The forward operator with its gradient: called with alpha and a tuple of branches."""
    backward = ops.Custom(
        "aclnnAgentAggregateGrad",
        lambda alpha, dg, branches: (alpha, *branches),
        lambda alpha, dg, branches: (alpha, *branches),
        "aot",
        reg_info=backward_registration(),
    )

    def bprop(alpha, branches, out, dout):
        gradients = backward(alpha, dout, branches)
        return gradients[0], gradients[1:]

    return ops.Custom(
        "aclnnAgentAggregate",
        lambda alpha, branches: branches[0],
        lambda alpha, branches: branches[0],
        "aot",
        bprop=bprop,
        reg_info=forward_registration(),
    )


# Built on import, because the graph compiler cannot call a cache; MindSpore compiles a callback for each operator, so
# only where a card is.
_FORWARD = make_ops() if ms.get_context("device_target") == "Ascend" else None
