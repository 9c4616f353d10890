"""What :func:`maam_ops.fuse` did, and why it left the rest alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Swap:
    """One fused Cell that now stands in the net.

    Attributes:
        path: where it stands.
        pattern: name of the operator: ``"agent_aggregate"``, ``"reduce"``, ``"aggregate_reduce"``, ``"conv_block"`` or
            ``"dense"``.
        replaces: paths of the Cells whose work it does.
        operator: the fused Cell, as text, with the implementation it runs.
    """

    path: str
    pattern: str
    replaces: tuple[str, ...]
    operator: str

    def __str__(self) -> str:
        return f"{self.path}: {self.operator} for {', '.join(self.replaces)}"


@dataclass(frozen=True)
class Refusal:
    """One place that looks like a pattern and was left as it is.

    Attributes:
        path: where it stands.
        pattern: the pattern it resembles.
        reason: why it is not fused, and what to do where something can be done.
    """

    path: str
    pattern: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: no {self.pattern}: {self.reason}"


@dataclass(frozen=True)
class FuseReport:
    """Result of :func:`maam_ops.fuse`.

    Attributes:
        swaps: what was fused.
        refusals: what was not, with reasons.
        probe: the batch the result was checked on, in words; empty if there was none.
        kernels_before: kernels executed in inference in GRAPH mode before; None where nothing was to be swapped, no
            batch was given, or the net does not compile in GRAPH mode.
        kernels_after: the same afterwards.
        largest_error: largest difference between the net before and after, over its outputs, gradients and running
            statistics in evaluation and in training, relative to the largest element of each; None without a swap.
    """

    swaps: tuple[Swap, ...]
    refusals: tuple[Refusal, ...]
    probe: str = ""
    kernels_before: int | None = None
    kernels_after: int | None = None
    largest_error: float | None = None

    def _paths_by_reason(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for refusal in self.refusals:
            grouped.setdefault(f"{refusal.pattern}: {refusal.reason}", []).append(refusal.path)
        return grouped

    def __str__(self) -> str:
        lines = [f"fused {len(self.swaps)}, refused {len(self.refusals)}"]
        if self.probe:
            lines[0] += f", probe: {self.probe}"
        lines += [f"  + {swap}" for swap in self.swaps]
        lines += [f"  - {', '.join(paths)}: no {what}" for what, paths in self._paths_by_reason().items()]
        if self.swaps:
            lines.append(f"  largest relative error on the probe: {self.largest_error:.1e}")
        if self.kernels_before is not None and self.kernels_after is not None:
            lines.append(f"  executed kernels in inference: {self.kernels_before} -> {self.kernels_after}")
        return "\n".join(lines)
