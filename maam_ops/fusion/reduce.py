"""Recognises a 1x1 convolution, batch normalisation and ReLU that run in a row and for each other only."""

from __future__ import annotations

from dataclasses import dataclass

from mindspore import nn

from maam_ops.fusion import source
from maam_ops.fusion.checks import NotFusable, only_call, only_slot, require_plain, require_sole_owner
from maam_ops.fusion.report import Refusal
from maam_ops.fusion.slots import Slot, Tree, is_plain_sequential
from maam_ops.fusion.trace import Call, Trace

PATTERN = "reduce"


@dataclass(frozen=True)
class ReduceMatch:
    """Three Cells that are proven to be the pattern. ``relu`` is None where other code uses that ReLU Cell too: it
    stays, as ReLU of a ReLU is the same."""

    conv: Slot
    bn: Slot
    relu: Slot | None
    conv_call: Call


def find(tree: Tree, trace: Trace, named: frozenset[str]) -> tuple[list[ReduceMatch], list[Refusal]]:
    """Sorts the convolutions that feed a batch normalisation into matches and refusals.

    Args:
        tree: the places of the net.
        trace: a recorded forward pass of it.
        named: paths of convolutions, or of Cells that contain one, whose outputs the user says nobody else reads.
    """
    matches: list[ReduceMatch] = []
    refusals: list[Refusal] = []
    for conv in {id(slot.cell): slot.cell for slot in tree.slots}.values():
        if type(conv) is not nn.Conv2d or not any(_batch_norms(trace, call) for call in trace.of(conv)):
            continue
        path = tree.path(conv)
        try:
            vouched = any(path == name or path.startswith(name + ".") for name in named)
            matches.append(_match(tree, trace, conv, vouched=vouched))
        except NotFusable as reason:
            refusals.append(Refusal(path, PATTERN, str(reason)))
    return matches, refusals


def _batch_norms(trace: Trace, conv_call: Call) -> list[Call]:
    return [call for call in trace.readers(conv_call.output) if type(call.cell) is nn.BatchNorm2d]


def _match(tree: Tree, trace: Trace, conv: nn.Conv2d, *, vouched: bool) -> ReduceMatch:
    _require_1x1(conv)
    conv_slot, conv_call = only_slot(tree, conv), only_call(trace, conv)
    bn_call = _only_reader(tree, trace, conv_call)
    bn = bn_call.cell
    if type(bn) is not nn.BatchNorm2d:
        raise NotFusable(f"{tree.path(bn)} is a {type(bn).__name__}, expected nn.BatchNorm2d")
    bn_slot = only_slot(tree, bn)
    only_call(trace, bn)
    _require_plain_bn(bn, conv)
    relu = _relu(tree, trace, bn_call)
    for cell in (conv, bn, relu):
        require_plain(cell, tree.path(cell))
    for parameter in (*conv.get_parameters(), *bn.get_parameters()):
        require_sole_owner(tree, parameter)
    shared_relu = len(tree.of(relu)) > 1 or len(trace.of(relu)) > 1
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
    return ReduceMatch(conv_slot, bn_slot, None if shared_relu else tree.of(relu)[0], conv_call)


def _require_1x1(conv: nn.Conv2d) -> None:
    padding = conv.padding if isinstance(conv.padding, tuple) else (conv.padding,)
    for what, got, expected in (
        ("kernel_size", tuple(conv.kernel_size), (1, 1)),
        ("stride", tuple(conv.stride), (1, 1)),
        ("dilation", tuple(conv.dilation), (1, 1)),
        ("group", conv.group, 1),
        ("padding", sum(padding), 0),
        ("data_format", conv.data_format, "NCHW"),
    ):
        if got != expected:
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


def _only_reader(tree: Tree, trace: Trace, call: Call) -> Call:
    readers = trace.readers(call.output)
    if len(readers) != 1:
        others = ", ".join(sorted(tree.path(reader.cell) for reader in readers)) or "no Cell"
        raise NotFusable(f"the output of {tree.path(call.cell)} goes to {others}, expected one Cell")
    return readers[0]


def _relu(tree: Tree, trace: Trace, bn_call: Call) -> nn.ReLU:
    readers = trace.readers(bn_call.output)
    if len(readers) != 1 or type(readers[0].cell) is not nn.ReLU:
        got = ", ".join(type(reader.cell).__name__ for reader in readers) or "no Cell"
        raise NotFusable(
            f"{tree.path(bn_call.cell)} goes to {got}, expected one nn.ReLU (functions such as ops.relu are not seen)"
        )
    return readers[0].cell


def require_in_a_row(tree: Tree, producer: Slot, consumer: Slot) -> None:
    """Refuses unless the structure and the source of the net prove that only ``consumer`` reads ``producer``.

    Raises:
        NotFusable: they do not.
    """
    reason = why_not_in_a_row(tree, producer, consumer)
    if reason is not None:
        raise NotFusable(reason)


def why_not_in_a_row(tree: Tree, producer: Slot, consumer: Slot) -> str | None:
    """Why ``consumer`` is not proven to be the only reader of what ``producer`` returns, or None."""
    for outer_producer in _outwards(tree, producer, last=True):
        for outer_consumer in _outwards(tree, consumer, last=False):
            parent = outer_producer.parent
            if parent is not outer_consumer.parent:
                continue
            if is_plain_sequential(parent):
                keys = list(parent._cells)
                if keys.index(outer_consumer.key) == keys.index(outer_producer.key) + 1:
                    return None
            else:
                return source.why_not_only_reader(parent, outer_producer.key, outer_consumer.key)
    return (
        f"{producer.path} and {consumer.path} do not stand in one Cell, so nothing proves that only the second reads "
        "the first; put the three Cells in a row into one nn.SequentialCell"
    )


def _outwards(tree: Tree, slot: Slot, *, last: bool) -> list[Slot]:
    """The slot, and every SequentialCell around it that returns what it returns (or passes its input to it)."""
    chain = [slot]
    while is_plain_sequential(slot.parent) and list(slot.parent._cells)[-1 if last else 0] == slot.key:
        around = tree.of(slot.parent)
        if len(around) != 1:
            break
        slot = around[0]
        chain.append(slot)
    return chain
