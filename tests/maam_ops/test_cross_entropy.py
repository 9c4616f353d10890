"""cross_entropy and FusedCrossEntropy in MindSpore: both modes, both implementations, gradients, errors."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import maam_ops
from maam_ops.explain import kernels_run
from maam_ops.functional import cross_entropy

IMPLS = ["native", "reference"]


def logits_and_labels(rows=6, classes=10, dtype=ms.float32):
    rng = np.random.default_rng([rows, classes])
    return Tensor(3 * rng.standard_normal((rows, classes))).astype(dtype), Tensor(
        rng.integers(0, classes, rows).astype(np.int32)
    )


class Doubled(nn.Cell):
    """Twice the loss, so that its incoming gradient is not 1; and the gradient of the logits."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.both = ms.value_and_grad(self.twice, 0)

    def twice(self, logits, labels):
        return self.loss(logits, labels) * 2

    def construct(self, logits, labels):
        return self.both(logits, labels)


@pytest.mark.parametrize("impl", IMPLS)
def test_loss_and_gradient_are_those_of_the_framework(mode, impl):
    logits, labels = logits_and_labels()
    fused = Doubled(maam_ops.FusedCrossEntropy(impl=impl))
    plain = Doubled(nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    results = []
    ran = kernels_run(lambda: results.extend(fused(logits, labels)) or results)
    assert results[0].shape == ()
    for got, expected in zip(results, plain(logits, labels), strict=True):
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-7)
    assert {name.split("/")[0] for name in ran} == ({"cross_entropy"} if impl == "native" else set())


@pytest.mark.parametrize("impl", IMPLS)
def test_smoothing_and_ignored_rows(pynative, impl):
    logits, labels = logits_and_labels()
    labels[2] = 7
    options = {"label_smoothing": 0.2, "ignore_index": 7}
    expected = ops.cross_entropy(logits, labels, **options)
    np.testing.assert_allclose(
        cross_entropy(logits, labels, impl=impl, **options).asnumpy(), expected.asnumpy(), rtol=1e-5
    )


class SecondDerivative(nn.Cell):
    def __init__(self, impl):
        super().__init__()
        self.loss = maam_ops.FusedCrossEntropy(impl=impl)
        self.gradient = ms.grad(self.loss)
        self.second = ms.grad(self.squared)

    def squared(self, logits, labels):
        return (self.gradient(logits, labels) ** 2).sum()

    def construct(self, logits, labels):
        return self.second(logits, labels)


def test_a_second_derivative_is_refused(mode):
    with pytest.raises(RuntimeError, match=r"cross_entropy: bprop of the gradient is not defined.*impl='reference'"):
        SecondDerivative("native")(*logits_and_labels()).asnumpy()
    assert SecondDerivative("reference")(*logits_and_labels()).abs().max() > 0


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16, ms.float64], ids=str)
def test_kernel_and_definition_agree(pynative, dtype):
    logits, labels = logits_and_labels(dtype=dtype)
    assert maam_ops.compare(cross_entropy, logits, labels, label_smoothing=0.1)
    assert cross_entropy(logits, labels).dtype == (ms.float64 if dtype == ms.float64 else ms.float32)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_numpy_integer_is_an_index(pynative, impl):
    logits, labels = logits_and_labels()
    ignored = labels[0].item()
    got, expected = (cross_entropy(logits, labels, ignore_index=kind(ignored), impl=impl) for kind in (np.int64, int))
    assert got.asnumpy() == expected.asnumpy()


def test_int64_labels_and_classes_ruled_out(pynative):
    logits, labels = logits_and_labels(rows=1, classes=3)
    logits[0, (labels[0].item() + 1) % 3] = -np.inf
    for impl in IMPLS:
        assert np.isfinite(cross_entropy(logits, labels.astype(ms.int64), impl=impl).asnumpy())


