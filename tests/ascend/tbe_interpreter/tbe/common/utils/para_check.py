"""``para_check``: the checks every TBE operator makes of its parameters."""

from __future__ import annotations

import re

_MAX_RANK = 8
_MAX_ELEMENTS = 2**31 - 1


def check_shape(shape, min_rank=0, max_rank=_MAX_RANK, param_name="input"):
    if not isinstance(shape, (list, tuple)) or not min_rank <= len(shape) <= max_rank:
        raise RuntimeError(f"{param_name}: shape {shape}: rank not in {min_rank} to {max_rank}")
    size = 1
    for extent in shape:
        if not isinstance(extent, int) or (extent < 1 and extent != -1):
            raise RuntimeError(f"{param_name}: shape {shape}: extent {extent}")
        size *= abs(extent)
    if size > _MAX_ELEMENTS:
        raise RuntimeError(f"{param_name}: shape {shape}: {size} elements")


def check_dtype(dtype, check_list, param_name="input"):
    if dtype not in check_list:
        raise RuntimeError(f"{param_name}: dtype {dtype}, expected one of {check_list}")


def check_kernel_name(kernel_name):
    if not re.fullmatch(r"[A-Za-z_]\w{0,199}", kernel_name):
        raise RuntimeError(f"kernel_name {kernel_name}")
