"""Each operation of core/simd.h against plain arithmetic, bit by bit, in each instruction set.

The runner of the special builds has them as entry points (runner/vectors): a CPU with AVX-512, the emulation of one,
and the sanitizers must all give these bits.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.kernels import COMMAND, core

FUNCTIONS = core.functions() if COMMAND else []
LANES = {"portable": 4, "avx2": 8, "avx512": 16}
ISAS = [isa for isa in LANES if f"VectorCopyF32_{isa}" in FUNCTIONS]
RUNNABLE = [isa for isa in ISAS if any(isa == variant and runnable for _, variant, runnable in core.kernels())]

pytestmark = pytest.mark.skipif(not ISAS, reason="runs under make avx512-emulated, sanitize and aarch64")


def specials(dtype):
    info = np.finfo(dtype)
    values = [0, 1, 1 + info.eps, 3, info.tiny, info.tiny / 2, info.smallest_subnormal, info.max, math.inf, math.nan]
    return np.array([sign * dtype(value) for value in values for sign in (1, -1)], dtype)


def operands(dtype):
    """All pairs of special values; random bits; products that the third operand nearly cancels."""
    rng = np.random.default_rng(0)
    x, y = (a.ravel() for a in np.meshgrid(specials(dtype), specials(dtype)))
    bits = rng.integers(0, 256, (3, 1024 * dtype().itemsize), dtype=np.uint8).view(dtype)
    near = rng.uniform(1, 2, (3, 1024)).astype(dtype)
    near[2] = -(near[0] * near[1])
    return [np.concatenate(parts) for parts in zip((x, y, rng.permutation(x)), bits, near, strict=True)]


def rounded(exact, dtype):
    """A rational number as the nearest float, ties to even."""
    try:
        near = float(exact)
    except OverflowError:
        return dtype(math.inf if exact > 0 else -math.inf)
    if dtype is np.float32 and Fraction(near) != exact and np.float64(near).view(np.uint64) % 2 == 0:
        near = math.nextafter(near, math.inf if exact > near else -math.inf)  # to odd: rounded once, below
    return dtype(near)


def fused(x, y, z):
    out = np.where(np.isfinite(x) & np.isfinite(y) & np.isinf(z), z, x * y + z)  # whatever the product rounds to
    for i in np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(z)):
        exact = Fraction(float(x[i])) * Fraction(float(y[i])) + Fraction(float(z[i]))
        if exact != 0:  # a zero has the sign that the operations give it
            out[i] = rounded(exact, x.dtype.type)
    return out


def zipped(x, y):
    return np.stack([x, y], axis=-1).reshape(len(x), -1)


def sums(x):
    total = np.zeros(len(x))
    for lane in x.T:
        total += lane
    return total


# Of operands of shape (vectors, lanes).
ARITHMETIC = {
    "Copy": lambda x, y, z: x,
    "Stream": lambda x, y, z: x,
    "Set": lambda x, y, z: np.broadcast_to(x[:, :1], x.shape),
    "Add": lambda x, y, z: x + y,
    "Sub": lambda x, y, z: x - y,
    "Mul": lambda x, y, z: x * y,
    "WherePositive": lambda x, y, z: np.where(x > 0, y, 0),
    "Relu": lambda x, y, z: np.where(x > 0, x, 0),
    "ZipLow": lambda x, y, z: zipped(x, y)[:, : x.shape[1]],
    "ZipHigh": lambda x, y, z: zipped(x, y)[:, x.shape[1] :],
}
ARITHMETIC_F32 = {
    "Div": lambda x, y, z: x / y,
    "Sqrt": lambda x, y, z: np.sqrt(x),
    "Max": lambda x, y, z: np.where(x > y, x, y),
    "WhereGreater": lambda x, y, z: np.where(x > y, z, x),
    "WhereEqual": lambda x, y, z: np.where(x == y, z, 0),
}
DTYPES = {"F32": np.float32, "F64": np.float64}
CASES = [(name, suffix) for name in ARITHMETIC for suffix in DTYPES] + [(name, "") for name in ARITHMETIC_F32]


def lanes_of(isa, dtype):
    return LANES[isa] * 4 // dtype().itemsize


def run(function, isa, inputs, out):
    """An operation on up to three arrays of one length."""
    filled = [*inputs, *[inputs[0]] * (3 - len(inputs))]
    core.launch(f"Vector{function}_{isa}", filled, [out], [str(a.dtype) for a in (*filled, out)])
    return out


def assert_same(got, expected):
    """The same bits; any NaN for a NaN."""
    assert got.dtype == expected.dtype
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    bits = f"u{got.itemsize}"
    np.testing.assert_array_equal(got[~nan].view(bits), expected[~nan].view(bits))


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("name, suffix", CASES)
@np.errstate(all="ignore")
def test_arithmetic(name, suffix, isa):
    dtype = DTYPES[suffix or "F32"]
    inputs = operands(dtype)
    shape = -1, lanes_of(isa, dtype)
    expected = (ARITHMETIC | ARITHMETIC_F32)[name](*(a.reshape(shape) for a in inputs))
    assert_same(run(name + suffix, isa, inputs, np.empty_like(inputs[0])), expected.astype(dtype).ravel())


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("suffix", DTYPES)
@np.errstate(all="ignore")
def test_multiply_add(suffix, isa):
    """Rounded once where there is such an instruction: the portable baseline has none."""
    x, y, z = operands(DTYPES[suffix])
    once, twice = fused(x, y, z), x * y + z
    assert (once != twice).sum() > 500
    assert_same(run(f"Fma{suffix}", isa, (x, y, z), np.empty_like(x)), twice if isa == "portable" else once)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("suffix", DTYPES)
@np.errstate(all="ignore")
def test_sum_of_lanes(suffix, isa):
    x = operands(DTYPES[suffix])[0]
    by_vector = x.reshape(-1, lanes_of(isa, x.dtype.type))
    got = run(f"SumLanes{suffix}", isa, (x,), np.zeros(x.shape)).reshape(by_vector.shape)[:, 0]
    assert_same(np.ascontiguousarray(got), sums(by_vector.astype(np.float64)))


def around(halves):
    """Every finite value of a half type, the ties between them, the floats next to those, and what is none of them."""
    steps = np.sort(halves[np.isfinite(halves)].astype(np.float64))
    ties = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(ties, np.float32(end)) for end in (-math.inf, math.inf)]
    values = np.concatenate([steps.astype(np.float32), ties, *beside, operands(np.float32)[0]])
    return values[: values.size // 16 * 16]


@pytest.mark.parametrize("isa", RUNNABLE)
@np.errstate(all="ignore")
def test_float16(isa):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    assert_same(run("LoadHalf", isa, (halves,), np.empty(65536, np.float32)), halves.astype(np.float32))
    x = around(halves)
    assert_same(run("StoreHalf", isa, (x,), np.empty(x.shape, np.float16)), x.astype(np.float16))


@pytest.mark.parametrize("isa", RUNNABLE)
@np.errstate(all="ignore")
def test_bfloat16(isa):
    halves = np.arange(65536, dtype=np.uint16)
    wide = (halves.astype(np.uint32) << 16).view(np.float32)
    assert_same(run("LoadBFloat16", isa, (halves,), np.empty(65536, np.float32)), wide)
    x = around(wide)
    got = run("StoreBFloat16", isa, (x,), np.empty(x.shape, np.uint16))
    assert_same((got.astype(np.uint32) << 16).view(np.float32), nearest_bfloat16(x))


def nearest_bfloat16(x):
    """By distance: the two neighbours with 16 zeros behind, the even one in a tie."""
    bits = x.view(np.uint32)
    below = bits & np.uint32(0xFFFF0000)
    above = below + np.uint32(0x10000)  # the magnitude's; of the largest one, an infinity
    place = bits & np.uint32(0xFFFF)
    even = np.where(below & 0x10000, above, below)
    near = np.where(place < 0x8000, below, np.where(place > 0x8000, above, even))
    return np.where(np.isnan(x), x, near.view(np.float32))


@pytest.mark.parametrize("isa", RUNNABLE)
def test_bytes(isa):
    whole = np.arange(256, dtype=np.uint8)
    floats = whole.astype(np.float32)
    assert_same(run("LoadBytes", isa, (whole,), np.empty(256, np.float32)), floats)
    np.testing.assert_array_equal(run("StoreBytes", isa, (floats,), np.empty(256, np.uint8)), whole)


@pytest.mark.parametrize("isa", RUNNABLE)
@pytest.mark.parametrize("suffix, dtype", [("F32", "f4"), ("F64", "f8"), ("Half", "f2"), ("BFloat16", "u2")])
def test_first_elements(suffix, dtype, isa):
    """Between pages that may not be touched: a byte too many would end the runner."""
    compute = np.float64 if suffix == "F64" else np.float32
    lanes = lanes_of(isa, compute)
    for n in range(lanes):
        x = np.arange(1, n + 1).astype(dtype)
        wide = (x.astype(np.uint32) << 16).view(np.float32) if suffix == "BFloat16" else x.astype(compute)
        whole, again = np.full(lanes, math.nan, compute), np.zeros_like(x)
        core.launch(f"VectorFirst{suffix}_{isa}", [x], [whole, again], ["any"] * 3)
        np.testing.assert_array_equal(whole, np.concatenate([wide, np.zeros(lanes - n, compute)]))
        np.testing.assert_array_equal(again, x)


def test_every_operation_is_tested():
    tested = {name + suffix for name, suffix in CASES}
    tested |= {f"{name}{suffix}" for name in ("Fma", "SumLanes", "First") for suffix in DTYPES}
    tested |= {f"{name}{half}" for name in ("Load", "Store", "First") for half in ("Half", "BFloat16")}
    expected = {f"Vector{name}_{isa}" for name in tested | {"LoadBytes", "StoreBytes"} for isa in ISAS}
    assert expected == {name for name in FUNCTIONS if name.startswith("Vector")}


FAULTS = {
    "a multiply-add that rounds as often as another variant's": (
        "FmaF32",
        lambda x, y, z: fused(x, y, z) if RUNNABLE[-1] == "portable" else x * y + z,
        lambda isa: test_multiply_add("F32", isa),
    ),
    "a maximum that avoids NaN": ("Max", lambda x, y, z: np.fmax(x, y), lambda isa: test_arithmetic("Max", "", isa)),
    "zeros without a sign": (
        "AddF32",
        lambda x, y, z: x + y + np.float32(0),
        lambda isa: test_arithmetic("Add", "F32", isa),
    ),
    "denormals as zeros": (
        "MulF64",
        lambda x, y, z: np.where(np.abs(x * y) < np.finfo(x.dtype).tiny, 0, x * y),
        lambda isa: test_arithmetic("Mul", "F64", isa),
    ),
    "bfloat16 cut off": (
        "StoreBFloat16",
        lambda x, y, z: (x.view(np.uint32) >> 16).astype(np.uint16),
        lambda isa: test_bfloat16(isa),
    ),
    "float16 with ties away from zero": (
        "StoreHalf",
        lambda x, y, z: np.nextafter(x, np.copysign(np.float32(math.inf), x)).astype(np.float16),
        lambda isa: test_float16(isa),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@np.errstate(all="ignore")
def test_a_wrong_operation_is_found(fault, monkeypatch):
    """The best variant, wrong in this way alone, must fail the test that is named with it."""
    name, wrong, test = FAULTS[fault]
    launch = core.launch

    def planted(function, inputs, outputs, dtypes):
        launch(function, inputs, outputs, dtypes)
        if function == f"Vector{name}_{RUNNABLE[-1]}":
            outputs[0][...] = wrong(*inputs)

    test(RUNNABLE[-1])
    monkeypatch.setattr(core, "launch", planted)
    with pytest.raises(AssertionError):
        test(RUNNABLE[-1])
