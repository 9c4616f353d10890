"""Puts fused Cells into a net, and takes them out again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mindspore import Parameter, nn

from maam_ops._cell import FusedCell
from maam_ops.aggregate import FusedAgentAggregate
from maam_ops.aggregate_reduce import FusedAggregateReduce
from maam_ops.conv_block import FusedConvBlock
from maam_ops.dense import FusedDense
from maam_ops.fusion.aggregate import AggregateMatch
from maam_ops.fusion.conv import CONV_BLOCK, ConvMatch
from maam_ops.fusion.dense import DenseMatch
from maam_ops.fusion.report import Swap
from maam_ops.fusion.slots import BranchPassthrough, Passthrough, Slot, hold, put
from maam_ops.reduce import FusedReduce


@dataclass
class Change:
    """One swap that can be made and undone.

    Attributes:
        pattern: name of the operator.
        slots: the places it changes.
        install: puts the fused Cells in and returns where the operator stands, and the operator.
        parts: smaller changes to fall back on where this one does not pass the check.
        swap: what was done, for the report; None until it is made.
    """

    pattern: str
    slots: tuple[Slot, ...]
    install: Callable[[], tuple[Slot, nn.Cell]]
    parts: tuple[Change, ...] = ()
    swap: Swap | None = field(default=None, init=False)

    def make(self) -> None:
        """Changes the net, and says what stands in it now."""
        place, operator = self.install()
        # Without its child Cells, which are the user's and stand in the report by their paths.
        text = f"{type(operator).__name__}({operator.extend_repr()})"
        self.swap = Swap(place.path, self.pattern, tuple(slot.path for slot in self.slots), text)

    def undo(self) -> None:
        """Puts the old Cells back."""
        for slot in self.slots:
            put(slot, slot.cell)


def aggregate_change(match: AggregateMatch, impl: str) -> Change:
    """The weighted sum alone."""

    def install() -> tuple[Slot, nn.Cell]:
        fused = FusedAgentAggregate.from_parameter(match.parameter, impl=impl)
        _place(match.slot, fused, match.slot.cell)
        return match.slot, fused

    return Change("agent_aggregate", (match.slot,), install)


def conv_change(match: ConvMatch, order: list[Slot], impl: str) -> Change:
    """Convolution, batch normalisation and ReLU. ``order``: the places of the net, as it walks them."""

    def install() -> tuple[Slot, nn.Cell]:
        conv, bn = match.conv.cell, match.bn.cell
        if match.pattern == CONV_BLOCK:
            fused = FusedConvBlock(conv, bn, match.pool.cell if match.pool else None, impl=impl)
        else:
            fused = FusedReduce.from_cells(conv, bn, impl=impl)
        place = _place_last(fused, [match.conv, match.bn], order)
        _pass_on(match.relu, match.pool)
        return place, fused

    return Change(match.pattern, match.slots, install)


def dense_change(match: DenseMatch, impl: str) -> Change:
    """A dense layer, and the ReLU behind it."""

    def install() -> tuple[Slot, nn.Cell]:
        fused = FusedDense.from_cell(match.dense.cell, relu=match.relu is not None, impl=impl)
        _place(match.dense, fused, match.dense.cell)
        _pass_on(match.relu)
        return match.dense, fused

    return Change("dense", match.slots, install)


def both_change(
    aggregate: AggregateMatch, reduce: ConvMatch, order: list[Slot], impl: str, parts: tuple[Change, ...]
) -> Change:
    """The weighted sum and the reduce that alone reads it."""

    def install() -> tuple[Slot, nn.Cell]:
        fused = FusedAggregateReduce.from_cells(aggregate.parameter, reduce.conv.cell, reduce.bn.cell, impl=impl)
        place = _place_last(fused, [aggregate.slot, reduce.conv, reduce.bn], order)
        _pass_on(reduce.relu)
        return place, fused

    return Change("aggregate_reduce", (aggregate.slot, *reduce.slots), install, parts)


def _place_last(fused: nn.Cell, slots: list[Slot], order: list[Slot]) -> Slot:
    """Puts the operator into the place that the net walks last. The places before it hold their own Parameters and so
    go on naming them."""
    *others, last = sorted(slots, key=order.index)
    for slot in others:
        # Only the aggregate is called with several arguments.
        kind = Passthrough if type(slot.cell) in (nn.Conv2d, nn.BatchNorm2d) else BranchPassthrough
        _place(slot, kind(_own_parameters(slot.cell)), slot.cell)
    _place(last, fused, last.cell)
    return last


def _pass_on(*slots: Slot | None) -> None:
    """Empties the places of Cells that the operator before them stands for."""
    for slot in slots:
        if slot is not None:
            _place(slot, Passthrough({}), slot.cell)


def _place(slot: Slot, cell: nn.Cell, old: nn.Cell) -> None:
    hold(cell, _own_parameters(old))
    if not isinstance(cell, FusedCell):  # that has the flag of its normalisation, which may be frozen where old is not
        cell.set_train(old.training)
    cell.set_grad(old.requires_grad)
    put(slot, cell)


def _own_parameters(cell: nn.Cell) -> dict[str, Parameter]:
    return {key: parameter for key, parameter in cell._params.items() if parameter is not None}
