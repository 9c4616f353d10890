"""Our kernels at work in the model: time, traffic and FLOPs of each, the machine's ceilings, the step by kernel.

``python -m maam.bench.peers.kernels THREADS ARRAYS PRESET`` prints one JSON object; a process of its own, because what
the profiler leaves behind would disturb the measured sides.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import MaamError
from .. import cases
from ..race import LOG_LINES

BATCH, CALLS = 64, 5
# Larger than any last-level cache: these streams come from memory.
_STREAM = 2**25
_SECONDS = 600


def measure(threads: int, path: Path, preset: str) -> dict[str, Any]:
    """Runs this module in a process of its own.

    Returns:
        ``gigabytes_per_second`` and ``gigaflops``: the ceilings; ``kernels``: by "case: kernel" its calls a run,
        seconds, bytes and FLOPs; ``step``: the milliseconds of one training step by kernel.

    Raises:
        MaamError: the process failed.
    """
    command = [sys.executable, "-m", __name__, str(threads), str(path), preset]
    environment = {**os.environ, "MAAM_OPS_QUIET": "1", "GLOG_v": "3"}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if os.path.exists(entry))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False)
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-LOG_LINES:])
        raise MaamError(f"bench: kernels of {preset}: the process ended with code {done.returncode}\n{tail}")
    return json.loads(done.stdout.splitlines()[-1])


def flops(preset: str, batch: int) -> dict[str, float]:
    """FLOPs by kernel and run that its definition asks for, whatever algorithm it uses.

    The gradient of a max-pool is zero but for one pixel in four, and so is what a convolution before it must compute.
    A kernel that is not listed has no count.
    """
    from ...models.config import PRESETS

    config = PRESETS[preset]
    pixels, pooled = batch * config.image_size**2, batch * config.grid**2
    widths = (config.in_channels, *config.channels)
    layers = [2.0 * a * b * k**2 for k in config.kernel_size for a, b in itertools.pairwise(widths)]
    convolutions = pixels * sum(layers)
    mix = 2.0 * config.num_agents * pooled * config.width
    reduce = 2.0 * pooled * config.width * config.reduce_channels
    dense = 2.0 * batch * (config.features * config.hidden + config.hidden * 10)
    depth = len(config.channels)
    last, inner = pooled * sum(layers[depth - 1 :: depth]), pixels * (sum(layers) - sum(layers[depth - 1 :: depth]))
    forward = convolutions + mix + reduce
    return {
        "maam_inference": forward,
        "maam_deep_inference": forward,
        "maam_training": forward,
        "maam_backward": last + 2 * mix + 2 * reduce,
        "agent_block_forward": convolutions,
        # Gradients of weights and input of the last convolution, of the weights of those before.
        "agent_block_backward": (2 * last if depth > 1 else last) + inner,
        "aggregate_reduce_training": mix + reduce,
        "aggregate_reduce_backward": 2 * mix + 2 * reduce,
        "dense_forward": dense,
        "dense_input_gradient": dense,
        "dense_parameter_gradients": dense,
    }


def _counted(run: Any, calls: int) -> dict[str, dict[str, float]]:
    from maam_ops import _native

    core = _native.core()
    run()
    core.reset_counters()
    for _ in range(calls):
        run()
    rows: dict[str, dict[str, float]] = {}
    for name, row in core.counters().items():
        kernel = name.partition("/")[0]
        rows[kernel] = {key: row[key] / calls for key in ("calls", "seconds", "bytes_moved")}
    return rows


def _ceilings() -> dict[str, float]:
    from maam_ops import _native

    from ..sides import aligned

    core = _native.core()
    reads, writes = [aligned((_STREAM,), np.float32(1)), aligned((_STREAM,), np.float32(1))], [aligned((_STREAM,))]
    moved = 4 * _STREAM * (len(reads) + len(writes))
    best = 0.0
    for streaming, blocked, ranges in itertools.product((False, True), repeat=3):
        for _ in range(3):
            before = time.perf_counter()
            core.ceiling_bandwidth(reads, writes, streaming=streaming, blocked=blocked, ranges=ranges)
            best = max(best, moved / (time.perf_counter() - before))
    rates = []
    for _ in range(5):
        before = time.perf_counter()
        done = core.ceiling_fma()
        rates.append(done / (time.perf_counter() - before))
    return {"gigabytes_per_second": best / 1e9, "gigaflops": max(rates) / 1e9}


def _report(path: str, preset: str) -> dict[str, Any]:
    from ..sides import model

    known, found, step = flops(preset, BATCH), {}, {}
    for what, case in (
        ("inference", cases.StoredInference(BATCH, preset, path)),
        ("training", cases.StoredStep(BATCH, preset, path)),
    ):
        prepared = model.prepare(case, case.inputs(), fused=True)
        run = prepared.candidates[""].run
        for kernel, row in _counted(run, CALLS).items():
            found[f"{what}: {kernel}"] = {**row, "flops": known.get(kernel, 0.0)}
        if what == "training":
            step = _step_by_kernel(run)
    return {**_ceilings(), "batch": BATCH, "kernels": found, "step": step}


def _step_by_kernel(run: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of one step, longest first: MindSpore's kernels by its profiler, ours by our counters.

    The profiler knows ours as "Custom" all together; what it adds to their time is the way in and out. What neither
    sees is the runtime between the kernels; on several executors kernels overlap, and there may be no such rest.
    """
    import maam_ops.graph

    times = []
    for _ in range(CALLS):
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    profiled = maam_ops.graph.profile_kernels(run, steps=CALLS).milliseconds
    ours = {name: 1e3 * row["seconds"] for name, row in _counted(run, CALLS).items()}
    custom = profiled.pop("Custom", 0.0) - sum(ours.values())
    rest = statistics.median(times) - sum(profiled.values()) - max(custom, 0.0) - sum(ours.values())
    whole = {**profiled, **ours, "in and out of ours": custom, "between kernels": rest}
    return {name: spent for name, spent in sorted(whole.items(), key=lambda item: -item[1]) if spent > 0}


def main() -> None:
    threads, path, preset = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    print(json.dumps(_report(path, preset)))


if __name__ == "__main__":
    main()
