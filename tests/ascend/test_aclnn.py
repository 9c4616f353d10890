"""The binding of the Ascend C operators and the script that builds them, as far as a machine without CANN can tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from mindspore.ops.operations._custom_ops_utils import CustomCodeGenerator

from maam_ops import _select
from maam_ops.ascend import aggregate_aclnn, reduce_aclnn
from tests.ascend import emulated

SCRIPT = emulated.CSRC / "ascend_build.sh"
# Stands in for python with mindspore: answers where it is, and lists what the compiler was given.
FAKE_PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo "$MINDSPORE"; exit; fi
echo "$@" > "$RECORD"
ls op_host op_kernel >> "$RECORD"
"""


@pytest.mark.parametrize(
    ("file", "registration", "inputs", "outputs"),
    [
        (
            "aggregate/ascend/op_host/agent_aggregate.cpp",
            aggregate_aclnn.forward_registration,
            ["alpha", "branches"],
            ["g"],
        ),
        (
            "aggregate/ascend/op_host/agent_aggregate_grad.cpp",
            aggregate_aclnn.backward_registration,
            ["alpha", "dg", "branches"],
            ["dalpha", "dbranches"],
        ),
        ("reduce/ascend/op_host/agent_reduce.cpp", reduce_aclnn.registration, ["g", "weight", "scale", "shift"], ["f"]),
    ],
)
def test_binding_fits_the_operator_definition(file, registration, inputs, outputs):
    info = registration()
    assert [operand["name"] for operand in info["inputs"]] == inputs
    assert [operand["name"] for operand in info["outputs"]] == outputs
    name = info["op_name"].removeprefix("aclnn")
    definition = (emulated.CSRC / file).read_text()
    assert f"OP_ADD({name});" in definition
    parameters = definition[definition.index("public OpDef") :]
    positions = [parameters.index(f'("{operand}")') for operand in [*inputs, *outputs]]
    assert positions == sorted(positions)
    types = CustomCodeGenerator().get_api_types_by_reg_info(info)
    expected = ["aclTensorList*" if "branches" in operand else "aclTensor*" for operand in [*inputs, *outputs]]
    assert types == [*expected, "int64_t*", "aclOpExecutor**"]


def test_mindspore_accepts_the_operators():
    assert aggregate_aclnn.make_ops().func == "aclnnAgentAggregate"
    assert reduce_aclnn.make_op().func == "aclnnAgentReduce"


@pytest.mark.skipif(aggregate_aclnn.available() is None, reason="a card is here: run pytest -m ascend")
def test_without_a_card_the_choice_says_so():
    assert _select.choose("agent_aggregate").others["ascendc"] == "runs on Ascend, the device target is CPU"
    with pytest.raises(RuntimeError, match="impl=ascendc: not available: runs on Ascend"):
        _select.choose("agent_aggregate", "ascendc")


def run_script(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": str(python)}
    return subprocess.run([SCRIPT, str(tmp_path / "out")], env=base | environment, capture_output=True, text=True)


def test_build_script_hands_every_source_to_the_compiler(tmp_path):
    compiler = tmp_path / "mindspore" / "lib" / "plugin" / "ascend" / "custom_compiler"
    compiler.mkdir(parents=True)
    for name in ("setup.py", "start.sh"):
        (compiler / name).touch()
    record = tmp_path / "record"
    done = run_script(
        tmp_path, ASCEND_HOME_PATH=str(tmp_path), MINDSPORE=str(tmp_path / "mindspore"), RECORD=str(record)
    )
    assert done.returncode == 0, done.stderr
    command, *listing = record.read_text().splitlines()
    assert "--soc_version ascend910b --vendor_name maam_ops" in command
    for folder in ("op_host", "op_kernel"):
        sources = [path.name for path in emulated.CSRC.glob(f"*/ascend/{folder}/*")]
        assert len(sources) == len(set(sources)), "two operators have a file of the same name: the package is flat"
        assert all(listing.count(source) >= 1 for source in sources)
    assert "vendors/maam_ops" in done.stdout


def test_build_script_names_what_is_missing(tmp_path):
    assert "source CANN's set_env.sh first" in run_script(tmp_path).stderr
    done = run_script(tmp_path, ASCEND_HOME_PATH=str(tmp_path), MINDSPORE=str(tmp_path))
    assert done.returncode == 1 and "cannot build Ascend operators" in done.stderr
