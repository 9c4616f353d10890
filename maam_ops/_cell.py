"""What the fused Cells share: the choice of implementation, adopted Parameters, and mixed precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mindspore import Parameter, nn
from mindspore._c_expression import MixedPrecisionType

from maam_ops import _norms, _select

_PRECISION_FLAGS = ("fp16", "fp32", "bf16")


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
        """Make an existing Parameter this Cell's own without renaming it, so that checkpoints stay valid."""
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
