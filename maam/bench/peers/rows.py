"""Which rows are measured, by which sides, and what the project promises of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import MaamError
from ..cases import StoredInference, StoredStep
from ..figures import AgainstBest, Figure, NotBuilt, SpeedUp
from ..sides import SIDES, Side, register
from ..suite import Benchmark

PRESETS = ("authors", "deep")
BATCHES = (1, 64, 256)
OURS, MINDSPORE = "fused model", "unfused model"
REDUCED = {"bfloat16": "bfloat16 model", "int8": "int8 model"}
# Our kernels without MindSpore's runtime.
PREDICTORS = {"float32": "Predictor", "bfloat16": "bfloat16 Predictor", "int8": "int8 Predictor"}
ENGINES = {"float32": ("onnxruntime", "openvino", "PyTorch"), "bfloat16": ("openvino", "PyTorch")}
ENGINES["int8"] = ("onnxruntime", "openvino")
PEERS = ("onnxruntime", "openvino", "PyTorch")

_BEST = "times as fast as the best peer"
# Through MindSpore or by the Predictor: precision -> preset -> batch -> goal.
_GOALS: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "float32": {"authors": {1: 1.0, 64: 1.4, 256: 1.4}, "deep": {1: 1.5, 64: 2.5, 256: 2.5}},
    "bfloat16": {"authors": {1: 1.2, 64: 1.3}, "deep": {1: 1.2, 64: 1.4}},
    "int8": {"authors": {64: 1.2}, "deep": {64: 1.1}},
}
# Of a training step: times as fast as PyTorch, and as MindSpore.
_STEP_GOALS = {"authors": (3.5, 5.0), "deep": (3.0, 6.0)}

for _side in (
    Side(
        "onnxruntime",
        "ONNX Runtime, fastest form of the model",
        f"{__package__}.onnxruntime_side:prepare",
        requires=("onnx", "onnxruntime"),
    ),
    Side(
        "openvino",
        "OpenVINO, fastest form of the model",
        f"{__package__}.openvino_side:prepare",
        requires=("onnx", "openvino"),
    ),
    Side("PyTorch", "eager or compiled, channels_last", f"{__package__}.torch_side:prepare", requires=("torch",)),
):
    register(_side)


def use_pythons(pythons: Sequence[str]) -> None:
    """Lets peers run under interpreters of their own.

    Args:
        pythons: "PEER=PATH" each, such as "PyTorch=/opt/torch/bin/python".

    Raises:
        MaamError: no such peer, or no such file.
    """
    known = {name.lower(): name for name in PEERS}
    for item in pythons:
        name, _, path = item.partition("=")
        if name.lower() not in known or not Path(path).is_file():
            raise MaamError(
                f"bench: --python: got {item!r}, expected PEER=PATH with a peer of {', '.join(PEERS)} and the path of "
                "its interpreter"
            )
        side = SIDES[known[name.lower()]]
        # Not resolved: the interpreter of a virtual environment is a link.
        SIDES[side.name] = replace(side, python=str(Path(path).absolute()))


def rows(files: Mapping[str, str]) -> list[Benchmark]:
    """All rows; `files` has the arrays of each preset, see :mod:`.stored`."""
    benchmarks = []
    for preset in PRESETS:
        for precision in ENGINES:
            benchmarks += [_inference(preset, batch, precision, files.get(preset, "")) for batch in BATCHES]
        benchmarks.append(_step(preset, files.get(preset, "")))
    return benchmarks


def _inference(preset: str, batch: int, precision: str, path: str) -> Benchmark:
    peers = ENGINES[precision]
    goal = _GOALS[precision][preset].get(batch)
    ours = REDUCED.get(precision, OURS)
    figures: list[Figure] = [
        AgainstBest(name, at_least=goal, shared=_BEST, fast=fast, others=peers)
        for name, fast in ((_BEST, ours), (f"Predictor: {_BEST}", PREDICTORS[precision]))
    ]
    if precision == "float32":
        figures.append(SpeedUp("times as fast as tuned MindSpore", slow=MINDSPORE, fast=OURS))
    else:
        figures.append(SpeedUp("times as fast as float32", slow=OURS, fast=ours))
    return Benchmark(
        f"{preset} inference {precision} {batch}",
        f"{preset}, inference",
        StoredInference(batch, preset, path, precision),
        (*figures, *_unsupported(precision)),
        ours,
        truth=MINDSPORE,
        optional=PEERS,
        facts=_facts(*peers) if (precision, batch) == ("float32", 64) else (),
    )


def _unsupported(precision: str) -> tuple[Figure, ...]:
    return tuple(
        NotBuilt(f"{peer}", reason=f"has no {precision} form of this model on CPU")
        for peer in PEERS
        if peer not in ENGINES[precision]
    )


def _step(preset: str, path: str) -> Benchmark:
    peer, mindspore = _STEP_GOALS[preset]
    return Benchmark(
        f"{preset} training 64",
        f"{preset}, training step",
        StoredStep(64, preset, path),
        (
            AgainstBest(_BEST, at_least=peer, fast=OURS, others=("PyTorch",)),
            SpeedUp("times as fast as tuned MindSpore", at_least=mindspore, slow=MINDSPORE, fast=OURS),
        ),
        OURS,
        truth=MINDSPORE,
        optional=PEERS,
        facts=_facts("PyTorch"),
    )


def _facts(*peers: str) -> tuple[tuple[str, str], ...]:
    """Kernels, memory of activations and first call, where a side knows them."""
    of_mindspore = [(side, fact) for side in (OURS, MINDSPORE) for fact in ("kernels", "plan_peak_bytes")]
    counted = [(peer, "kernels") for peer in peers if peer != "PyTorch"]
    return (*of_mindspore, *counted, *((side, "first_call_ms") for side in (OURS, MINDSPORE, *peers)))
