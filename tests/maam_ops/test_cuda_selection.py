"""Which library the operators are made from, and what is said where it is missing."""

import subprocess
import sys
from pathlib import Path

from maam_ops import _cuda, _native, info
from maam_ops._library import Library, exported

ROOT = Path(__file__).resolve().parents[2]

# MindSpore for CPU refuses the target GPU; what is made of the answer is the same.
_ON_GPU = """
import mindspore as ms
known = ms.get_context
ms.get_context = lambda name: "GPU" if name == "device_target" else known(name)
import maam_ops
from maam_ops import _cuda, _native, _select
assert _native.LIBRARY is _cuda.LIBRARY
if _native.missing_reason(("AggregateForward",)) is None:
    from maam_ops import aggregate, aggregate_reduce, reduce
    operators = (aggregate._NATIVE[3], reduce._TRAINING, aggregate_reduce._INFERENCE[3])
    for operator in operators:
        assert str(_cuda.LIBRARY.path) in operator.func, operator.func
    assert _select.choose("agent_aggregate").impl == "native"
    assert "not written for CUDA" in _select.choose("dense").others["native"]
else:
    assert "MAAM_OPS_CUDA=on" in _select.choose("agent_aggregate").others["native"]
assert _native._registration("op", ["a"], ["b"])["target"] == "GPU"
"""


def test_device_target_gpu_takes_the_cuda_library():
    subprocess.run([sys.executable, "-c", _ON_GPU], check=True, cwd=ROOT)


def test_a_target_set_after_the_import_is_refused():
    assert _native.target_reason("CPU") is None
    assert "made for CPU when maam_ops was imported" in _native.target_reason("GPU")
    assert "built for CPU and GPU, the device target is Ascend" in _native.target_reason("Ascend")


def test_info_says_how_to_get_the_cuda_library(monkeypatch, tmp_path):
    missing = tmp_path / "libmaam_ops_cuda.so"
    library = Library("GPU", "CUDA kernels", missing, _cuda.LIBRARY.how_to_build, exported(missing), "")
    monkeypatch.setattr(_cuda, "LIBRARY", library)
    assert "not available" in str(info()) and "MAAM_OPS_CUDA=on pip install" in str(info())
