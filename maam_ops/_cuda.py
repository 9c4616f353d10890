"""The CUDA library, for device target GPU."""

from __future__ import annotations

from pathlib import Path

from maam_ops._library import Library, exported

_PATH = Path(__file__).with_name("libmaam_ops_cuda.so")

LIBRARY = Library(
    target="GPU",
    description="CUDA kernels",
    path=_PATH,
    how_to_build="install the CUDA toolkit (nvcc 12.0 or newer) and reinstall: "
    "MAAM_OPS_CUDA=on pip install --force-reinstall --no-deps .",
    entry_points=exported(_PATH),
    on_missing="not written for CUDA",
)


def status() -> str:
    """Whether the library is here, or how to get it."""
    reason = LIBRARY.missing_reason(())
    return "built, for device target GPU" if reason is None else f"not available: {reason}"
