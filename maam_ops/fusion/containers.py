"""What proves that the Cells in an ``nn.SequentialCell`` run only together, one after the other.

Standing next to each other proves nothing by itself: ``self.body[0](x)``, in code that the probe did not run, reads
what the first Cell of ``self.body`` returns.
"""

from __future__ import annotations

import ast

from mindspore import nn

from maam_ops.fusion import source
from maam_ops.fusion.slots import Slot, Tree, is_plain_sequential

_ADVICE = "call the whole SequentialCell, or vouch for the place in a rule"


def why_opened(tree: Tree, container: nn.Cell) -> str | None:
    """Why a SequentialCell is not proven to be called as a whole wherever the net uses it, or None.

    The source of the Cells that hold it must call it, ``self.body(x)``, or take it whole out of CellLists,
    ``for block in self.blocks: x = block(x)``. A net that is a SequentialCell itself has no such source.
    """
    methods = _methods_beside_construct(container)
    if methods:
        return f"{type(container).__name__} has methods of its own, {', '.join(methods)}, that may run its Cells apart"
    for slot in tree.of(container):
        reason = _why_opened_by(tree, slot)
        if reason is not None:
            return reason
    return None


def _why_opened_by(tree: Tree, slot: Slot) -> str | None:
    layers = 0  # CellLists between the container and the Cell whose source uses it
    while type(slot.parent) is nn.CellList:
        around = tree.of(slot.parent)
        if not around:
            return None
        slot, layers = around[0], layers + 1
    holder, key = slot.parent, slot.key
    if is_plain_sequential(holder):
        return why_opened(tree, holder)
    try:
        functions = source.methods(holder)
    except source.SourceError as error:
        return f"{error}, so nothing proves that {slot.path} is only called as a whole"
    uses = [
        (function, node)
        for function in functions.values()
        for node in ast.walk(function)
        if source.is_self_attribute(node, key) and isinstance(node.ctx, ast.Load)
    ]
    if not uses:
        return f"no method of {type(holder).__name__} names self.{key}, so nothing proves that it is called as a whole"
    for function, node in uses:
        opened = _opening(function, node, layers)
        if opened is not None:
            return (
                f"{type(holder).__name__} opens self.{key} in {ast.unparse(opened)!r}, so the Cells in it may run by "
                f"themselves; {_ADVICE}"
            )
    return None


def _methods_beside_construct(container: nn.Cell) -> list[str]:
    """What a subclass of SequentialCell defines; a net may run that instead of, or beside, its construct."""
    classes = type(container).__mro__
    own = classes[: classes.index(nn.SequentialCell)]
    return sorted({name for owner in own for name, value in vars(owner).items() if callable(value)} - {"__init__"})


def _opening(function: ast.FunctionDef, node: ast.expr, layers: int) -> ast.AST | None:
    """The code that uses ``node`` otherwise than by calling the containers in it, or None.

    Args:
        function: the method it stands in.
        node: an expression whose value is the container, or CellLists around it.
        layers: how many CellLists.
    """
    parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
    user = parents[node]
    if layers == 0:
        return None if isinstance(user, ast.Call) and user.func is node else user
    if isinstance(user, ast.Call) and isinstance(user.func, ast.Name) and node in user.args:
        if user.func.id == "len":
            return None
        if user.func.id in ("enumerate", "zip", "reversed"):
            position = {"enumerate": 1, "zip": user.args.index(node), "reversed": None}[user.func.id]
            return _opening_of_items(function, parents[user], user, position, layers)
    if isinstance(user, ast.Subscript) and user.value is node and not isinstance(user.slice, ast.Slice):
        return _opening(function, user, layers - 1)
    return _opening_of_items(function, user, node, None, layers)


def _opening_of_items(
    function: ast.FunctionDef, loop: ast.AST, iterated: ast.expr, position: int | None, layers: int
) -> ast.AST | None:
    """As :func:`_opening`, for a loop or comprehension over ``iterated``; ``position`` of the item in its target."""
    if not isinstance(loop, (ast.For, ast.comprehension)) or loop.iter is not iterated:
        return loop
    target = loop.target
    if position is not None:
        if not isinstance(target, ast.Tuple) or len(target.elts) <= position:
            return target
        target = target.elts[position]
    if not isinstance(target, ast.Name):
        return target
    for read in source.reads(function, target.id):
        opened = _opening(function, read, layers - 1)
        if opened is not None:
            return opened
    return None
