"""The table by which ``impl="auto"`` picks between kernel and reference: measured once, then only read.

Beside it stand :data:`RULES`, for shapes that no table tells apart. With one table the same path is taken in every
run: no time is measured while a net runs. The package ships a table; ``maam bench --tune`` writes one for another
machine, which is used only where ``MAAM_OPS_TUNING`` names it.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

VARIABLE = "MAAM_OPS_TUNING"
SHIPPED = Path(__file__).with_name("tuning.json")
# The kernel keeps its place until it is slower than this: less is noise.
NEVER_SLOWER = 0.97
# Elements of an operator's first operand (a branch, the images, x, the logits, all parameters) up to which a call is
# of this size: caches hold small ones, and large ones stream.
SIZES = (("small", 2**16), ("medium", 2**22), ("large", None))
INFERENCE, TRAINING, BOTH = "inference", "training", "both"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        op: the operator.
        size: of :data:`SIZES`.
        call: "inference" or "training"; "both" for an operator that is not told which.
        impl: the path to take, "native" or "reference".
        ratio: time of the reference over that of the kernel.
    """

    op: str
    size: str
    call: str
    impl: str
    ratio: float

    def __str__(self) -> str:
        calls = "every call" if self.call == BOTH else self.call
        return f"{self.size}, {calls}: {self.impl} (kernel {self.ratio:.2f}x as fast as reference)"


@dataclass(frozen=True)
class Table:
    """Rows, and where they come from: ``source`` is the file, ``machine`` what they were measured on."""

    source: str
    machine: str
    rows: tuple[Row, ...]

    def of(self, op: str) -> list[Row]:
        """The rows of an operator."""
        return [row for row in self.rows if row.op == op]

    def find(self, op: str, shape: Sequence[int], training: bool | None) -> Row | None:
        """The row of a call; None where none was measured, or a size is known at run time only."""
        if any(extent is None or extent < 0 for extent in shape):
            return None
        call = BOTH if training is None else TRAINING if training else INFERENCE
        wanted = (op, size_of(shape), call)
        return next((row for row in self.rows if (row.op, row.size, row.call) == wanted), None)


@dataclass(frozen=True)
class Rule:
    """Shapes at which a kernel is slower than its reference by the way it works, whatever the machine.

    Attributes:
        text: for people.
        slower: takes the shapes of the first operand and of the weight.
    """

    text: str
    slower: Callable[[Sequence[int], Sequence[int]], bool]


def _few_tiles(x: Sequence[int], weight: Sequence[int]) -> bool:
    batch, _, height, width = x
    weights = weight[0] * weight[1]
    least = 0 if weights < 2**13 else 8 if weights <= 2**16 else 12
    return batch * -(-height // 4) * -(-width // 4) < least


def _many_short_rows(x: Sequence[int], weight: Sequence[int]) -> bool:
    # Images are flattened: their last dimension is not the layer's.
    inputs = weight[1]
    return 0 < inputs <= 512 and math.prod(x) > 512 * inputs


# Measured on one core of a Zen 3, kernel against MindSpore's layers: one image of 4x4 pixels and 512 by 512 channels
# 7.4 times as slow, 8 images 1.4 times, 16 faster; dense layers of 600 to 8,192 rows and up to 512 inputs 1.0 to 1.15
# times, with their gradients 1.04 to 1.9 times.
RULES = {
    "conv_block": Rule(
        "fewer than 12 tiles of 4x4 pixels (8 up to 65,536 pairs of channels, any below 8,192) do not pay for the "
        "transform of the weights",
        _few_tiles,
    ),
    "dense": Rule("more than 512 rows of up to 512 inputs", _many_short_rows),
}


def rule_of(op: str, x: Sequence[int], weight: Sequence[int] | None) -> Rule | None:
    """The rule that takes a call from its kernel; None where there is none, or a size is known at run time only."""
    rule = RULES.get(op)
    if rule is None or weight is None or any(extent is None or extent < 0 for extent in (*x, *weight)):
        return None
    return rule if rule.slower(x, weight) else None


def size_of(shape: Sequence[int]) -> str:
    """Name of the size of an operand."""
    elements = 1
    for extent in shape:
        elements *= extent
    return next(name for name, most in SIZES if most is None or elements <= most)


def path_of(ratio: float) -> str:
    """The path that a measured ratio asks for."""
    return "native" if ratio >= NEVER_SLOWER else "reference"


@functools.cache
def table() -> Table:
    """The table in use, read once: that of ``MAAM_OPS_TUNING``, else the shipped one.

    Raises:
        ValueError: the file that the variable names is no such table.
    """
    named = os.environ.get(VARIABLE)
    return read(Path(named)) if named else read(SHIPPED, "shipped with maam_ops")


def read(path: Path, source: str | None = None) -> Table:
    """Loads a table; errors as for :func:`table`."""
    try:
        data = json.loads(path.read_text())
        rows = tuple(Row(**{field.name: row[field.name] for field in fields(Row)}) for row in data["rows"])
        if all(_is_valid(row) for row in rows):
            return Table(source or str(path), str(data["machine"]), rows)
        problem = "a row with an unknown size, call or implementation"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise ValueError(
        f"maam_ops: {VARIABLE}: got {path}, expected a table written by `maam bench --tune` ({problem}); write it "
        "again, or unset the variable"
    )


def _is_valid(row: Row) -> bool:
    sizes = [name for name, _ in SIZES]
    known = row.size in sizes and row.call in (INFERENCE, TRAINING, BOTH) and row.impl in ("native", "reference")
    return known and isinstance(row.op, str) and isinstance(row.ratio, (int, float))
