"""What is measured: seconds of a training step and of an inference on many sides, kernels, parameters."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...bench import sides
from ...bench.cases import Case, ModelInference, ModelLosses, ModelLossesHalf
from ...bench.gate import GateError
from ...bench.race import Crew, Race, SideFailed
from ...bench.sides import Side
from ...bench.statistics import paired

# A block of plain MindSpore takes 40 ms a batch or 60, by chance (inference, two threads): five rounds were too few to
# tell an operator's share from that.
ROUNDS, BLOCK_SECONDS = 11, 0.6
BATCH = 64
# What of the module runs fused: a single operator, or all that `impl="native"` puts in.
FUSIONS = ("aggregate", "reduce", "aggregate_reduce", "all")
UNFUSED, FUSED, TORCH = "claims: unfused", "claims: all", "claims: PyTorch"
_MINDSPORE = f"{__package__}.mindspore_side:prepare"


@dataclass
class Figures:
    """All figures; all but `parameters` go into `claims.json`.

    Attributes:
        parameters: trainable parameters by preset, counted anew for each report: a preset may have changed since.
        kernels: executed kernels by "inference" and "step", then by side.
        seconds: median seconds by "inference", "step" ..., then by side.
        ratios: median over the rounds of the seconds of the unfused side over those of each other, by the same names.
        quartiles: lower and upper quartile of those.
        failed: why something is missing, by the same names.
    """

    parameters: dict[str, int] = field(default_factory=dict)
    kernels: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)
    quartiles: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def _side(name: str, description: str, **options: object) -> Side:
    return Side(f"claims: {name}", description, _MINDSPORE, options)


ALL_SIDES = (
    _side("unfused", "plain MindSpore, GRAPH mode", fusion=None),
    *(_side(fusion, f"fused: {fusion}, GRAPH mode", fusion=fusion) for fusion in FUSIONS),
    _side("unfused, PYNATIVE", "plain MindSpore, PYNATIVE mode", fusion=None, mode="pynative"),
    _side("all, PYNATIVE", "everything fused, PYNATIVE mode", fusion="all", mode="pynative"),
    _side("unfused, O2", "plain MindSpore, mixed precision O2", fusion=None, amp="O2"),
    _side("unfused, O3", "plain MindSpore, float16", fusion=None, amp="O3"),
    _side("all, O2", "everything fused, mixed precision O2", fusion="all", amp="O2"),
    Side(TORCH, "PyTorch, the best of its forms", f"{__package__}.torch_side:prepare", requires=("torch",)),
)

# Each is one race; the first side is the truth for the others.
RACES: dict[str, tuple[Case, tuple[str, ...]]] = {
    "step": (ModelLosses(BATCH), (UNFUSED, *(f"claims: {fusion}" for fusion in FUSIONS))),
    "step, PyTorch": (ModelLosses(BATCH), (UNFUSED, FUSED, TORCH)),
    "step, modes": (ModelLosses(BATCH), (UNFUSED, FUSED, "claims: unfused, PYNATIVE", "claims: all, PYNATIVE")),
    "step, mixed precision": (
        ModelLossesHalf(BATCH),
        (UNFUSED, FUSED, "claims: unfused, O2", "claims: unfused, O3", "claims: all, O2"),
    ),
    "step, multi-scale": (ModelLosses(BATCH, "multi-scale"), (UNFUSED, "claims: aggregate_reduce")),
    "inference": (ModelInference(BATCH), (UNFUSED, *(f"claims: {fusion}" for fusion in FUSIONS))),
}


def register_sides(torch_python: Path | None) -> None:
    """Make the sides known to the races."""
    for side in ALL_SIDES:
        if side.name == TORCH and torch_python is not None:
            side = replace(side, python=str(torch_python))
        sides.SIDES[side.name] = side


def measure(
    threads: int, echo: Callable[[str], None], stop: Callable[[], bool], torch_python: Path | None = None
) -> Figures:
    """Everything, one race after the other; what fails is named in `failed` and the rest goes on."""
    register_sides(torch_python)
    figures = Figures(parameters=parameters())
    for name, (case, names) in RACES.items():
        if stop():
            raise KeyboardInterrupt
        missing = [module for side in names for module in sides.SIDES[side].missing()]
        if missing:
            figures.failed[name] = f"{missing[0]} is not installed"
            continue
        echo(f"measuring {name}: {', '.join(side.removeprefix('claims: ') for side in names)}")
        with Crew(threads) as crew:
            try:
                _race(figures, name, crew, case, names)
            except (GateError, SideFailed) as error:
                figures.failed[name] = str(error)
                echo(f"    failed: {error}")
    return figures


def _race(figures: Figures, name: str, crew: Crew, case: Case, names: Sequence[str]) -> None:
    race = Race(crew, case, names, truth=names[0])
    for _ in range(ROUNDS):
        race.round(BLOCK_SECONDS)
    short = {side: side.removeprefix("claims: ") for side in names}
    figures.seconds[name] = {short[side]: statistics.median(times[side] for times in race.rounds) for side in names}
    figures.ratios[name], figures.quartiles[name] = {}, {}
    for side in names[1:]:
        middle, low, high = paired(race.rounds, lambda times, side=side: times[names[0]] / times[side])
        figures.ratios[name][short[side]], figures.quartiles[name][short[side]] = middle, (low, high)
    if name in ("step", "inference"):
        figures.kernels[name] = {short[side]: int(race.fact(side, "kernels")) for side in names}


@functools.cache
def parameters() -> dict[str, int]:
    """Trainable parameters of every preset as it is now."""
    from ...models import create_model, list_presets

    nets = {preset: create_model(preset, impl="reference") for preset in list_presets()}
    return {preset: sum(p.size for p in net.trainable_params()) for preset, net in nets.items()}
