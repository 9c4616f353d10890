"""The fused and the reference model side by side: trained from one seed, compared, and judged.

Both sides start from the same weights and see the same batches. Before any training, one inference and one training
pass of each are compared value by value; after it, losses, accuracy and cost stand beside each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from .config import TrainConfig
from .errors import MaamError

# Rounding differences grow tenfold every eight steps or so on the digits: about 1e-5 here, 1e-3 after an epoch more.
EARLY_STEPS = 20
DIGITS_ACCURACY = 0.95
SIDES = ("fused", "reference")
RESULT_NAME, PROBE_NAME = "side.json", "probe.npz"


@dataclass(frozen=True)
class Side:
    """What one implementation did.

    Attributes:
        implementation: what really ran: "plain MindSpore", or the fused operators and their implementation.
        losses: training loss of every step.
        train_loss: mean over the last epoch.
        test_accuracy: after the last epoch.
        kernels_inference, kernels_step: kernels executed per call of the model and per training step.
        peak_memory_mib: largest resident set of the process up to the end of training.
        start_memory_mib: resident set when MindSpore and the images were loaded, before the model was built.
        train_images_per_second: from the median time of a step, data pipeline included.
        inference_images_per_second: from the median time of a call of the compiled model.
    """

    implementation: str
    losses: list[float]
    train_loss: float
    test_accuracy: float
    kernels_inference: int
    kernels_step: int
    peak_memory_mib: float
    start_memory_mib: float
    train_images_per_second: float
    inference_images_per_second: float


@dataclass(frozen=True)
class Limits:
    """Largest differences that still pass. Errors are relative to the largest value of the reference's array.

    Float32 sums of the two sides are rounded in different orders (about 1e-6); a wrong formula is off by 1e-2 or more.
    Training amplifies rounding step by step, so only the early losses must agree closely.

    `accuracy` is what both sides must reach on the test set; None asks for `DIGITS_ACCURACY` on the embedded digits and
    for nothing on other data: no number is known that a few epochs of any model reach there.
    """

    outputs: float = 1e-4
    gradients: float = 1e-3
    early_losses: float = 1e-3
    final_loss: float = 0.05
    accuracy: float | None = None


@dataclass(frozen=True)
class Check:
    """One judged figure: passes when `value` is at most (`at_least`: at least) `limit`; NaN never passes."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return bool(self.value >= self.limit if self.at_least else self.value <= self.limit)

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        return (
            f"{self.name:<46} {self.value:>10.3g}  {relation:<8} {self.limit:<8g} {'ok' if self.passed else 'FAILED'}"
        )


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """max|got - expected| / max|expected|; infinite for another shape or a value that is not finite."""
    if got.shape != expected.shape or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return float("inf")
    difference = np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    scale = np.abs(expected).max(initial=0.0)
    return float(difference / scale) if scale > 0 else (0.0 if difference == 0 else float("inf"))


@dataclass(frozen=True)
class Comparison:
    """Both sides, the worst error of each kind of result with the place where it is, and the checks."""

    fused: Side
    reference: Side
    worst: dict[str, tuple[float, str]]
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def compare(
    config: TrainConfig,
    data: Path | None = None,
    limits: Limits | None = None,
    on_side: Callable[[str], None] | None = None,
) -> Comparison:
    """Train and measure both sides, each in a fresh process, and judge the differences.

    Args:
        config: the training run; its `impl` is that of the fused side.
        data: CIFAR-10 folder, or None for the embedded digits.
        limits: what passes.
        on_side: told "fused" and "reference" as each side starts.

    Raises:
        MaamError: a side could not run; it has said why on standard error.
    """
    limits = limits or Limits()
    if limits.accuracy is None and data is None:
        limits = replace(limits, accuracy=DIGITS_ACCURACY)
    sides: list[Side] = []
    probes: list[dict[str, np.ndarray]] = []
    with tempfile.TemporaryDirectory(prefix="maam_compare_") as folder:
        for name in SIDES:
            if on_side is not None:
                on_side(name)
            side_config = replace(config, impl="reference") if name == "reference" else config
            side, probe = _run_side(side_config, data, Path(folder) / name)
            sides.append(side)
            probes.append(probe)
    worst = _worst_errors(*probes)
    return Comparison(sides[0], sides[1], worst, _checks(sides[0], sides[1], worst, limits))


