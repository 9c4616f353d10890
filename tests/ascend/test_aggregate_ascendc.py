"""The aggregate's Ascend C kernels in the emulator: results, traffic, use of the Unified Buffer, load balance."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ascend import emulated
from tests.ascend.aggregate_emulated import Aggregate, Operands, assert_backward, assert_forward
from tests.ascend.emulated import KernelFault

DTYPES = ("float32", "float16", "bfloat16")
MIB = 2**20
# Those of the CPU kernels' tests, and around a data block (8 or 16 elements), a unit of the split (128 or 256), the
# cores.
SIZES = (
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    33,
    63,
    65,
    127,
    128,
    129,
    255,
    257,
    1023,
    1025,
    5119,
    5121,
    32767,
    32769,
    70001,
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("branches", range(2, 9))
def test_forward_and_backward_match_the_oracle(aggregate: Aggregate, dtype: str, branches: int) -> None:
    for size in SIZES:
        operands = Operands.random(branches, size, dtype)
        assert_forward(operands, aggregate.forward(operands)[0])
        assert_backward(operands, *aggregate.backward(operands)[:2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_tiles_on_few_cores_with_a_small_buffer(aggregate: Aggregate, dtype: str) -> None:
    operands = Operands.random(3, 20011, dtype)
    for cores in (1, 2, 3, 7):
        g, moved = aggregate.forward(operands, cores, 16 * 1024)
        assert_forward(operands, g)
        assert moved.cores == cores
        assert_backward(operands, *aggregate.backward(operands, cores, 24 * 1024)[:2])


def test_empty_branches(aggregate: Aggregate) -> None:
    operands = Operands.random(3, 0, "float32")
    assert aggregate.forward(operands)[0].size == 0
    assert np.array_equal(aggregate.backward(operands)[0], np.zeros(3, np.float32))


@pytest.mark.parametrize("alpha", [(88, 88, 88), (1e4, -1e4, 0), (-3e38, 3e38, 0)])
def test_extreme_alpha_gives_a_finite_softmax(aggregate: Aggregate, alpha: tuple[float, ...]) -> None:
    operands = Operands.random(3, 1000, "float32")
    operands.alpha = np.array(alpha, np.float32)
    assert_forward(operands, aggregate.forward(operands)[0])
    assert_backward(operands, *aggregate.backward(operands)[:2])


def test_nan_stays_where_it_is(aggregate: Aggregate) -> None:
    operands = Operands.random(2, 300, "float32")
    operands.a[1][77] = np.nan
    assert np.flatnonzero(np.isnan(aggregate.forward(operands)[0])).tolist() == [77]


def test_alpha_gradient_has_the_same_bits_each_time(aggregate: Aggregate) -> None:
    operands = Operands.random(5, 70001, "float32")
    first, second = (aggregate.backward(operands)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("branches", [2, 3, 8])
def test_every_element_is_moved_once(aggregate: Aggregate, dtype: str, branches: int) -> None:
    operands = Operands.random(branches, 70001, dtype)
    tensor = operands.dg.nbytes
    alpha = operands.alpha.nbytes
    _, forward = aggregate.forward(operands)
    assert forward.read.sum() == branches * tensor + forward.cores * alpha
    assert forward.written.sum() == tensor
    _, _, backward = aggregate.backward(operands)
    rows = backward.cores * 32  # of dot products: each core writes one, core 0 reads them all
    assert backward.read.sum() == (branches + 1) * tensor + backward.cores * alpha + rows
    assert backward.written.sum() == branches * tensor + rows + alpha


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("cores", [20, 40, 48])
def test_load_is_balanced_from_one_mebibyte_on(
    aggregate: Aggregate, backward: bool, element_bytes: int, cores: int
) -> None:
    for size in (MIB, MIB + 1, 3 * MIB - 7, 16 * MIB, 50 * MIB + 13):
        elements = aggregate.plan(
            size // element_bytes, backward=backward, element_bytes=element_bytes, cores=cores
        ).elements()
        assert elements.size == cores
        assert elements.sum() == size // element_bytes
        assert elements.max() - elements.min() <= 0.1 * elements.max()


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_large_tensors_fill_the_unified_buffer(aggregate: Aggregate, backward: bool, dtype: str) -> None:
    operands = Operands.random(2, (16 * MIB + 64) // np.dtype(dtype).itemsize, dtype)
    moved = (aggregate.backward if backward else aggregate.forward)(operands)[-1]
    assert 0.8 * emulated.UB_BYTES <= moved.ub_bytes <= emulated.UB_BYTES


@pytest.mark.parametrize("backward", [False, True])
def test_every_plan_fits_the_unified_buffer(aggregate: Aggregate, backward: bool) -> None:
    for dtype in DTYPES:
        operands = Operands.random(2, 30000, dtype)
        for ub_bytes in (12 * 1024, 20 * 1024, 31 * 1024, 64 * 1024):
            run = aggregate.backward if backward else aggregate.forward
            assert run(operands, 1, ub_bytes)[-1].ub_bytes <= ub_bytes


@pytest.mark.parametrize("backward", [False, True])
def test_shapes_and_types_are_inferred(aggregate: Aggregate, backward: bool) -> None:
    assert aggregate.inference_errors(backward=backward, branches=4) == 0


def test_tiling_refuses_an_alpha_of_another_length(aggregate: Aggregate) -> None:
    operands = Operands.random(3, 100, "float32")
    operands.alpha = np.ones(4, np.float32)
    with pytest.raises(KernelFault, match="AgentAggregate: tiling refuses"):
        aggregate.forward(operands)
    with pytest.raises(KernelFault, match="AgentAggregateGrad: tiling refuses"):
        aggregate.backward(operands)
