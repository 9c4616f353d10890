"""Recognises dense layers, with the ReLU that follows where it runs for nobody else."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
from mindspore import nn

from maam_ops.fusion.checks import NotFusable, only_slot, require_plain
from maam_ops.fusion.report import Refusal
from maam_ops.fusion.rows import follower
from maam_ops.fusion.slots import Slot, Tree
from maam_ops.fusion.trace import Trace

PATTERN = "dense"


@dataclass(frozen=True)
class DenseMatch:
    """A dense layer; ``relu`` is the place of the ReLU it takes over, if any."""

    dense: Slot
    relu: Slot | None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The places whose work the operator does."""
        return (self.dense,) if self.relu is None else (self.dense, self.relu)


def find(tree: Tree, trace: Trace) -> tuple[list[DenseMatch], list[Refusal]]:
    """Sorts the dense layers that run into matches and refusals.

    Args:
        tree: the places of the net.
        trace: a recorded forward pass of it.
    """
    matches: list[DenseMatch] = []
    refusals: list[Refusal] = []
    for dense in {id(slot.cell): slot.cell for slot in tree.slots}.values():
        if type(dense) is not nn.Dense or not trace.of(dense):
            continue
        try:
            matches.append(_match(tree, trace, dense))
        except NotFusable as reason:
            refusals.append(Refusal(tree.path(dense), PATTERN, str(reason)))
    return matches, refusals


def _match(tree: Tree, trace: Trace, dense: nn.Dense) -> DenseMatch:
    slot = only_slot(tree, dense)
    if dense.activation is not None and type(dense.activation) is not nn.ReLU:
        raise NotFusable(f"the layer has activation {type(dense.activation).__name__}, expected ReLU or none")
    if dense.weight.dtype != ms.float32:
        raise NotFusable(f"the weight is {dense.weight.dtype}, expected Float32")
    require_plain(dense, tree.path(dense))
    return DenseMatch(slot, follower(tree, trace, slot, nn.ReLU))
