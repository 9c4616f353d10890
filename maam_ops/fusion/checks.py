"""Conditions that every Cell must meet before it may be replaced, whatever the pattern."""

from __future__ import annotations

from mindspore import Parameter, nn

from maam_ops.fusion.slots import Slot, Tree
from maam_ops.fusion.trace import Call, Trace

# Attributes of nn.Cell that change what a call does beyond its construct; a replacement would lose them.
_ATTACHED = {
    "_forward_pre_hook": "a forward pre-hook is attached",
    "_forward_hook": "a forward hook is attached",
    "_backward_pre_hook": "a backward pre-hook is attached",
    "_backward_hook": "a backward hook is attached",
    "_cell_backward_pre_hook": "a backward pre-hook is attached",
    "_cell_backward_hook": "a backward hook is attached",
    "_saved_tensors_pack_hook": "hooks for saved tensors are attached",
    "_recompute_cell": "recompute() is set",
    "_has_config_recompute": "recompute() is set",
    "_shard_fn": "shard() is set",
    "mixed_precision_type": "to_float() is set; fuse first, then choose the precision",
}


class NotFusable(Exception):
    """Carries the reason for a refusal."""


def first_line(error: Exception) -> str:
    """The error without the call stacks MindSpore appends."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def only_slot(tree: Tree, cell: nn.Cell) -> Slot:
    """The one place where the Cell stands.

    Raises:
        NotFusable: it is the net itself, or stands at several places.
    """
    places = tree.of(cell)
    if not places:
        raise NotFusable("it is the net itself and cannot be replaced inside it; fuse a Cell that contains it")
    if len(places) > 1:
        raise NotFusable(f"the same Cell stands at {' and '.join(slot.path for slot in places)}")
    return places[0]


def only_call(trace: Trace, cell: nn.Cell) -> Call:
    """The one call of the Cell on the probe batch.

    Raises:
        NotFusable: none or several, or a keyword argument.
    """
    calls = trace.of(cell)
    if not calls:
        raise NotFusable("the probe batch does not run it, or only inside a function compiled by ms.jit")
    if len(calls) > 1:
        raise NotFusable(f"it runs {len(calls)} times in one forward pass")
    if calls[0].kwargs:
        raise NotFusable(
            f"it is called with keyword arguments ({', '.join(calls[0].kwargs)}); pass them by position instead"
        )
    return calls[0]


def require_plain(cell: nn.Cell, name: str) -> None:
    """Refuses a Cell to which something is attached that a replacement would lose.

    Raises:
        NotFusable: hooks, recomputation, sharding, a precision of its own, or a construct set on the object.
    """
    for _, part in cell.cells_and_names():
        for attribute, reason in _ATTACHED.items():
            if getattr(part, attribute, None):
                raise NotFusable(f"{name}: {reason}")
        if "construct" in vars(part):
            raise NotFusable(f"{name}: its construct was replaced on the object")


def require_sole_owner(tree: Tree, parameter: Parameter) -> None:
    """Refuses a Parameter that several Cells hold.

    Raises:
        NotFusable: it has more than one owner.
    """
    owners = tree.owners(parameter)
    if len(owners) > 1:
        raise NotFusable(f"Parameter {parameter.name} is shared by {' and '.join(owners)}")
