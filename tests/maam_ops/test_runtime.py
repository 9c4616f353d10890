"""The cap on MindSpore's oneDNN. Each case is a process of its own: the library can be capped once only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from maam_ops import runtime

AVX2 = 0x7
AVX512_CORE = 0x20

needs_cap = pytest.mark.skipif(
    not (runtime._has_avx512() and runtime._onednn_path().exists()), reason="the cap is for AVX-512 CPUs and oneDNN 3"
)

# The package's __init__ tunes on import, so the module is loaded from its file: the test decides when it runs.
PRELUDE = f"""
import ctypes, importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("tuned", {runtime.__file__!r})
runtime = importlib.util.module_from_spec(spec)
sys.modules["tuned"] = runtime
spec.loader.exec_module(runtime)
report = {{}}
"""
EPILOGUE = """
report["state"] = runtime.status().state
report["detail"] = runtime.status().detail
print(json.dumps(report))
"""
EFFECTIVE_ISA = """
import mindspore
report["isa"] = ctypes.CDLL(str(runtime._onednn_path())).dnnl_get_effective_cpu_isa()
"""


def run(body: str, **environment: str) -> tuple[dict, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAAM_OPS_", "ONEDNN_", "DNNL_"))}
    env |= environment | {"GLOG_v": "3"}
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + body + EPILOGUE], env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("maam_ops: ")]
    return json.loads(result.stdout.splitlines()[-1]), "\n".join(lines)


@needs_cap
def test_caps_only_mindspores_own_library_and_leaves_the_environment_alone(tmp_path):
    body = f"""
import shutil
other_path = {str(tmp_path / "libother_onednn.so.3")!r}
shutil.copy(runtime._onednn_path(), other_path)
import mindspore
other = ctypes.CDLL(other_path, mode=os.RTLD_LOCAL)
before = dict(os.environ)
runtime.tune()
report["environment_unchanged"] = dict(os.environ) == before
report["other_isa"] = other.dnnl_get_effective_cpu_isa()
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
report["c_environment"] = str(libc.getenv(b"ONEDNN_MAX_CPU_ISA"))
"""
    report, line = run(body + EFFECTIVE_ISA)
    assert report["state"] == "capped"
    assert report["isa"] == AVX2
    assert report["other_isa"] & AVX512_CORE
    assert report["environment_unchanged"] and report["c_environment"] == "None"
    assert line.count("\n") == 0 and "MAAM_OPS_TUNE=0" in line


@needs_cap
def test_mindspores_convolution_runs_under_the_cap():
    body = """
runtime.tune()
runtime.tune()
import numpy as np
import mindspore as ms
ms.ops.conv2d(ms.Tensor(np.ones((1, 1, 8, 8), np.float32)), ms.Tensor(np.ones((1, 1, 3, 3), np.float32))).asnumpy()
report["second_cap"] = ctypes.CDLL(str(runtime._onednn_path())).dnnl_set_max_cpu_isa(7)
"""
    report, line = run(body + EFFECTIVE_ISA, MAAM_OPS_QUIET="1")
    # 2: the convolution has fixed oneDNN's choice, so it did go through the library that was capped.
    assert (report["state"], report["isa"], report["second_cap"]) == ("capped", AVX2, 2)
    assert line == ""


@needs_cap
def test_too_late_is_said_in_one_line_with_the_way_out():
    report, line = run(EFFECTIVE_ISA + "runtime.tune()\nruntime.tune()\n")
    assert report["state"] == "too_late"
    assert report["isa"] & AVX512_CORE
    assert line.count("\n") == 0 and "import maam_ops before" in line


@needs_cap
def test_a_library_shared_with_others_is_not_capped(tmp_path):
    body = f"""
import shutil
other_path = {str(tmp_path / "libdnnl.so.3")!r}
shutil.copy(runtime._onednn_path(), other_path)
other = ctypes.CDLL(other_path, mode=os.RTLD_GLOBAL)
runtime.tune()
report["other_isa"] = other.dnnl_get_effective_cpu_isa()
"""
    report, line = run(body)
    assert report["state"] == "unavailable"
    assert report["other_isa"] & AVX512_CORE
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in line


@pytest.mark.parametrize(
    ("variable", "state"),
    [({"MAAM_OPS_TUNE": "0"}, "off"), ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "user")],
)
def test_can_be_switched_off(variable, state):
    report, line = run("runtime.tune()\n", **variable)
    assert report["state"] == state
    assert line == ""


def test_a_cpu_without_avx512_is_left_alone():
    report, line = run("runtime._has_avx512 = lambda: False\nruntime.tune()\n")
    assert report["state"] == "not_needed"
    assert line == ""


def test_an_older_onednn_is_left_alone(tmp_path):
    """MindSpore 2.7 and 2.8 have version 2, under another name: no warning that it cannot be capped."""
    body = f"""
from pathlib import Path
runtime._has_avx512 = lambda: True
runtime._onednn_path = lambda: Path({str(tmp_path / "libdnnl.so.3")!r})
Path({str(tmp_path / "libdnnl.so.2")!r}).touch()
runtime.tune()
"""
    report, line = run(body)
    assert report["state"] == "not_needed" and "version 2" in report["detail"]
    assert line == ""


def test_a_bad_switch_is_named(monkeypatch):
    monkeypatch.setenv("MAAM_OPS_TUNE", "maybe")
    with pytest.raises(ValueError, match=r"MAAM_OPS_TUNE: got 'maybe', expected 0 or 1"):
        runtime._cap_onednn()
