"""Where Cells stand in a net, and putting another Cell in such a place without renaming a Parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mindspore import Parameter, nn


@dataclass(frozen=True, eq=False)
class Slot:
    """One place in a net: the Cell at ``path``, which its ``parent`` holds as ``key``."""

    path: str
    parent: nn.Cell
    key: str
    cell: nn.Cell


class Tree:
    """All places of a net, a Cell that stands at several of them included each time."""

    def __init__(self, net: nn.Cell) -> None:
        self.slots = list(_walk(net, "", (net,)))
        self._by_cell: dict[int, list[Slot]] = {}
        for slot in self.slots:
            self._by_cell.setdefault(id(slot.cell), []).append(slot)
        self._owners: dict[int, list[str]] = {}
        self._count_owners(net)

    def of(self, cell: nn.Cell) -> list[Slot]:
        """The places where this very Cell stands."""
        return self._by_cell.get(id(cell), [])

    def path(self, cell: nn.Cell) -> str:
        """The Cell's first path; the net itself is ``(the net)``."""
        places = self.of(cell)
        return places[0].path if places else "(the net)"

    def owners(self, parameter: Parameter) -> list[str]:
        """Every ``path.attribute`` under which the net holds this Parameter."""
        return self._owners.get(id(parameter), [])

    def _count_owners(self, net: nn.Cell) -> None:
        seen: set[int] = set()
        for path, cell in [("", net), *((slot.path, slot.cell) for slot in self.slots)]:
            if id(cell) in seen:
                continue
            seen.add(id(cell))
            for key, parameter in cell._params.items():
                self._owners.setdefault(id(parameter), []).append(f"{path}.{key}".lstrip("."))


def _walk(cell: nn.Cell, path: str, ancestors: tuple[nn.Cell, ...]) -> Iterator[Slot]:
    for key, child in cell._cells.items():
        if child is None or any(child is ancestor for ancestor in ancestors):
            continue
        slot = Slot(f"{path}.{key}".lstrip("."), cell, key, child)
        yield slot
        yield from _walk(child, slot.path, (*ancestors, child))


def is_plain_sequential(cell: nn.Cell) -> bool:
    """Whether the Cell runs its children one after the other and does nothing else."""
    return isinstance(cell, nn.SequentialCell) and type(cell).construct is nn.SequentialCell.construct


def put(slot: Slot, cell: nn.Cell) -> None:
    """Replaces the Cell in a place. Assigning the attribute would rename every Parameter below it."""
    slot.parent._cells[slot.key] = cell
    if isinstance(slot.parent, nn.SequentialCell):
        slot.parent.cell_list = list(slot.parent._cells.values())


def hold(cell: nn.Cell, parameters: Mapping[str, Parameter]) -> None:
    """Lets ``cell`` hold Parameters as its first attributes, each under a key of the user's, names untouched.

    MindSpore derives names from the first place where it meets a Parameter, whenever somebody wraps the net. With the
    old keys at the old places, the names, and the attributes people read, stay what they were.
    """
    for key, parameter in parameters.items():
        if key not in cell._params:
            name = parameter.name
            cell.insert_param_to_cell(key, parameter)
            parameter.name = name
    first = {key: cell._params[key] for key in parameters}
    rest = {key: value for key, value in cell._params.items() if key not in first}
    cell._params.clear()
    cell._params.update(first | rest)


class Passthrough(nn.Cell):
    """Stands where a Cell stood whose work is now done by the fused Cell that follows; holds its Parameters."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        super().__init__()
        hold(self, parameters)

    def construct(self, x):
        return x


class BranchPassthrough(Passthrough):
    """A :class:`Passthrough` for N branches, given one by one or as one list or tuple."""

    def construct(self, *branches):
        if len(branches) == 1:
            return branches[0]
        return branches
