"""What tests/verify/emulation defines of AVX-512: the intrinsics of single extensions, as their manual has them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from tests.kernels import COMMAND, KernelFault, core

from .test_vectors import assert_same, nearest_bfloat16, operands, rounded

pytestmark = pytest.mark.skipif("/avx512-emulated/" not in COMMAND, reason="runs under make avx512-emulated")
RNG = np.random.default_rng(1)


def call(name, inputs, out, count=1):
    """The intrinsic on each row of the inputs; all rows of `out`, of its dtype and `count` elements."""
    rows = []
    for row in zip(*inputs, strict=True):
        result = np.zeros(count, out)
        core.launch(f"Intrinsic{name}", [np.ascontiguousarray(a) for a in row], [result], ["any"] * (len(row) + 1))
        rows.append(result)
    return np.stack(rows)


def random(dtype, rows, columns):
    """Whole numbers of every size, the extremes among them."""
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max, (rows, columns), dtype, endpoint=True)
    return np.where(
        RNG.random(values.shape) < 0.3, RNG.choice(np.array([info.min, info.max], dtype), values.shape), values
    )


def wide(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def test_the_kernels_for_avx512_are_what_runs():
    assert core.detected_isa().startswith("avx512")
    assert all(runnable for _, _, runnable in core.kernels())
    assert any(isa == core.detected_isa() for _, isa, _ in core.kernels())


def test_dpbusd():
    total, a, b = random(np.int32, 50, 16), random(np.uint8, 50, 64), random(np.int8, 50, 64)
    products = (a.astype(np.int64) * b).reshape(50, 16, 4).sum(-1)
    got = call("dpbusd_epi32", (total, a, b), np.int32, 16)
    np.testing.assert_array_equal(got, (total + products).astype(np.int32))  # it wraps


def test_maddubs():
    a, b = random(np.uint8, 50, 64), random(np.int8, 50, 64)
    pairs = (a.astype(np.int64) * b).reshape(50, 32, 2).sum(-1)
    assert (pairs > 32767).any() and (pairs < -32768).any()
    np.testing.assert_array_equal(call("maddubs_epi16", (a, b), np.int16, 32), pairs.clip(-32768, 32767))


def test_madd():
    a, b = random(np.int16, 50, 32), random(np.int16, 50, 32)
    pairs = (a.astype(np.int64) * b).reshape(50, 16, 2).sum(-1)
    np.testing.assert_array_equal(call("madd_epi16", (a, b), np.int32, 16), pairs.astype(np.int32))


def test_dpwssd():
    total, a, b = random(np.int32, 50, 16), random(np.int16, 50, 32), random(np.int16, 50, 32)
    pairs = (a.astype(np.int64) * b).reshape(50, 16, 2).sum(-1)
    np.testing.assert_array_equal(call("dpwssd_epi32", (total, a, b), np.int32, 16), (total + pairs).astype(np.int32))


WHOLE = {"add": np.add, "sub": np.subtract, "mullo": np.multiply, "max": np.maximum, "min": np.minimum}


@pytest.mark.parametrize("name", ["add_epi16", "sub_epi16", *(f"{name}_epi32" for name in WHOLE)])
def test_whole_numbers(name):
    dtype = np.dtype(f"i{int(name[-2:]) // 8}").type
    count = 64 // dtype().itemsize
    a, b = random(dtype, 50, count), random(dtype, 50, count)
    expected = WHOLE[name.split("_")[0]](a.astype(np.int64), b).astype(dtype)
    np.testing.assert_array_equal(call(name, (a, b), dtype, count), expected)


def test_minimum():
    x, y = (a[:1600].reshape(-1, 16) for a in operands(np.float32)[:2])
    assert_same(call("min_ps", (x, y), np.float32, 16), np.where(x < y, x, y))  # y where either is NaN


def flushed(x):
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), x)


def accumulated(total, a, b):
    """total + a b, rounded once, denormals being zeros."""
    operands = [float(flushed(np.float32(v))) for v in (total, a, b)]
    if not all(map(math.isfinite, operands)):  # no product of two of the type is too large for a double
        return np.float32(operands[1] * operands[2] + operands[0])
    exact = Fraction(operands[1]) * Fraction(operands[2]) + Fraction(operands[0])
    if exact == 0:
        return np.float32(operands[1] * operands[2] + operands[0])
    return flushed(rounded(exact, np.float32))


@np.errstate(all="ignore")
def test_dpbf16():
    total = operands(np.float32)[0][:1600].reshape(-1, 16)
    bits = random(np.uint16, 2 * len(total), 32)
    bits[::4] = RNG.integers(0x3F00, 0x4000, bits[::4].shape)  # of like size, that sums round
    a, b = bits[::2], bits[1::2]
    a[:, :4], b[:, :4] = 0x0080, 0x3F00  # products that are denormal
    a[:, 8:12] = 0x0001  # operands that are
    expected = np.empty_like(total)
    for row, lane in np.ndindex(total.shape):
        odd = accumulated(total[row, lane], wide(a)[row, 2 * lane + 1], wide(b)[row, 2 * lane + 1])
        expected[row, lane] = accumulated(odd, wide(a)[row, 2 * lane], wide(b)[row, 2 * lane])
    assert_same(call("dpbf16_ps", (total, a, b), np.float32, 16), expected)


@np.errstate(all="ignore")
def test_conversions_to_bfloat16():
    x = operands(np.float32)[0][:1600].reshape(-1, 16)
    ties = (RNG.integers(0, 65536, (100, 16), np.uint32) << 16 | 0x8000).view(np.float32)
    x = np.concatenate([x, ties])
    expected = nearest_bfloat16(flushed(x))
    assert_same(wide(call("cvtneps_pbh", (x,), np.uint16, 16)), expected)
    both = call("cvtne2ps_pbh", (x, x[::-1]), np.uint16, 32)
    assert_same(wide(both), np.concatenate([expected[::-1], expected], axis=1))  # the second operand below


CONVERSIONS = [
    ("cvtepi8_epi16", np.int8, np.int16), ("cvtepu8_epi16", np.uint8, np.int16), ("cvtepi8_epi32", np.int8, np.int32),
    ("cvtepu8_epi32", np.uint8, np.int32), ("cvtepi16_epi32", np.int16, np.int32),
    ("cvtepu16_epi32", np.uint16, np.int32), ("cvtepi32_epi8", np.int32, np.int8),
    ("cvtepi32_epi16", np.int32, np.int16), ("cvtepi32_ps", np.int32, np.float32),
]  # fmt: skip


@pytest.mark.parametrize("name, narrow, result", CONVERSIONS)
def test_conversions_of_whole_numbers(name, narrow, result):
    count = 32 if name.endswith("epi16") and narrow().itemsize == 1 else 16
    x = random(narrow, 50, count)
    np.testing.assert_array_equal(call(name, (x,), result, count), x.astype(result))


@pytest.mark.parametrize("result", [np.uint8, np.uint16])
def test_saturating_conversions(result):
    x = np.where(RNG.random((50, 16)) < 0.5, random(np.uint32, 50, 16), random(np.uint32, 50, 16) >> 24)
    got = call(f"cvtusepi32_epi{8 * result().itemsize}", (x,), result, 16)
    np.testing.assert_array_equal(got, x.clip(0, np.iinfo(result).max))


@pytest.mark.parametrize("name, rounding", [("cvtps_epi32", np.rint), ("cvttps_epi32", np.trunc)])
@np.errstate(all="ignore")
def test_floats_to_whole_numbers(name, rounding):
    x = np.concatenate([operands(np.float32)[0], np.arange(-8, 8, dtype=np.float32) / 2])[-1600:].reshape(-1, 16)
    whole = rounding(x.astype(np.float64))
    fits = (whole >= -(2.0**31)) & (whole < 2.0**31)
    expected = np.where(fits, whole, -(2.0**31)).astype(np.int32)
    np.testing.assert_array_equal(call(name, (x,), np.int32, 16), expected)


def test_shifts_and_sums():
    x = random(np.int32, 50, 16)
    np.testing.assert_array_equal(call("srai_epi32", (x,), np.int32, 16), x >> 7)
    np.testing.assert_array_equal(call("slli_epi32", (x,), np.int32, 16), x << 7)
    np.testing.assert_array_equal(call("slli_epi16", (x.view(np.int16),), np.int16, 32), x.view(np.int16) << 7)
    np.testing.assert_array_equal(call("reduce_add_epi32", (x,), np.int32)[:, 0], x.sum(-1).astype(np.int32))


@pytest.mark.parametrize("width", [8, 16, 32])
def test_masks(width):
    count = 512 // width
    x = random(np.dtype(f"i{width // 8}").type, 20, count)
    keep = RNG.random((20, count)) < 0.5
    masks = np.packbits(keep, axis=1, bitorder="little")
    np.testing.assert_array_equal(call(f"maskz_loadu_epi{width}", (x, masks), x.dtype, count), np.where(keep, x, 0))
    np.testing.assert_array_equal(call(f"mask_storeu_epi{width}", (x, masks), x.dtype, count), np.where(keep, x, 0))


def test_an_unaligned_streaming_store_ends_the_process():
    with pytest.raises(KernelFault, match="the runner ended with"):
        call("stream_ps", (np.zeros((1, 16), np.float32),), np.float32, 18)
