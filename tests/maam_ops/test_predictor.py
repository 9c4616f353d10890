"""Predictor: the net's bits without MindSpore's runtime, what it keeps and does not keep, and every refusal."""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import maam
import maam_ops
from maam_ops import _native
from maam_ops._arrays import Array

SHAPE = (3, 8, 8)
SMALL = {"image_size": 8, "hidden": 24}
WIDTH = 12


def images(count, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def model(preset="authors", kind="float32"):
    """A small classifier with running statistics and biases away from their initial values."""
    net = maam.create_model(preset, **SMALL)
    rng = np.random.default_rng(1)
    for parameter in net.get_parameters():
        if parameter.ndim == 1:
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    if kind == "int8":
        return maam.quantize(net.set_train(False), images(16))
    return maam.models.store_as(net, kind).set_train(False)


def dense(inputs=WIDTH, outputs=WIDTH, **keywords):
    return maam_ops.FusedDense(inputs, outputs, **keywords)


class Built(nn.Cell):
    """A net whose construct is a function of two dense layers and the images."""

    def __init__(self, build, **keywords):
        super().__init__()
        self.first, self.second = dense(**keywords), dense()
        self.build = build

    def construct(self, x):
        return self.build(self, x)


@pytest.mark.parametrize(
    ("preset", "kind"),
    [(preset, kind) for preset in ("authors", "deep") for kind in ("float32", "int8", "bfloat16")]
    + [("deep", "float16")],
)
def test_the_bits_of_the_compiled_net(graph, preset, kind):
    net = model(preset, kind)
    predictor = maam_ops.Predictor(net, SHAPE)
    for count in (1, 2, 7):
        x = images(count, seed=count)
        got, expected = predictor(x), net(Tensor(x)).asnumpy()
        assert got.dtype == np.float32 and got.shape == (count, 10)
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("preset", ["2.3m", "no-attention", "no-reduce", "plain-cnn"])
def test_other_presets(pynative, preset):
    net = maam.create_model(preset, **SMALL).set_train(False)
    x = images(4)
    assert maam_ops.Predictor(net, SHAPE)(x).tobytes() == net(Tensor(x)).asnumpy().tobytes()


def test_a_preset_that_resizes_is_refused(pynative):
    net = maam.create_model("multi-scale").set_train(False)
    with pytest.raises(ValueError, match=r"of operator \d+ \(AggregateReduceInference\): got what is neither"):
        maam_ops.Predictor(net, (3, 32, 32))


@pytest.mark.parametrize(
    "build",
    [
        lambda net, x: net.second(ops.relu(net.first(x)).reshape(-1, 3, 4).reshape(-1, WIDTH)),
        lambda net, x: maam_ops.functional.dense(net.first(x), net.second.weight * 2.0),
        lambda net, x: net.second(net.first(x.astype(ms.float16)).astype(ms.float32).astype(ms.bfloat16)),
        lambda net, x: maam_ops.functional.dense(net.first(x), net.second(net.second.weight)),
        lambda net, x: net.first(net.first(x) if x.ndim == 2 else x),
    ],
    ids=["reshaped", "constant of other ops", "casts", "constant of our ops", "twice"],
)
def test_what_may_stand_between(pynative, build):
    """A ReLU of what a ReLU returned is nothing."""
    net = Built(build, relu=True)
    predictor = maam_ops.Predictor(net, (WIDTH,))
    x = images(4, (WIDTH,))
    assert predictor(x).tobytes() == net(Tensor(x)).float().asnumpy().tobytes()


def test_the_mode_and_every_train_flag_are_put_back(graph):
    net = nn.SequentialCell(dense(), nn.Dropout(p=0.9), dense())
    net.set_train(True)
    net[0].set_train(False)
    before = [(cell.training, cell.phase) for _, cell in net.cells_and_names()]
    for refused in (False, True):
        if refused:
            with pytest.raises(ValueError):
                maam_ops.Predictor(net, (WIDTH + 1,))
        else:
            maam_ops.Predictor(net, (WIDTH,))
        assert [(cell.training, cell.phase) for _, cell in net.cells_and_names()] == before
        assert ms.get_context("mode") == ms.GRAPH_MODE


def test_it_does_not_follow_the_net_and_a_new_one_does(pynative):
    net, x = model(), images(3)
    predictor = maam_ops.Predictor(net, SHAPE)
    before = predictor(x)
    bias = net.classifier[3].bias
    bias.set_data(bias + 1)
    assert predictor(x).tobytes() == before.tobytes()
    np.testing.assert_allclose(maam_ops.Predictor(net, SHAPE)(x), before + 1, rtol=1e-5)


def test_results_are_the_callers_and_so_are_the_images(pynative):
    predictor = maam_ops.Predictor(model(), SHAPE)
    x = images(2)
    x.flags.writeable = False
    first = predictor(x)
    kept = first.copy()
    predictor(images(2, seed=9))
    np.testing.assert_array_equal(first, kept)
    reference = weakref.ref(x)
    predictor(x)
    del x
    assert reference() is None


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_threads_give_the_same_bits(pynative, kind):
    predictor = maam_ops.Predictor(model(kind=kind), SHAPE)
    batches = [images(count, seed=count) for count in (1, 5, 2, 5, 1)]
    expected = [predictor(x).tobytes() for x in batches]
    together = threading.Barrier(2)

    def work(order):
        together.wait()
        return [all(predictor(batches[i]).tobytes() == expected[i] for i in order) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(work, [range(5), range(4, -1, -1)]):
            assert all(result)


def test_only_calls_of_the_recording_thread_are_recorded(pynative):
    cell, x = dense(), Tensor(images(2, (WIDTH,)))
    with _native.recorded() as calls:
        thread = threading.Thread(target=cell, args=(x,))
        thread.start()
        thread.join()
        assert calls == []
        y = cell(x)
    cell(x)
    ((symbol, inputs, outputs),) = calls
    assert symbol == "DenseForward" and inputs[1] is x and outputs[0] is y


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_casts_are_mindspores(pynative, dtype):
    special = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 3.4e38, 65519, 65520, 1e-8, 1e-40, 1 + 2**-8, 1 + 3 * 2**-8]
    values = np.concatenate([np.array(special, np.float32), images(1, (2**15,)).ravel()])
    there = Tensor(values).astype(getattr(ms, dtype))
    cast = Array(values, "float32").cast(dtype)
    assert cast.same(Array.of(there))
    np.testing.assert_array_equal(cast.cast("float32").data, there.astype(ms.float32).asnumpy())


def test_repr():
    text = repr(maam_ops.Predictor(nn.SequentialCell(dense(), dense()), [WIDTH]))
    assert text == "Predictor(image_shape=(12,): DenseForward -> DenseForward)"


def test_a_foreign_layer_between_operators_is_named(pynative):
    message = r"net: input 1 of operator 1 \(DenseForward\): got what is neither .* maam_ops.explain\(net\)"
    with pytest.raises(ValueError, match=message):
        maam_ops.Predictor(nn.SequentialCell(dense(), nn.ReLU(), dense()), (WIDTH,))
    module = maam_ops.FusedMAAM(3, 4, 6)
    with pytest.raises(ValueError, match=message):
        maam_ops.Predictor(nn.SequentialCell(module, nn.AvgPool2d(2, 2), dense(24, 4)), SHAPE)
    with pytest.raises(ValueError, match=r"net: input 1 of operator 0 \(DenseForward\)"):
        maam_ops.Predictor(nn.SequentialCell(nn.ReLU(), dense()), (WIDTH,))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda net, x: net.second(ops.clamp(net.first(x), -20, 20)), "got other results from it"),
        (lambda net, x: ops.sigmoid(net.first(x)), "the net's result: got what is neither"),
        (lambda net, x: ops.transpose(net.first(x), (1, 0)), "the net's result: got what is neither"),
        (lambda net, x: (net.first(x), x), "got a tuple from its call, expected one Tensor"),
        (lambda net, x: net.second(x) if len(x) == 2 else net.second(net.first(x)), "other operators for 2 images"),
        (lambda net, x: net.second.weight * ops.ones_like(net.first(x)[0]), "that no operator made from the images"),
        (lambda net, x: net.first(x) is None or x, "that no operator made from the images"),
        (
            lambda net, x: maam_ops.functional.dense(net.second.weight, x),
            r"result 0 of operator 0 \(DenseForward\): got shape \(12, 2\) for 2 images and \(12, 3\)",
        ),
        (
            lambda net, x: net.second((net.first(x) + net.first(x)) / 2.0),
            r"input 1 of operator 2 \(DenseForward\): got elements that several results have",
        ),
    ],
    ids=["clamp", "result", "transposed", "tuple", "by batch", "constant", "images", "batch behind", "ambiguous"],
)
def test_other_nets_are_refused(pynative, build, message):
    with pytest.raises(ValueError, match=f"^maam_ops.Predictor: net: .*{message}"):
        maam_ops.Predictor(Built(build), (WIDTH,))


