"""The loops behind the limits: they must do all the work they are timed for."""

import itertools

import numpy as np
import pytest

from maam.bench.sides import aligned

core = pytest.importorskip("maam_ops._core", reason="the native kernels are not built")

WAYS = [dict(zip(("streaming", "blocked", "ranges"), way, strict=True)) for way in itertools.product((0, 1), repeat=3)]
WAYS = [{name: bool(value) for name, value in way.items()} for way in WAYS]
SIZE = 70 * 1024  # two tasks and a part of one


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request):
    before = core.active_isa()
    core.cap_isa(request.param)
    if core.active_isa() != request.param:
        core.cap_isa(before)
        pytest.skip(f"no {request.param} here")
    yield request.param
    core.cap_isa(before)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(name for name, on in way.items() if on) or "plain")
@pytest.mark.parametrize(("reads", "writes"), [(1, 1), (3, 1), (4, 3), (1, 2)])
def test_reads_and_writes_everything(isa, way, reads, writes):
    rng = np.random.default_rng(reads)
    inputs = [aligned((SIZE,), rng.integers(0, 100, SIZE)) for _ in range(reads)]
    outputs = [aligned((SIZE,), np.nan) for _ in range(writes)]
    kept = [array.copy() for array in inputs]
    core.ceiling_bandwidth(inputs, outputs, **way)
    for before, after in zip(kept, inputs, strict=True):
        np.testing.assert_array_equal(before, after)
    total = np.sum(inputs, 0)
    for output in outputs:
        if way["blocked"]:
            # A block is filled with sums over the block; together they are the sum of everything read.
            assert not np.isnan(output).any()
            lanes = {"portable": 4, "avx2": 8, "avx512": 16}[isa]
            np.testing.assert_array_equal(output.reshape(-1, 1024)[:, :lanes].sum(1), total.reshape(-1, 1024).sum(1))
        else:
            np.testing.assert_array_equal(output, total)


def test_errors():
    def call(inputs, outputs, streaming=False):
        core.ceiling_bandwidth(inputs, outputs, streaming=streaming, blocked=False, ranges=False)

    good = aligned((1024,), 0)
    with pytest.raises(ValueError, match="inputs: got 5, expected 1 to 4"):
        call([good] * 5, [aligned((1024,))])
    with pytest.raises(ValueError, match="outputs: got 0, expected 1 to 3"):
        call([good], [])
    with pytest.raises(ValueError, match="arrays: got 2048 elements, expected 1024"):
        call([good], [aligned((2048,))])
    with pytest.raises(ValueError, match="size: got 100, expected a multiple of 1024"):
        call([aligned((100,), 0)], [aligned((100,))])
    with pytest.raises(ValueError, match="output 0: got an address 4 past 64"):
        call([good], [aligned((2048,))[1:1025]], streaming=True)
    with pytest.raises(TypeError):
        call([good.astype(np.float64)], [aligned((1024,))])


def test_fma_pass_counts_its_work(isa):
    before = core.num_threads()
    try:
        core.set_num_threads(1)
        one = core.ceiling_fma()
        core.set_num_threads(2)
        assert core.ceiling_fma() == 2 * one > 0
    finally:
        core.set_num_threads(before)