@pytest.mark.parametrize("dtype", [ms.int32, ms.int64], ids=str)
def test_dynamic_batch_in_graph_mode(graph, dtype):
    loss = maam_ops.FusedCrossEntropy(impl="native")
    loss.set_inputs(Tensor(shape=[None, 10], dtype=ms.float32), Tensor(shape=[None], dtype=dtype))
    for rows in (1, 9):
        logits, labels = logits_and_labels(rows)
        x = logits.asnumpy()
        expected = np.mean(np.log(np.exp(x).sum(1)) - x[np.arange(rows), labels.asnumpy()])
        np.testing.assert_allclose(loss(logits, labels.astype(dtype)).asnumpy(), expected, rtol=1e-5)


class TestErrors:
    def test_label_out_of_range(self, mode):
        logits, _ = logits_and_labels(2, 3)
        with pytest.raises(RuntimeError, match=r"labels: got 3 in row 1, expected 0 to 2"):
            maam_ops.FusedCrossEntropy(impl="native")(logits, Tensor(np.array([0, 3], np.int32))).asnumpy()
        reference = maam_ops.FusedCrossEntropy(impl="reference")
        assert np.isnan(reference(logits, Tensor(np.array([0, 3], np.int32))).asnumpy())

    @pytest.mark.parametrize("ignored", [-100, 2**31 - 1, -(2**31)])
    def test_a_label_beyond_32_bits_is_no_class_and_not_ignored(self, mode, ignored):
        logits, _ = logits_and_labels(2, 3)
        reference = maam_ops.FusedCrossEntropy(ignore_index=ignored, impl="reference")
        for label in (2**32, 2**32 - 100, 2**40 + 2**31 - 1, -(2**33) - 2**31):
            labels = Tensor(np.array([label, ignored], np.int64))
            with pytest.raises(RuntimeError, match=r"labels: got 214748364[67] in row 0, expected 0 to 2"):
                # A graph that has raised does not run again.
                maam_ops.FusedCrossEntropy(ignore_index=ignored, impl="native")(logits, labels).asnumpy()
            assert np.isnan(reference(logits, labels).asnumpy())

    @pytest.mark.parametrize(
        "options, error, message",
        [
            ({"ignore_index": 1.7}, TypeError, r"ignore_index: got 1\.7, expected a whole number"),
            (
                {"ignore_index": 2**40},
                ValueError,
                r"ignore_index: got 1099511627776, expected -2147483648 to 2147483647",
            ),
            ({"label_smoothing": None}, TypeError, r"label_smoothing: got None, expected a number, 0 to 1"),
            ({"label_smoothing": 5}, ValueError, r"label_smoothing: got 5, expected 0 to 1"),
        ],
        ids=["fraction", "beyond int32", "none", "five"],
    )
    def test_options(self, pynative, options, error, message):
        with pytest.raises(error, match=f"maam_ops.FusedCrossEntropy: {message}"):
            maam_ops.FusedCrossEntropy(**options)
        for function in (cross_entropy, maam_ops.reference.cross_entropy):
            with pytest.raises(error, match=f"maam_ops.cross_entropy: {message}"):
                function(*logits_and_labels(), **options)

    @pytest.mark.parametrize(
        "shape, labels, message",
        [
            ((2, 3, 4), (2,), r"logits: got shape \(2, 3, 4\), expected \(B, K\)"),
            ((2, 3), (3,), r"labels: got shape \(3,\), expected \(2,\), one a row"),
        ],
    )
    def test_shapes(self, pynative, shape, labels, message):
        with pytest.raises(ValueError, match=message):
            cross_entropy(ops.zeros(shape), ops.zeros(labels, ms.int32))

    def test_dtypes_and_smoothing(self, pynative):
        logits, labels = logits_and_labels()
        with pytest.raises(TypeError, match="logits: got dtype Int32"):
            cross_entropy(logits.astype(ms.int32), labels)
        with pytest.raises(TypeError, match="labels: got dtype Float32, expected Int32 or Int64"):
            cross_entropy(logits, labels.astype(ms.float32))
        with pytest.raises(ValueError, match=r"label_smoothing: got 1\.5, expected 0 to 1"):
            cross_entropy(logits, labels, label_smoothing=1.5)
