"""The aggregate kernels on NumPy arrays: every variant against a float64 oracle written independently of the C++."""

import os
import threading

import numpy as np
import pytest

from tests.kernels import needs_this_process

from . import native
from .aggregate_case import AggregateCase
from .native import Array, capped, launch

ISAS = native.isas("aggregate_forward")
SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 1023, 1025, 32767, 32769]


@pytest.mark.parametrize("dtype, shape", [("float32", (4,)), ("float16", (32,)), ("float32", (2, 16))])
def test_a_result_that_does_not_fit_is_refused(dtype, shape):
    """It would be written past its end."""
    case = AggregateCase(32, 2, "float32")
    result = Array.poisoned(shape, dtype)
    with pytest.raises(ValueError, match="AggregateForward: G: got"):
        launch("AggregateForward", [case.alpha, *case.a], [result])
    results = [Array.poisoned((2,), "float32"), Array.poisoned((32,), "float32"), result]
    with pytest.raises(ValueError, match="AggregateBackward: gradient of branch 1: got"):
        launch("AggregateBackward", [case.alpha, case.dg, *case.a], results)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_vector_widths(isa, dtype, size):
    case = AggregateCase(size, 3, dtype, offset=size % 3)
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("branches", range(2, 9))
def test_numbers_of_branches(isa, dtype, branches):
    case = AggregateCase(1237, branches, dtype, offset=1)
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_larger_than_the_cache(isa, dtype):
    """Beyond the last-level cache results are written by streaming stores, which need alignment the data lacks."""
    case = AggregateCase(4_000_003 if dtype == "float32" else 2_000_003, 3, dtype, offset=1)
    with capped(isa):
        case.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_same_bits_for_any_number_of_threads_and_any_run(isa, dtype):
    case = AggregateCase(200_001, 3, dtype)
    seen = set()
    with capped(isa):
        for n in (1, 2, 3, 1, 2):
            with native.threads(n):
                dalpha, da = case.backward()
                seen.add(b"".join(x.data.tobytes() for x in (case.forward(), dalpha, *da)))
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", native.DTYPES)
def test_same_bits_for_any_alignment(dtype):
    """The allocator must not show in the gradient of alpha."""
    seen = set()
    for offset in (0, 1, 3, 8):
        case = AggregateCase(40_000, 3, dtype, offset=offset)
        dalpha, _ = case.backward()
        seen.add(case.forward().data.tobytes() + dalpha.data.tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("alpha, w", [([0, -200, -200], [1, 0, 0]), ([5, 5, -200], [0.5, 0.5, 0])])
def test_integers_are_exact(isa, dtype, alpha, w):
    with capped(isa):
        AggregateCase.check_integers(alpha, w, dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", native.DTYPES)
def test_special_values_pass_through(isa, dtype):
    with capped(isa):
        AggregateCase.check_special_values(dtype)


@pytest.mark.parametrize("alpha", [[1e4, -1e4, 0.0], [88.0, 88.0, 88.0], [-3e38, 3e38, 0.0]])
def test_softmax_does_not_overflow(alpha):
    case = AggregateCase(64, 3, "float32")
    case.alpha = Array(alpha, "float32")
    case.check()


def test_half_conversion_of_the_portable_kernel_is_exact():
    """All 65,536 bit patterns survive a sum with weight one; NumPy's conversion is the witness."""
    bits = np.arange(65536, dtype=np.uint16)
    with capped("portable"):
        for dtype in ("float16", "bfloat16"):
            a = Array(np.zeros(65536), dtype)
            a.data[...] = bits.view(a.data.dtype)
            a._before = a._raw.copy()
            zeros = Array(np.zeros(65536), dtype)
            g = Array.poisoned((65536,), dtype)
            launch("AggregateForward", [Array([0, -400], "float32"), a, zeros], [g])
            finite = np.isfinite(a.values)
            np.testing.assert_array_equal(g.values[finite], a.values[finite])


def test_rounding_is_to_nearest_even_in_every_variant():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.standard_normal(5000) * 10.0 ** rng.integers(-8, 5, 5000), [65519.9, 65520.0]])
    halves = [Array(values, "float16"), Array(values[::-1].copy(), "float16")]
    alpha = Array([0.0, 0.0], "float32")
    for isa in ISAS:
        g = Array.poisoned(values.shape, "float16")
        with capped(isa):
            launch("AggregateForward", [alpha, *halves], [g])
        with np.errstate(over="ignore"):
            expected = (0.5 * halves[0].values + 0.5 * halves[1].values).astype(np.float16)
        np.testing.assert_array_equal(g.data, expected)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.a.pop(), r"branches: got 1, expected 2 to 8|alpha: got shape 2"),
        (lambda c: c.a.__setitem__(1, Array(np.zeros(9), "float32")), r"branch 1: got shape 9, expected .* 10"),
        (
            lambda c: c.a.__setitem__(1, Array(np.zeros(10), "float16")),
            r"branch 1: got dtype float16",
        ),
        (lambda c: setattr(c, "alpha", Array(np.zeros(3), "float32")), r"alpha: got shape 3, expected 2 elements"),
        (lambda c: setattr(c, "alpha", Array(np.zeros(2), "float64")), r"alpha: got dtype float64"),
    ],
)
def test_bad_arguments_are_named(change, message):
    case = AggregateCase(10, 2, "float32")
    change(case)
    with pytest.raises(ValueError, match=message):
        case.forward()


@needs_this_process
def test_many_threads_at_once():
    cases = [AggregateCase(50_001, 3, "float32", seed=seed) for seed in range(8)]
    expected = [case.forward().data.tobytes() for case in cases]
    wrong = []

    def work(case, reference):
        for _ in range(20):
            if case.forward().data.tobytes() != reference:
                wrong.append(case)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(cases, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@needs_this_process
def test_usable_after_fork():
    case = AggregateCase(100_000, 3, "float32")
    with native.threads(2):
        expected = case.forward().data.tobytes()
        child = os.fork()
        if child == 0:
            os._exit(0 if case.forward().data.tobytes() == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
