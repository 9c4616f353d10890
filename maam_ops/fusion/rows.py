"""What proves that Cells run in a row, each for the next one only."""

from __future__ import annotations

from mindspore import nn

from maam_ops.fusion import source
from maam_ops.fusion.checks import NotFusable, require_plain
from maam_ops.fusion.containers import why_opened
from maam_ops.fusion.slots import Slot, Tree, is_plain_sequential
from maam_ops.fusion.trace import Call, Trace


def only_reader(tree: Tree, trace: Trace, call: Call) -> Call:
    """The one call that reads what another returned.

    Raises:
        NotFusable: none does, or several.
    """
    readers = trace.readers(call.output)
    if len(readers) != 1:
        others = ", ".join(sorted(tree.path(reader.cell) for reader in readers)) or "no Cell"
        raise NotFusable(f"the output of {tree.path(call.cell)} goes to {others}, expected one Cell")
    return readers[0]


def follower(tree: Tree, trace: Trace, slot: Slot, kind: type[nn.Cell]) -> Slot | None:
    """The place of the Cell of this kind that alone reads the one in ``slot`` and runs for nobody else, or None."""
    calls = trace.of(slot.cell)
    if len(calls) != 1 or calls[0].caller is not slot.parent:
        return None
    readers = trace.readers(calls[0].output)
    if len(readers) != 1 or type(readers[0].cell) is not kind:
        return None
    cell = readers[0].cell
    if len(trace.of(cell)) != 1 or not runs_once(tree, cell) or why_not_in_a_row(tree, slot, tree.of(cell)[0]):
        return None
    try:
        require_plain(cell, tree.path(cell))
    except NotFusable:
        return None
    return tree.of(cell)[0]


def runs_once(tree: Tree, cell: nn.Cell) -> bool:
    """Whether the Cell stands at one place, which the source of the net uses once."""
    places = tree.of(cell)
    if len(places) != 1:
        return False
    parent = places[0].parent
    if is_plain_sequential(parent):
        return why_opened(tree, parent) is None
    return source.why_not_named_once(parent, places[0].key) is None


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
    reason = _why_not_next(tree, producer, consumer)
    for slot in (producer, consumer):
        if reason is None and is_plain_sequential(slot.parent):
            reason = why_opened(tree, slot.parent)
    return reason


def _why_not_next(tree: Tree, producer: Slot, consumer: Slot) -> str | None:
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
