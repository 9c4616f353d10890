"""What the bindings of the Ascend C operators share: are the operators at hand, and which types they take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore.ops import CustomRegOp, DataType

VENDOR = "maam_ops"
VARIABLE = "ASCEND_CUSTOM_OPP_PATH"


def missing() -> str | None:
    """Why the operators cannot run here, or None where they can."""
    target = ms.get_context("device_target")
    if target != "Ascend":
        return f"runs on Ascend, the device target is {target}"
    folders = [Path(folder) for folder in os.environ.get(VARIABLE, "").split(":") if folder]
    if not any(folder.name == VENDOR and folder.is_dir() for folder in folders):
        return f"no folder of vendor {VENDOR} in {VARIABLE}: run csrc/ascend_build.sh and the exports it prints"
    return None


def with_types(info: CustomRegOp, kinds: str) -> dict[str, Any]:
    """Close a registration: one line of types for each data type, in which parameters ("p") stay float32 and data ("d")
    takes it."""
    for data in (DataType.F32_Default, DataType.F16_Default, DataType.BF16_Default):
        info = info.dtype_format(*(DataType.F32_Default if kind == "p" else data for kind in kinds))
    return info.target("Ascend").get_op_info()
