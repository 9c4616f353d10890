"""What this installation can run, and why not the rest: ``maam_ops.info()`` and ``python -m maam_ops.info``."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import mindspore as ms
import numpy as np

from maam_ops import _cuda, _native, _select, runtime


@dataclass(frozen=True)
class Row:
    """One implementation of one operator.

    Attributes:
        op: operator, as ``maam_ops.functional`` names it.
        impl: implementation, as ``impl=`` names it.
        available: whether it can run here now.
        detail: what it runs on, or why it cannot run and what to do.
    """

    op: str
    impl: str
    available: bool
    detail: str


@dataclass(frozen=True)
class Info:
    """The state of the package; ``str()`` gives the report that belongs into a bug report."""

    versions: dict[str, str]
    detected_isa: str | None
    active_isa: str | None
    threads: int | None
    tuning: str
    cuda: str
    rows: list[Row]

    def __str__(self) -> str:
        lines = [f"{name:<12} {version}" for name, version in self.versions.items()]
        lines.append(f"{'CPU kernels':<12} " + self._kernels())
        lines.append(f"{'CUDA kernels':<12} {self.cuda}")
        lines.append(f"{'oneDNN':<12} {self.tuning}")
        lines.append("")
        width = max(len(row.op) for row in self.rows)
        for row in self.rows:
            lines.append(f"{row.op:<{width}}  {row.impl:<9}  {'yes' if row.available else 'no ':<3}  {row.detail}")
        return "\n".join(lines)

    def _kernels(self) -> str:
        if self.active_isa is None:
            return "not built"
        capped = "" if self.active_isa == self.detected_isa else f" (capped by MAAM_OPS_ISA; has {self.detected_isa})"
        return f"{self.active_isa}{capped}, {self.threads} thread(s)"


def info() -> Info:
    """Collect versions, instruction set, threads, the runtime's tuning, and every operator's implementations."""
    core = _native.core() if _native.missing_reason(()) is None else None
    isa = core.active_isa() if core else None
    rows = []
    for op in _select.operators():
        for implementation in _select.implementations(op):
            reason = implementation.why_not()
            ready = implementation.description + (f", {isa}" if implementation.description == "C++ kernels" else "")
            rows.append(Row(op, implementation.name, reason is None, reason or ready))
    from maam_ops import __version__

    return Info(
        versions={
            "maam_ops": __version__,
            "mindspore": ms.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
        detected_isa=core.detected_isa() if core else None,
        active_isa=isa,
        threads=core.num_threads() if core else None,
        tuning=runtime.status().detail,
        cuda=_cuda.status(),
        rows=rows,
    )


if __name__ == "__main__":
    print(info())
