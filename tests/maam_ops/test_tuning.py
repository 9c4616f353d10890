"""The table behind impl="auto": which row a call meets, what it changes, and what happens to a bad file."""

import json

import numpy as np
import pytest
from mindspore import Tensor, nn

import maam_ops
from maam_ops import _select, tuning

pytestmark = pytest.mark.skipif(
    _select.implementations("reduce")[0].why_not() is not None, reason="the native kernels are not built"
)


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Puts rows into force; the shipped table comes back afterwards."""

    def put(*rows):
        path = tmp_path / "table.json"
        path.write_text(json.dumps({"machine": "a machine", "rows": list(rows)}))
        monkeypatch.setenv(tuning.VARIABLE, str(path))
        tuning.table.cache_clear()
        return path

    yield put
    monkeypatch.undo()
    tuning.table.cache_clear()


def row(op="reduce", size="small", call="inference", impl="reference", ratio=0.5):
    return {"op": op, "size": size, "call": call, "impl": impl, "ratio": ratio}


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 64, 32, 32), "small"),
        ((1, 64, 32, 33), "medium"),
        ((2**22,), "medium"),
        ((2**22, 2), "large"),
        ((), "small"),
    ],
)
def test_size_of_a_call(shape, size):
    assert tuning.size_of(shape) == size


def test_a_row_decides_for_its_calls_only(use):
    path = use(row(), row(size="medium", impl="native", ratio=2.0))
    small, medium = (1, 8, 4, 4), (64, 64, 16, 16)
    taken = _select.choose("reduce", "auto", small, False)
    assert taken.impl == "reference"
    assert str(path) in taken.reason and "0.50x" in taken.reason
    assert taken.others["native"] == "slower in calls like this"
    for shape, training in ((small, True), (medium, False), ((-1, 8, 4, 4), False)):
        assert _select.choose("reduce", "auto", shape, training).impl == "native"
    assert _select.choose("aggregate_reduce", "auto", small, False).impl == "native"
    assert _select.choose("reduce", "native", small, False).impl == "native"


def test_cells_follow_the_table_unless_told(use, mode):
    use(row(), row(op="dense", call="both"))
    g = Tensor(np.random.default_rng(0).standard_normal((1, 8, 4, 4)).astype(np.float32))
    for impl, expected in (("auto", []), ("native", ["reduce_inference"])):
        cell = maam_ops.FusedReduce(8, 16, impl=impl).set_train(False)
        ran = maam_ops.explain(cell, g).kernels
        assert [name.partition("/")[0] for name in ran] == expected


def test_explain_prints_the_rows(use):
    path = use(row(impl="native", ratio=1.25), row(op="dense", call="both"))
    text = str(maam_ops.explain("reduce"))
    assert f"by table: small, inference: native (kernel 1.25x as fast as reference) [{path}]" in text
    assert "dense" not in text


@pytest.mark.parametrize(
    ("op", "x", "weight", "impl"),
    [
        ("conv_block", (1, 512, 4, 4), (512, 512, 3, 3), "reference"),
        ("conv_block", (11, 512, 4, 4), (512, 512, 3, 3), "reference"),
        ("conv_block", (12, 512, 4, 4), (512, 512, 3, 3), "native"),
        ("conv_block", (1, 512, 13, 12), (512, 512, 3, 3), "native"),  # 4 x 3 tiles
        ("conv_block", (7, 256, 3, 3), (256, 256, 3, 3), "reference"),
        ("conv_block", (8, 256, 3, 3), (256, 256, 3, 3), "native"),
        ("conv_block", (1, 64, 4, 4), (64, 64, 3, 3), "native"),
        ("conv_block", (None, 512, 4, 4), (512, 512, 3, 3), "native"),
        ("dense", (513, 512), (10, 512), "reference"),
        ("dense", (512, 512), (10, 512), "native"),
        ("dense", (4096, 513), (10, 513), "native"),
        ("dense", (64, 128, 16, 16), (256, 32768), "native"),  # flattened
        ("dense", (513, 2, 16), (10, 32), "reference"),
        ("dense", (-1, 16), (10, 16), "native"),
    ],
)
def test_rules_take_calls_by_their_shapes(use, op, x, weight, impl):
    use()
    choice = _select.choose(op, "auto", x, True, weight)
    assert choice.impl == impl
    assert choice.reason.startswith("by shape: ") == (impl == "reference")
    assert _select.choose(op, "native", x, True, weight).impl == "native"


def test_cells_follow_the_rules_unless_told(use, mode):
    use()
    x = Tensor(np.random.default_rng(0).standard_normal((513, 8)).astype(np.float32))
    maps = Tensor(np.random.default_rng(0).standard_normal((1, 96, 4, 4)).astype(np.float32))
    for impl in ("auto", "native"):
        dense = maam_ops.FusedDense(8, 16, impl=impl)
        block = maam_ops.FusedConvBlock(nn.Conv2d(96, 96, 3), nn.BatchNorm2d(96), impl=impl).set_train(False)
        for cell, given, kernel in ((dense, x, "dense_forward"), (block, maps, "conv_block_inference")):
            ran = [name.partition("/")[0] for name in maam_ops.explain(cell, given).kernels]
            assert ran == [kernel] * (impl == "native"), cell
    assert "by shape: more than 512 rows" in str(maam_ops.explain(maam_ops.FusedDense(8, 16)))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rows": []}', '{"machine": "", "rows": [{"op": "reduce"}]}', json.dumps({"machine": ""})]
)
def test_a_bad_file_is_named(use, content):
    path = use()
    path.write_text(content)
    with pytest.raises(ValueError, match=f"MAAM_OPS_TUNING: got {path}, expected a table"):
        _select.choose("reduce")


def test_unknown_names_in_a_row_are_refused(use):
    use(row(size="tiny"))
    with pytest.raises(ValueError, match="unknown size"):
        tuning.table()


def test_the_shipped_table_keeps_the_kernel_wherever_it_is_not_slower():
    shipped = tuning.read(tuning.SHIPPED)
    assert shipped.rows and {one.op for one in shipped.rows} <= set(_select.operators())
    for one in shipped.rows:
        assert one.impl == tuning.path_of(one.ratio), one
