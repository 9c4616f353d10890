"""Recognises dense layers, with the ReLU that follows where it runs for nobody else."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
from mindspore import nn

from maam_ops.fusion.checks import NotFusable, only_slot, require_plain
from maam_ops.fusion.reduce import why_not_in_a_row
from maam_ops.fusion.report import Refusal
from maam_ops.fusion.slots import Slot, Tree
from maam_ops.fusion.trace import Call, Trace

PATTERN = "dense"


@dataclass(frozen=True)
class DenseMatch:
    """A dense layer; ``relu`` is the place of the ReLU it takes over, if any."""

    dense: Slot
    relu: Slot | None


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
    return DenseMatch(slot, _relu(tree, trace, slot))


def _relu(tree: Tree, trace: Trace, dense: Slot) -> Slot | None:
    """The ReLU that alone reads the layer and reads nothing else; any other stays where it is."""
    calls = trace.of(dense.cell)
    if len(calls) != 1 or calls[0].caller is not dense.parent:
        return None
    readers: list[Call] = trace.readers(calls[0].output)
    if len(readers) != 1 or type(readers[0].cell) is not nn.ReLU:
        return None
    relu = readers[0].cell
    if len(tree.of(relu)) != 1 or len(trace.of(relu)) != 1 or why_not_in_a_row(tree, dense, tree.of(relu)[0]):
        return None
    try:
        require_plain(relu, tree.path(relu))
    except NotFusable:
        return None
    return tree.of(relu)[0]
