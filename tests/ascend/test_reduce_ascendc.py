"""The reduce's Ascend C kernel in the emulator: results, traffic, balance, and planted faults."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.ascend import emulated
from tests.ascend.emulated import Fault, KernelFault, Moved, Report, pointer

FOLDER = emulated.CSRC / "reduce" / "ascend"
KERNEL = "op_kernel/agent_reduce_kernel.h"
DTYPES = ("float32", "float16", "bfloat16")
# B, C, O, H, W: the presets' channels, odd ones, one pixel, several blocks of pixels with a tail, many images.
SHAPES = [
    (2, 64, 128, 8, 8),
    (1, 1, 1, 1, 2),
    (2, 1, 3, 1, 1),
    (65, 5, 7, 1, 1),
    (1, 3, 4, 9, 7),
    (1, 8, 6, 5, 13),
    (3, 17, 13, 7, 7),
    (5, 33, 12, 7, 11),
    (1, 16, 33, 29, 37),
    (40, 9, 10, 10, 10),
]


class Call(ctypes.Structure):
    _fields_ = (
        ("dtype", ctypes.c_int32),
        ("cube_cores", ctypes.c_int32),
        ("ub_bytes", ctypes.c_int32),
        ("scale_size", ctypes.c_int32),
        ("images", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("g", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("f", ctypes.c_void_p),
    )


@dataclass
class Case:
    shape: tuple[int, int, int, int, int]
    dtype: str
    g: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    @staticmethod
    def random(shape: tuple[int, int, int, int, int], dtype: str) -> Case:
        batch, channels, outputs, height, width = shape
        rng = np.random.default_rng(shape)
        g = emulated.to_bits(rng.standard_normal((batch, channels, height, width)), dtype)
        weight = emulated.to_bits(rng.standard_normal((outputs, channels)), dtype)
        scale, shift = rng.standard_normal((2, outputs)).astype(np.float32)
        return Case(shape, dtype, g, weight, scale, shift)

    def check(self, f: np.ndarray) -> None:
        g, weight = (emulated.to_float64(x, self.dtype) for x in (self.g, self.weight))
        scale, shift = (x.astype(np.float64).reshape(1, -1, 1, 1) for x in (self.scale, self.shift))
        exact = np.maximum(np.einsum("oc,bchw->bohw", weight, g) * scale + shift, 0)
        magnitude = np.einsum("oc,bchw->bohw", abs(weight), abs(g)) * abs(scale) + abs(shift)
        bound = emulated.FLOAT32_EPSILON * (self.shape[1] + 4) * magnitude
        bound += 0.5 * emulated.STORAGE_EPSILON[self.dtype] * exact + emulated.SMALLEST_STEP[self.dtype]
        error = np.abs(emulated.to_float64(f, self.dtype) - exact)
        assert np.all(error <= bound), f"F: error {np.nanmax(error / bound)} times the bound"


class Reduce:
    def __init__(self, folder: Path = FOLDER) -> None:
        self.library = emulated.build("reduce_harness.cc", folder)

    def __call__(
        self, case: Case, cube_cores: int = 20, ub_bytes: int = emulated.UB_BYTES, scale_size: int = 0
    ) -> tuple[np.ndarray, Moved]:
        batch, channels, outputs, height, width = case.shape
        f = emulated.poisoned((batch, outputs, height, width), case.dtype)
        operands = [pointer(x) for x in (case.g, case.weight, case.scale, case.shift, f)]
        call = Call(
            emulated.DTYPE_CODES[case.dtype], cube_cores, ub_bytes, scale_size or outputs, batch, channels, height,
            width, outputs, *operands,
        )  # fmt: skip
        report = Report()
        return f, emulated.checked(self.library.run_reduce(ctypes.byref(call), ctypes.byref(report)), report)

    def plan(self, images: int, outputs: int, pixels: int, workers: int) -> tuple[int, int, int]:
        """Units of the busiest worker, of all workers, pixels of a block."""
        results = [ctypes.c_int64() for _ in range(3)]
        self.library.plan_reduce(images, outputs, pixels, workers, *map(ctypes.byref, results))
        return tuple(result.value for result in results)


@pytest.fixture(scope="module")
def reduce() -> Reduce:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    return Reduce()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_oracle(reduce: Reduce, dtype: str, shape: tuple[int, int, int, int, int]) -> None:
    case = Case.random(shape, dtype)
    for cube_cores, ub_bytes in ((20, emulated.UB_BYTES), (1, 24 * 1024)):
        f, moved = reduce(case, cube_cores, ub_bytes)
        case.check(f)
        assert moved.ub_bytes <= ub_bytes


def test_result_is_written_once(reduce: Reduce) -> None:
    case = Case.random((2, 64, 128, 8, 8), "float16")
    f, moved = reduce(case)
    product = f.size * 4  # float32: the cube writes it, the vector cores read it
    vectors = moved.cores * 2 * case.scale.nbytes
    units = reduce.plan(2, 128, 64, moved.cores)[1]
    assert moved.written.sum() == f.nbytes + product
    assert moved.read.sum() == case.g.nbytes + product + vectors + units * case.weight.nbytes


@pytest.mark.parametrize(("images", "pixels"), [(64, 256), (64, 64), (256, 256), (7, 16384), (128, 49)])
def test_load_is_balanced_as_far_as_blocks_of_32_pixels_allow(reduce: Reduce, images: int, pixels: int) -> None:
    busiest, units, block = reduce.plan(images, 128, pixels, 40)
    assert busiest * 40 <= 1.1 * units or block <= 32


def test_inference_and_tiling_refuse_wrong_operands(reduce: Reduce) -> None:
    with pytest.raises(KernelFault, match="AgentReduce: tiling refuses"):
        reduce(Case.random((1, 3, 5, 2, 2), "float32"), scale_size=4)


WRONG_RESULT = "F: error"
FAULTS = (
    Fault(
        "product overwritten while it is read",
        KERNEL,
        "Order<HardEvent::MTE2_S>(pipe_);  // the cube overwrites the product only after it was read\n",
        "",
        "the cube overwrites what pipe MTE2 may still be reading",
    ),
    Fault("missing EnQue", KERNEL, "in_.EnQue(in);", "", "DeQue of an empty queue"),
    Fault("missing FreeTensor", KERNEL, "in_.FreeTensor(in);", "", "no free buffer|never freed"),
    Fault(
        "rows of the result without their gap",
        KERNEL,
        "static_cast<uint32_t>((tiling_.pixels - count) * sizeof(T))",
        "0u",
        "both write|" + WRONG_RESULT,
        is_expression=True,
    ),
    Fault(
        "result of the cube with the stride of an image",
        KERNEL,
        "matmul.SetOrgShape(outputs, static_cast<int>(tiling_.pixels), channels, channels, static_cast<int>(count));",
        "matmul.SetOrgShape(outputs, static_cast<int>(tiling_.pixels), channels, channels);",
        "accessed in a global tensor|" + WRONG_RESULT,
    ),
    Fault(
        "no ReLU",
        KERNEL,
        "AscendC::Maxs(out, in, 0.0f, static_cast<int32_t>(rows * stride));",
        "AscendC::Adds(out, in, 0.0f, static_cast<int32_t>(rows * stride));",
        WRONG_RESULT,
    ),
    Fault(
        "scale for shift",
        KERNEL,
        "vectors.GetValue(shifts + row + r)",
        "vectors.GetValue(row + r)",
        WRONG_RESULT,
        is_expression=True,
    ),
)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Reduce:
    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler: install g++ or set CXX")
    copy = tmp_path_factory.mktemp("faults") / "ascend"
    emulated.plant(FAULTS, FOLDER, copy)
    return Reduce(copy)


@pytest.mark.parametrize("number", [-1, *range(len(FAULTS))], ids=["none", *map(str, FAULTS)])
def test_planted_fault_is_found(faulty: Reduce, number: int) -> None:
    case = Case.random((2, 5, 12, 24, 25), "float32")  # two blocks of each image: 512 pixels and the rest
    emulated.wake(faulty.library, number)
    try:
        if number < 0:
            case.check(faulty(case, 1, 24 * 1024)[0])
        else:
            with pytest.raises((KernelFault, AssertionError), match=FAULTS[number].found):
                case.check(faulty(case, 1, 24 * 1024)[0])
    finally:
        emulated.wake(faulty.library, -1)