def _run_side(config: TrainConfig, data: Path | None, folder: Path) -> tuple[Side, dict[str, np.ndarray]]:
    folder.mkdir()
    request = json.dumps({"config": asdict(config), "data": None if data is None else str(data.resolve())})
    # The child works in its folder, because MindSpore leaves files behind where it runs; modules come from the same
    # places as ours.
    path = os.pathsep.join(entry for entry in (os.path.abspath(entry) for entry in sys.path) if os.path.exists(entry))
    process = subprocess.run(
        [sys.executable, "-m", "maam.compare_side", request, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if process.returncode != 0:
        raise MaamError(f"compare: the side impl={config.impl} ended with exit code {process.returncode}")
    with np.load(folder / PROBE_NAME) as arrays:
        return Side(**json.loads((folder / RESULT_NAME).read_text())), dict(arrays)


def _worst_errors(fused: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, tuple[float, str]]:
    """Largest relative error, and where it is, of each kind of result."""
    kinds = {"logits": "logits", "loss": "loss", "gradients": "gradient of", "running statistics": "statistic"}
    if fused.keys() != reference.keys():
        raise MaamError(f"compare: the sides have different parameters: {sorted(fused.keys() ^ reference.keys())}")
    worst = {}
    for kind, prefix in kinds.items():
        errors = [(relative_error(fused[name], reference[name]), name) for name in reference if name.startswith(prefix)]
        if errors:
            error, name = max(errors)
            worst[kind] = (error, name.removeprefix(prefix).strip())
    return worst


def _checks(fused: Side, reference: Side, worst: dict[str, tuple[float, str]], limits: Limits) -> list[Check]:
    early = [np.array(side.losses[:EARLY_STEPS]) for side in (fused, reference)]
    early_error = float(np.max(np.abs(early[0] - early[1]) / np.abs(early[1])))
    return [
        *(
            Check(
                f"error of {kind}, before training", error, limits.gradients if kind == "gradients" else limits.outputs
            )
            for kind, (error, _) in worst.items()
        ),
        Check(f"relative loss difference, first {len(early[0])} steps", early_error, limits.early_losses),
        Check("loss difference, last epoch", abs(fused.train_loss - reference.train_loss), limits.final_loss),
        *(
            Check(f"test accuracy, {name}", side.test_accuracy, limits.accuracy, at_least=True)
            for name, side in zip(SIDES, (fused, reference), strict=True)
            if limits.accuracy is not None
        ),
    ]


def format_report(comparison: Comparison) -> str:
    """The comparison as plain text: a table of both sides, the largest errors, the checks and the verdict."""
    fused, reference = comparison.fused, comparison.reference

    def row(label: str, name: str, style: str, difference: str) -> str:
        return f"{label:<34}{getattr(fused, name):>14{style}}{getattr(reference, name):>14{style}}  {difference}"

    def change(name: str) -> str:
        return f"{getattr(fused, name) / getattr(reference, name) - 1:+.0%}"

    def ratio(name: str) -> str:
        return f"{getattr(fused, name) / getattr(reference, name):.2f}x"

    def delta(name: str, style: str) -> str:
        return f"{getattr(fused, name) - getattr(reference, name):{style}}"

    notes = []
    if "native" not in fused.implementation:
        notes = ["note: no compiled kernel ran on the fused side; python -m maam_ops.info says why"]
    lines = [
        f"fused side ran      {fused.implementation}",
        f"reference side ran  {reference.implementation}",
        *notes,
        "",
        f"{'':<34}{'fused':>14}{'reference':>14}  fused - or / reference",
        row("training loss, last epoch", "train_loss", ".4f", delta("train_loss", "+.4f")),
        row("test accuracy", "test_accuracy", ".4f", delta("test_accuracy", "+.4f")),
        row("executed kernels, inference", "kernels_inference", "d", change("kernels_inference")),
        row("executed kernels, training step", "kernels_step", "d", change("kernels_step")),
        row("peak memory, MiB", "peak_memory_mib", ".0f", change("peak_memory_mib")),
        row("  of it before the model, MiB", "start_memory_mib", ".0f", ""),
        row("images per second, training", "train_images_per_second", ".0f", ratio("train_images_per_second")),
        row("images per second, inference", "inference_images_per_second", ".0f", ratio("inference_images_per_second")),
        "",
        "largest error against the reference, one pass from equal weights (relative to the largest value)",
        *(f"  {kind:<20}{error:10.2e}  {where}" for kind, (error, where) in comparison.worst.items()),
        "",
        *map(str, comparison.checks),
        "",
        "PASS: the fused model does what the reference does"
        if comparison.passed
        else "FAIL: " + "; ".join(check.name for check in comparison.checks if not check.passed),
    ]
    return "\n".join(lines)