def test_the_reference_is_refused(pynative):
    with pytest.raises(ValueError, match="no native operator of this package ran"):
        maam_ops.Predictor(maam.create_model("authors", impl="reference", **SMALL), SHAPE)


def test_wrong_arguments_are_named(pynative):
    with pytest.raises(TypeError, match="net: got function, expected a Cell"):
        maam_ops.Predictor(lambda x: x, SHAPE)
    for shape in (32, (3.7, 4), "abc"):
        with pytest.raises(TypeError, match=r"image_shape: got .*, expected whole numbers such as"):
            maam_ops.Predictor(dense(), shape)
    with pytest.raises(ValueError, match=r"image_shape: got \(3, 0\), expected extents of at least 1"):
        maam_ops.Predictor(dense(), (3, 0))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([[0.0] * WIDTH], TypeError, "got list, expected a NumPy array of float32"),
        (Tensor(images(1, (WIDTH,))), TypeError, "got Tensor, expected a NumPy array of float32"),
        (images(1, (WIDTH,)).astype(np.float64), TypeError, "got float64, expected"),
        (images(1, (WIDTH,)).astype(">f4"), TypeError, "got >f4, expected"),
        (images(2, (WIDTH + 1,)), ValueError, r"got shape \(2, 13\), expected \(B, 12\)"),
        (images(1, (WIDTH,))[0], ValueError, r"got shape \(12,\), expected \(B, 12\)"),
        (images(0, (WIDTH,)), ValueError, r"got shape \(0, 12\), expected \(B, 12\), B at least 1"),
        (np.asfortranarray(images(2, (WIDTH,))), ValueError, "got strides .*numpy.ascontiguousarray"),
        (images(2, (2 * WIDTH,))[:, ::2], ValueError, "got strides .*numpy.ascontiguousarray"),
    ],
    ids=["list", "Tensor", "float64", "big-endian", "width", "no batch", "empty", "Fortran", "strided"],
)
def test_wrong_images_are_named(pynative, given, error, message):
    with pytest.raises(error, match=f"^maam_ops.Predictor: images: {message}"):
        maam_ops.Predictor(dense(), (WIDTH,))(given)
