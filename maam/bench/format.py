"""How a figure is written in tables and plots."""

from __future__ import annotations


def number(value: float | None, unit: str) -> str:
    """A figure with as many digits as it deserves."""
    if value is None:
        return "-"
    if unit == "%":
        return f"{round(100 * value)} %"  # an integer: no "-0 %"
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.2f} {unit}".strip()
