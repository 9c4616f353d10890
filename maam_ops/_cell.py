"""What the fused Cells share: the choice of implementation, adopted Parameters, and mixed precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mindspore import Parameter, nn
from mindspore._c_expression import MixedPrecisionType

from maam_ops import _norms, _select

_PRECISION_FLAGS = ("fp16", "fp32", "bf16")


def require_exactly(owner: str, argument: str, cell: Any, kind: type[nn.Cell]) -> None:
    """Raise TypeError unless a Cell is of this very class: an operator would lose what a subclass does besides."""
    if type(cell) is not kind:
        raise TypeError(
            f"maam_ops.{owner}: {argument}: got a {type(cell).__name__}, expected nn.{kind.__name__} itself; leave a "
            "subclass, which may compute something else, unfused"
        )


def parameter_of(owner: str, alpha: Any, holder: type[nn.Cell]) -> Parameter:
    """The Parameter given for alpha, or the one of the Cell given that holds it; TypeError where it is neither."""
    parameter = alpha.alpha if type(alpha) is holder else alpha
    if not isinstance(parameter, Parameter):
        raise TypeError(
            f"maam_ops.{owner}: alpha: got a {type(alpha).__name__}, expected a Parameter or a {holder.__name__}"
        )
    return parameter


@contextmanager
def names_kept(*cells: nn.Cell) -> Iterator[None]:
    """Keep the names of Cells' Parameters while Cells that share some of them become attributes.

    MindSpore renames every Parameter of a Cell that is assigned to an attribute. A fused Cell made from a net's own
    layers would so take its checkpoints' names from them, and a checkpoint of the net without it load nothing::

        with maam_ops.names_kept(self):
            self.fused = maam_ops.FusedReduce.from_cells(self.conv, self.bn)

    Assign it behind the layers: when the net itself becomes an attribute, a Parameter is named after the first place
    that holds it.

    Args:
        cells: the Cell that holds the layers already, or the layers.
    """
    names = [(parameter, parameter.name) for cell in cells for parameter in cell.get_parameters()]
    try:
        yield
    finally:
        for parameter, name in names:
            parameter.name = name


class FusedCell(nn.Cell):
    """A Cell around one fused operator.

    Attributes:
        choice: the implementation taken when the Cell was made, and why; see ``maam_ops.explain``.
        impl: its name.
        automatic: whether the Cell decided by itself, so that the table of ``maam_ops.tuning`` may correct it by call.
    """

    # Normalisations that stay Cells of their own and decide by which statistics they go. A plain tuple: mixed precision
    # puts other Cells around those that are children.
    _norms = ()

    def __init__(self, op: str, impl: str) -> None:
        super().__init__()
        self.choice = _select.choose(op, impl)
        self.impl = self.choice.impl
        self.automatic = not _select.is_explicit(impl)

    def adopt(self, attribute: str, parameter: Parameter) -> None:
        """Make an existing Parameter this Cell's own without renaming it; see :func:`names_kept` for what follows."""
        name = parameter.name
        setattr(self, attribute, parameter)
        parameter.name = name

    def begin(self, training: bool) -> None:
        """As ``set_train``, but parts keep their flags: what is frozen stays so."""
        kept = [(cell, cell.training) for _, cell in self.cells_and_names() if cell is not self]
        self.set_train(training)
        for cell, flag in kept:
            cell.add_flags(training=flag)

    def choice_now(self) -> _select.Choice:
        """The choice, and what the normalisations' present flags make of it."""
        flags = _norms.flags_of(self._norms)
        if self.impl != _select.NATIVE or len(set(flags)) < 2:
            return self.choice
        note = (
            f"layer by layer now: {sum(flags)} of {len(flags)} normalisations go by the batch, the others by their "
            "running statistics"
        )
        return replace(self.choice, reason=f"{self.choice.reason}; {note}")

    def tell_names_apart(self) -> None:
        """Name Parameters that share a name by their places in this Cell, as MindSpore does when it is called first.

        Layers that no other Cell holds have such names; an optimizer refuses them, and a checkpoint keeps one of each.
        """
        count = Counter(parameter.name for parameter in self.get_parameters())
        for place, parameter in self.parameters_and_names():
            if count[parameter.name] > 1:
                parameter.name = place

    def add_flags(self, **flags: Any) -> FusedCell:
        """As ``nn.Cell``, without the casts of mixed precision.

        The operators take half data beside float32 parameters as they come. ``amp`` would round alpha, gamma and the
        running statistics to half on their way in.
        """
        kept = {name: value for name, value in flags.items() if name not in _PRECISION_FLAGS}
        if len(kept) < len(flags):
            # In PYNATIVE mode a Cell without a setting of its own inherits that of the Cell that calls it.
            self.mixed_precision_type = MixedPrecisionType.NOTSET
        return super().add_flags(**kept)
