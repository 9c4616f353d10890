"""From figures to a table: claim, what was measured, whether it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .figures import FUSIONS, Figures

YES, NO = "yes", "no"
# The paper's own equations, weighted sum and reduction; "all" fuses convolutions, dense layers, loss and Adam as well.
OWN = "aggregate_reduce"


@dataclass(frozen=True)
class Claim:
    """One line of the table; `holds` begins with yes, no or not measured."""

    claim: str
    measured: str
    holds: str


def judge(figures: Figures) -> list[Claim]:
    """All claims; one whose figures are missing says why."""
    lines: list[tuple[str, tuple[str, ...], Callable[[Figures], tuple[str, str]]]] = [
        ("MAAM has 2.3 M parameters", (), _parameters),
        ("Operator fusion takes 20 % off the graph's nodes, training step", ("step",), lambda f: _nodes(f, "step")),
        (
            "Operator fusion takes 20 % off the graph's nodes, inference",
            ("inference",),
            lambda f: _nodes(f, "inference"),
        ),
        ("MindSpore with operator fusion trains 30 % faster than PyTorch", ("step, PyTorch",), _against_torch),
        ("Operator fusion makes training 30 % faster, in MindSpore alone", ("step",), _against_unfused),
        ("The dynamic graph makes training efficient", ("step, modes",), _modes),
        ("Mixed precision speeds training up (on CPU)", ("step, mixed precision",), _precision),
        ("Each fused operator contributes, training step", ("step",), lambda f: _contributions(f, "step")),
        ("Each fused operator contributes, inference", ("inference",), lambda f: _contributions(f, "inference")),
        (
            "Branches at 32x32, 16x16 and 8x8 with kernels of their own cost little",
            ("step, multi-scale", "step"),
            _multi_scale,
        ),
    ]
    claims = []
    for claim, races, judged in lines:
        failed = [race for race in races if race in figures.failed]
        if failed:
            claims.append(Claim(claim, "-", f"not measured: {figures.failed[failed[0]].splitlines()[0]}"))
        elif any(race not in figures.seconds for race in races):
            claims.append(Claim(claim, "-", "not measured"))
        else:
            claims.append(Claim(claim, *judged(figures)))
    return claims


def _says(holds: bool, otherwise: str = "") -> str:
    return YES if holds else f"{NO}{': ' + otherwise if otherwise else ''}"


def _with_fusion(everything: bool, own: bool | None) -> str:
    """Whether a claim on fusion holds, by what was fused: one could be taken for the other. None = not measured."""
    with_everything, with_own = "with everything this package fuses", f"with {OWN} alone"
    if own is None:
        return f"{_says(everything)}, {with_everything}"
    if own == everything:
        return f"{_says(everything)}, {with_everything} and {with_own}"
    return f"{_says(everything)}, {with_everything}; {_says(own)}, {with_own}"


def _parameters(figures: Figures) -> tuple[str, str]:
    counts = figures.parameters
    listed = ", ".join(f"{preset} {count:,}" for preset, count in counts.items())
    return (
        f"authors {counts['authors']:,}; all presets: {listed}",
        "no: the paper's own Eq. 8 needs 32768 x 256 = 8.39 M for one layer; preset 2.3m has the number with a hidden "
        "layer of 64",
    )


def _nodes(figures: Figures, race: str) -> tuple[str, str]:
    counts = figures.kernels[race]
    saved, own = (1 - counts[fusion] / counts["unfused"] for fusion in ("all", OWN))
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        f"{saved:.0%} fewer executed kernels, {own:.0%} with {OWN} alone ({listed})",
        _with_fusion(saved >= 0.20, own >= 0.20),
    )


def _against_torch(figures: Figures) -> tuple[str, str]:
    seconds = figures.seconds["step, PyTorch"]
    saved = {name: 1 - seconds[name] / seconds["PyTorch"] for name in ("all", "unfused")}
    listed = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items())
    own, of_own = None, ""
    if "step" in figures.ratios:
        # Not in the race with PyTorch; its share of the unfused step is from the other.
        own = 1 - seconds["unfused"] / figures.ratios["step"][OWN] / seconds["PyTorch"]
        of_own = f", about {_change(own)} with {OWN} alone"
    return (
        f"a step takes {_change(saved['all'])} than PyTorch's fused, {_change(saved['unfused'])} unfused{of_own} "
        f"({listed})",
        _with_fusion(saved["all"] >= 0.30, None if own is None else own >= 0.30),
    )


def _against_unfused(figures: Figures) -> tuple[str, str]:
    saved, own = (1 - 1 / figures.ratios["step"][fusion] for fusion in ("all", OWN))
    return (
        f"a step takes {_change(saved)}, {_change(own)} with {OWN} alone "
        f"({_times(figures, 'step', ('unfused', 'all', OWN))})",
        _with_fusion(saved >= 0.30, own >= 0.30),
    )


def _modes(figures: Figures) -> tuple[str, str]:
    ratios = figures.ratios["step, modes"]
    slower = 1 / ratios["unfused, PYNATIVE"]
    return (
        f"a dynamic (PYNATIVE) step takes {slower:.1f} times the static (GRAPH) one unfused, "
        f"{ratios['all'] / ratios['all, PYNATIVE']:.1f} times fused ({_times(figures, 'step, modes')})",
        _says(slower < 1, "the static graph is faster"),
    )


def _precision(figures: Figures) -> tuple[str, str]:
    ratios = figures.ratios["step, mixed precision"]
    best = max(ratios["unfused, O2"], ratios["unfused, O3"], ratios["all, O2"] / ratios["all"])
    return _times(figures, "step, mixed precision"), _says(best > 1.03)


def _contributions(figures: Figures, race: str) -> tuple[str, str]:
    ratios, quartiles = figures.ratios[race], figures.quartiles[race]
    listed = ", ".join(
        f"{name}{'' if name == 'all' else ' alone'} {ratios[name]:.2f}x ({low:.2f} to {high:.2f})"
        for name, (low, high) in quartiles.items()
    )
    slower = [name for name in FUSIONS if quartiles[name][1] < 1]
    unclear = [name for name in FUSIONS if quartiles[name][0] <= 1 <= quartiles[name][1]]
    reasons = ("slower than unfused", slower), ("not told from unfused", unclear)
    return (
        f"{listed} as fast as unfused, with quartiles",
        _says(not slower + unclear, "; ".join(f"{what}: {', '.join(names)}" for what, names in reasons if names)),
    )


def _multi_scale(figures: Figures) -> tuple[str, str]:
    # Not a paired ratio: the two models are different races.
    factor = figures.seconds["step, multi-scale"]["unfused"] / figures.seconds["step"]["unfused"]
    return (
        f"a step takes {factor:.1f} times that of the authors preset; {figures.parameters['multi-scale']:,} parameters "
        f"({_times(figures, 'step, multi-scale')})",
        _says(factor < 1.1),
    )


def _change(saved: float) -> str:
    return f"{abs(saved):.0%} {'less' if saved >= 0 else 'more'} time"


def _times(figures: Figures, race: str, names: tuple[str, ...] | None = None) -> str:
    seconds = figures.seconds[race]
    return ", ".join(f"{name} {1000 * seconds[name]:.0f} ms" for name in names or seconds)
