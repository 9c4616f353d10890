"""`python -m benchmarks.cuda [--quick]`: every case, checked, then timed; targets beside what was measured."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from pathlib import Path

from tests.cuda import gpu


def _cases(quick: bool):
    import torch

    from benchmarks.cuda import cases

    for mebibytes in (64,) if quick else (1, 4, 16, 64, 256):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            yield lambda m=mebibytes, d=dtype: cases.aggregate_forward(m, d)
            yield lambda m=mebibytes, d=dtype: cases.aggregate_backward(m, d)
    for batch in (64,) if quick else (64, 256, 1024, 4096):
        for preset in ("authors", "deep"):
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                yield lambda p=preset, b=batch, d=dtype: cases.aggregate_reduce(p, b, d)
        yield lambda b=batch: cases.maam(b)


def _line(case, bandwidth: float) -> dict:
    from benchmarks.cuda import timing

    case.check()
    times = timing.race(case.sides)
    ours = next(iter(case.sides))
    milliseconds = {name: statistics.median(values) for name, values in times.items()}
    share = case.bytes / (milliseconds[ours] * 1e-3) / bandwidth
    line = {"case": case.name, "ms": milliseconds, "share of copy bandwidth": share, "target share": case.share}
    line["times faster than"] = {name: timing.ratio(times, name, ours) for name in times if name != ours}
    line["targets"] = {name: value for name, value in case.targets.items() if name in times}
    return line


def _print(line: dict) -> None:
    goal = "" if line["target share"] is None else f" (target {line['target share']:.0%})"
    print(f"{line['case']}: {min(line['ms'].values()):.4f} ms at best")
    print(f"  maam_ops  {line['ms']['maam_ops']:.4f} ms, {line['share of copy bandwidth']:.0%} of copy bandwidth{goal}")
    for name, ratio in line["times faster than"].items():
        goal = f" (target {line['targets'][name]:.2f}x)" if name in line["targets"] else ""
        print(f"  {name}  {line['ms'][name]:.4f} ms, we are {ratio:.2f}x as fast{goal}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one size of each")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("benchmarks.cuda: skipped: needs PyTorch with CUDA")
        return 0
    reason = gpu.why_not() or (None if torch.cuda.is_available() else "needs PyTorch with CUDA")
    if reason is not None:
        print(f"benchmarks.cuda: skipped: {reason}")
        return 0
    from benchmarks.cuda import timing

    torch.manual_seed(0)
    # The same precision on all sides: cuDNN would take TF32 for float32 convolutions by default.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    bandwidth = timing.copy_bandwidth()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copies at {bandwidth / 1e12:.2f} TB/s")
    lines = []
    for make in _cases(options.quick):
        lines.append(_line(make(), bandwidth))
        _print(lines[-1])
        gc.collect()
        torch.cuda.empty_cache()
    if options.json is not None:
        beside = options.json.with_name(f".{options.json.name}.new")
        beside.write_text(json.dumps({"device": torch.cuda.get_device_name(), "lines": lines}, indent=1))
        beside.replace(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
