"""Recognises a convolution, batch normalisation and ReLU that run in a row and for each other only.

Of size 1x1 they are ``reduce``; of size 3x3 they are ``conv_block``, together with a 2x2 max-pool behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindspore import nn

from maam_ops import _branch, conv_block, reduce
from maam_ops._cell import FusedCell
from maam_ops.fusion.checks import NotFusable, only_call, only_slot, require_plain, require_sole_owner
from maam_ops.fusion.report import Refusal
from maam_ops.fusion.rows import follower, only_reader, require_in_a_row, runs_once, why_not_in_a_row
from maam_ops.fusion.slots import Slot, Tree
from maam_ops.fusion.trace import Call, Trace

REDUCE, CONV_BLOCK = reduce.OP, conv_block.OP
_SIZES = {(1, 1): REDUCE, (3, 3): CONV_BLOCK}


@dataclass(frozen=True)
class ConvMatch:
    """Three Cells that are proven to be the pattern, and a max-pool of a ``conv_block``.

    ``relu`` is None where other code uses that ReLU Cell too: it stays, as ReLU of a ReLU is the same.
    """

    pattern: str
    conv: Slot
    bn: Slot
    relu: Slot | None
    pool: Slot | None
    conv_call: Call

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The places whose work the operator does."""
        return tuple(slot for slot in (self.conv, self.bn, self.relu, self.pool) if slot is not None)


def find(tree: Tree, trace: Trace, named: dict[str, frozenset[str]]) -> tuple[list[ConvMatch], list[Refusal]]:
    """Sorts the convolutions that feed a batch normalisation into matches and refusals.

    Args:
        tree: the places of the net.
        trace: a recorded forward pass of it.
        named: for each pattern, paths of convolutions, or of Cells that contain one, whose outputs the user says nobody
            else reads.
    """
    matches: list[ConvMatch] = []
    refusals: list[Refusal] = []
    for conv in {id(slot.cell): slot.cell for slot in tree.slots if not isinstance(slot.parent, FusedCell)}.values():
        if type(conv) is not nn.Conv2d or not any(_batch_norms(trace, call) for call in trace.of(conv)):
            continue
        path, pattern = tree.path(conv), _SIZES.get(tuple(conv.kernel_size), REDUCE)
        try:
            vouched = any(path == name or path.startswith(name + ".") for name in named[pattern])
            matches.append(_match(tree, trace, conv, pattern, vouched=vouched))
        except NotFusable as reason:
            refusals.append(Refusal(path, pattern, str(reason)))
    return matches, refusals


def _batch_norms(trace: Trace, conv_call: Call) -> list[Call]:
    return [call for call in trace.readers(conv_call.output) if type(call.cell) is nn.BatchNorm2d]


def _match(tree: Tree, trace: Trace, conv: nn.Conv2d, pattern: str, *, vouched: bool) -> ConvMatch:
    conv_slot, conv_call = only_slot(tree, conv), only_call(trace, conv)
    _require_covered(conv)
    bn_call = only_reader(tree, trace, conv_call)
    bn = bn_call.cell
    if type(bn) is not nn.BatchNorm2d:
        raise NotFusable(f"{tree.path(bn)} is a {type(bn).__name__}, expected nn.BatchNorm2d")
    bn_slot = only_slot(tree, bn)
    only_call(trace, bn)
    _require_plain_bn(bn, conv)
    relu = _relu(trace, bn_call)
    for cell in (conv, bn, relu):
        require_plain(cell, tree.path(cell))
    for parameter in (*conv.get_parameters(), *bn.get_parameters()):
        require_sole_owner(tree, parameter)
    shared_relu = len(trace.of(relu)) > 1 or len(tree.of(relu)) > 1 or not (vouched or runs_once(tree, relu))
    if not vouched:
        for slot, call in ((conv_slot, conv_call), (bn_slot, bn_call)):
            if call.caller is not slot.parent:
                raise NotFusable(
                    f"{slot.path} is called by {tree.path(call.caller)}, not by the Cell that holds it, so nothing "
                    "proves that no other code reads it; put the three Cells in a row into one nn.SequentialCell"
                )
        require_in_a_row(tree, conv_slot, bn_slot)
        if not any(why_not_in_a_row(tree, bn_slot, slot) is None for slot in tree.of(relu)):
            raise NotFusable(why_not_in_a_row(tree, bn_slot, tree.of(relu)[0]))
    relu_slot = None if shared_relu else tree.of(relu)[0]
    pool = _pool(tree, trace, relu_slot) if pattern == CONV_BLOCK and relu_slot is not None else None
    return ConvMatch(pattern, conv_slot, bn_slot, relu_slot, pool, conv_call)


def _require_covered(conv: nn.Conv2d) -> None:
    size = tuple(conv.kernel_size)
    for what, got, covered, expected in (
        ("kernel_size", size, size in _SIZES, "(1, 1) or (3, 3)"),
        ("stride", tuple(conv.stride), tuple(conv.stride) == (1, 1), "(1, 1)"),
        ("dilation", tuple(conv.dilation), tuple(conv.dilation) == (1, 1), "(1, 1)"),
        ("group", conv.group, conv.group == 1, "1"),
        ("padding", conv.padding, _branch.keeps_size(conv), f"{size[0] // 2}, which keeps the size"),
        ("data_format", conv.data_format, conv.data_format == "NCHW", "NCHW"),
    ):
        if not covered:
            raise NotFusable(f"the convolution has {what} {got}, expected {expected}")
    if conv.has_bias:
        raise NotFusable(
            "the convolution has a bias, which the batch normalisation takes out again: build it with has_bias=False"
        )


def _require_plain_bn(bn: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    if bn.use_batch_statistics is not None:
        raise NotFusable(f"use_batch_statistics is fixed to {bn.use_batch_statistics}, expected None")
    if not (bn.gamma.requires_grad and bn.beta.requires_grad):
        raise NotFusable("gamma or beta is not trained (affine=False, or frozen), the fused operator trains both")
    if bn.num_features != conv.out_channels:
        raise NotFusable(
            f"got {bn.num_features} normalised channels, expected the {conv.out_channels} of the convolution"
        )


def _relu(trace: Trace, bn_call: Call) -> nn.ReLU:
    readers = trace.readers(bn_call.output)
    if len(readers) != 1 or type(readers[0].cell) is not nn.ReLU:
        got = ", ".join(type(reader.cell).__name__ for reader in readers) or "no Cell"
        raise NotFusable(
            f"its batch normalisation goes to {got}, expected one nn.ReLU (functions such as ops.relu are not seen)"
        )
    return readers[0].cell


def _pool(tree: Tree, trace: Trace, relu: Slot) -> Slot | None:
    """The max-pool that alone reads the ReLU, if the operator covers it."""
    pool = follower(tree, trace, relu, nn.MaxPool2d)
    return pool if pool is not None and _branch.why_not_pool(pool.cell) is None else None
