"""Faults planted into a copy of the kernels: the emulator and the oracle must find every one."""

from __future__ import annotations

import pytest

from tests.ascend import emulated
from tests.ascend.aggregate_emulated import FOLDER, Aggregate, Operands, assert_backward, assert_forward
from tests.ascend.emulated import Fault, KernelFault

FORWARD = "op_kernel/agent_aggregate_kernel.h"
BACKWARD = "op_kernel/agent_aggregate_grad_kernel.h"
COMMON = "op_kernel/agent_aggregate_common.h"
SHARED = "op_kernel/maam_ascend.h"
WRONG_RESULT = "error|dA_|d alpha"

FAULTS = (
    Fault("missing EnQue", FORWARD, "in_.EnQue(in);", "", "DeQue of an empty queue"),
    Fault("missing EnQue, backward", BACKWARD, "queue.EnQue(in);", "", "DeQue of an empty queue"),
    Fault(
        "missing DeQue",
        FORWARD,
        "Save(begin, count);",
        "CopyOut(g_[begin], out, count); out_.FreeTensor(out);",
        "MTE3 reads what pipe V may still be writing",
    ),
    Fault(
        "EnQue twice", FORWARD, "out_.EnQue(out);", "out_.EnQue(out); out_.EnQue(out);", "not fresh from AllocTensor"
    ),
    Fault("missing FreeTensor", FORWARD, "in_.FreeTensor(in);", "", "no free buffer in the queue"),
    Fault(
        "use after free",
        FORWARD,
        "CopyOut(g_[begin], out, count);\n    out_.FreeTensor(out);",
        "out_.FreeTensor(out); CopyOut(g_[begin], out, count);",
        "used after FreeTensor",
    ),
    Fault(
        "overflow of the Unified Buffer",
        FORWARD,
        "pipe->InitBuffer(in_, 2, tiling.tile * sizeof(T));",
        "pipe->InitBuffer(in_, 4, tiling.tile * sizeof(T));",
        "Unified Buffer overflow",
    ),
    Fault(
        "overflow, backward",
        BACKWARD,
        "pipe->InitBuffer(out_, 2, tiling.tile * sizeof(T));",
        "pipe->InitBuffer(out_, 3, tiling.tile * sizeof(T));",
        "Unified Buffer overflow",
    ),
    Fault(
        "misaligned tail copy",
        SHARED,
        "AscendC::DataCopyPad(dst, src, params, no_padding);",
        "AscendC::DataCopy(dst, src, count);",
        "not a multiple of 32",
    ),
    Fault(
        "misaligned local address",
        SHARED,
        "AscendC::DataCopyPad(dst, src, params, no_padding);",
        "AscendC::DataCopyPad(dst[1], src, params, no_padding);",
        "not aligned to 32 bytes",
    ),
    Fault(
        "tail read past the end",
        FORWARD,
        "CopyIn(in, branches_[k][begin], count);",
        "CopyIn(in, branches_[k][begin], tiling_.tile);",
        "accessed in a global tensor",
    ),
    Fault(
        "tail written past the end",
        BACKWARD,
        "CopyOut(dbranches_[k][begin], out, count);",
        "CopyOut(dbranches_[k][begin], out, (count + 7) / 8 * 8);",
        "accessed in a global tensor|read before it was written",
    ),
    Fault("missing event", COMMON, "Order<HardEvent::V_S>(pipe);", "", "S reads what pipe V may still be writing"),
    Fault("missing SetFlag", SHARED, "AscendC::SetFlag<event>(id);", "", "without a SetFlag: would hang"),
    Fault("missing WaitFlag", SHARED, "AscendC::WaitFlag<event>(id);", "", "may still be writing"),
    Fault(
        "sums of the tiles not set to 0",
        BACKWARD,
        "AscendC::Duplicate(totals, 0.0f, static_cast<int32_t>(kRow));",
        "",
        "read before it was written",
    ),
    Fault(
        "an input is written",
        BACKWARD,
        "CopyOut(dbranches_[k][begin], out, count);",
        "CopyOut(branches_[k][begin], out, count);",
        "input A_0 is written",
    ),
    Fault(
        "missing event before d alpha leaves",
        BACKWARD,
        "Order<HardEvent::S_MTE3>(pipe_);",
        "",
        "MTE3 reads what pipe S may still be writing",
    ),
    Fault(
        "missing barrier in the vector pipe",
        FORWARD,
        "AscendC::PipeBarrier<PIPE_V>();\n      AscendC::Axpy(sum, in, weights_[k], static_cast<int32_t>(count));",
        "AscendC::Axpy(sum, in, weights_[k], static_cast<int32_t>(count));",
        "V reads what pipe V may still be writing",
    ),
    Fault(
        "row of dot products not waited for",
        BACKWARD,
        "AscendC::PipeBarrier<PIPE_ALL>();",
        "",
        "may still be writing to workspace",
    ),
    Fault("cores do not meet", BACKWARD, "AscendC::SyncAll();", "", "workspace read before it was written"),
    Fault(
        "one core does not meet the others",
        BACKWARD,
        "AscendC::SyncAll();",
        "if (AscendC::GetBlockIdx() != 1) AscendC::SyncAll();",
        "never arrive: would hang",
    ),
    Fault(
        "cores overlap",
        COMMON,
        "(core < tiling.extra_units ? core : tiling.extra_units)",
        "0",
        "both write",
        is_expression=True,
    ),
    Fault(
        "elements between the cores are left out",
        COMMON,
        "(core < tiling.extra_units ? 1 : 0)",
        "0",
        WRONG_RESULT,
        is_expression=True,
    ),
    Fault(
        "weights of another branch",
        FORWARD,
        "AscendC::Muls(sum, in, weights_[0], static_cast<int32_t>(count));",
        "AscendC::Muls(sum, in, weights_[1], static_cast<int32_t>(count));",
        WRONG_RESULT,
    ),
    Fault(
        "a branch is left out of the mean",
        BACKWARD,
        "mean += weights_[k] * dots.GetValue(k);",
        "mean += weights_[0] * dots.GetValue(0);",
        WRONG_RESULT,
    ),
)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Aggregate:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    copy = tmp_path_factory.mktemp("faults") / "ascend"
    emulated.plant(FAULTS, FOLDER, copy)
    return Aggregate(copy)


def check(kernels: Aggregate, number: int) -> None:
    """Forward and backward with one fault active: several tiles a core, a tail, units that do not divide evenly."""
    operands = Operands.random(3, 3 * 20000 + 77, "float32")
    emulated.wake(kernels.library, number)
    try:
        assert_forward(operands, kernels.forward(operands, cores=3)[0])
        assert_backward(operands, *kernels.backward(operands, cores=3)[:2])
    finally:
        emulated.wake(kernels.library, -1)


def test_sleeping_faults_change_nothing(faulty: Aggregate) -> None:
    check(faulty, -1)


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=map(str, FAULTS))
def test_planted_fault_is_found(faulty: Aggregate, number: int) -> None:
    with pytest.raises((KernelFault, AssertionError), match=FAULTS[number].found):
        check(faulty, number)
