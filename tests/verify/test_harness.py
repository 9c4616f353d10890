"""The tests are tested: wrong kernels are planted, and every one must be found."""

import numpy as np
import pytest

from tests.kernels import COMMAND, KernelFault, needs_this_process
from tests.maam_ops import native
from tests.maam_ops.adam_case import AdamCase
from tests.maam_ops.agent_block_case import AgentBlockCase
from tests.maam_ops.aggregate_case import AggregateCase
from tests.maam_ops.conv_block_case import ConvBlockCase
from tests.maam_ops.cross_entropy_case import CrossEntropyCase
from tests.maam_ops.dense_case import DenseCase, DenseGradientCase
from tests.maam_ops.maam_case import MaamCase
from tests.maam_ops.maam_deep_case import MaamDeepCase
from tests.maam_ops.maam_mix_case import MaamMixCase
from tests.maam_ops.maam_training_case import MaamTrainingCase
from tests.maam_ops.native import Array, assert_close
from tests.maam_ops.reduce_case import ReduceCase

from . import runners
from .recording import Recording, record
from .test_accuracy import trusted


def planted(entry_point):
    """A fault of one entry point: a function of (right launch, inputs, outputs)."""

    def decorate(fault):
        def wrap(launch):
            def wrong(function, inputs, outputs):
                if function == entry_point:
                    fault(lambda i=inputs, o=outputs: launch(function, i, o), inputs, outputs)
                else:
                    launch(function, inputs, outputs)

            return wrong

        wrap.fault = fault.__name__
        return wrap

    return decorate


def store(array, values):
    array.data[...] = Array(values, array.dtype).data


@planted("ReduceInference")
def transposed_weights(launch, inputs, outputs):
    weight = Array(inputs[1].values.T.copy(), inputs[1].dtype)
    launch([inputs[0], weight, *inputs[2:]])


@planted("AggregateForward")
def tail_off_by_one(launch, inputs, outputs):
    launch()
    outputs[0].data.flat[-1] = outputs[0].data.flat[-2]


@planted("AggregateForward")
def element_never_written(launch, inputs, outputs):
    launch()
    store(outputs[0], np.where(np.arange(outputs[0].data.size) == 1200, np.nan, outputs[0].values.ravel()).reshape(
        outputs[0].data.shape))  # fmt: skip


@planted("AggregateForward")
def skipped_softmax(launch, inputs, outputs):
    store(outputs[0], sum(w * a.values for w, a in zip(inputs[0].values, inputs[1:], strict=True)))


@planted("ReduceInference")
def zeros(launch, inputs, outputs):
    store(outputs[0], np.zeros(outputs[0].data.shape))


@planted("DenseForward")
def nan(launch, inputs, outputs):
    launch()
    outputs[0].data[0, 0] = np.nan


@planted("MaamInference")
def wrong_channel(launch, inputs, outputs):
    launch()
    outputs[0].data[...] = np.roll(outputs[0].data, 1, axis=1)


@planted("DenseForward")
def float16_accumulation(launch, inputs, outputs):
    x, weight = (array.values.astype(np.float16) for array in inputs[1:3])
    store(outputs[0], np.matmul(x, weight.T) + (inputs[3].values if len(inputs) > 3 else 0))


@planted("AggregateBackward")
def swapped_gradients(launch, inputs, outputs):
    launch()
    outputs[1].data[...], outputs[2].data[...] = outputs[2].data.copy(), outputs[1].data.copy()


@planted("AggregateBackward")
def forgotten_softmax_gradient(launch, inputs, outputs):
    launch()
    store(outputs[0], [(inputs[1].values * a.values).sum() for a in inputs[2:]])


@planted("ReduceTraining")
def stale_running_statistics(launch, inputs, outputs):
    launch()
    outputs[4].data[...] = inputs[4].data


@planted("ReduceTraining")
def biased_running_variance(launch, inputs, outputs):
    launch()
    momentum, n = inputs[0].values[1], outputs[0].data[:, 0].size
    new = outputs[5].values - momentum * inputs[5].values
    store(outputs[5], momentum * inputs[5].values + new * (n - 1) / n)


@planted("ReduceBackward")
def no_batch_terms(launch, inputs, outputs):
    """The gradient as if mean and variance were constants."""
    launch()
    outputs[0].data[...] = outputs[0].data * 1.01


@planted("AggregateForward")
def input_written(launch, inputs, outputs):
    launch()
    inputs[1].data.flat[7] = 0


@planted("AggregateForward")
def written_past_the_end(launch, inputs, outputs):
    launch()
    outputs[0]._raw[-1] = 0


@planted("MaamTraining")
def ties_to_the_last_maximum(launch, inputs, outputs):
    launch()
    outputs[6].data[...] = np.where(outputs[6].data < 3, outputs[6].data + 1, outputs[6].data)


@planted("MaamDeepInference")
def float16_result(launch, inputs, outputs):
    launch()
    store(outputs[0], outputs[0].values.astype(np.float16))


@planted("AgentBlockBackward")
def gamma_and_beta_swapped(launch, inputs, outputs):
    launch()
    outputs[1].data[...], outputs[2].data[...] = outputs[2].data.copy(), outputs[1].data.copy()


@planted("DenseParameterGradients")
def last_row_forgotten(launch, inputs, outputs):
    dy = inputs[1].values.copy()
    dy[-1] = 0
    launch([inputs[0], Array(dy, "float32"), *inputs[2:]])


@planted("CrossEntropy")
def ignored_rows_counted(launch, inputs, outputs):
    launch()
    counted = np.mean(inputs[3].data >= 0)
    store(outputs[0], outputs[0].values * counted)


@planted("AdamUpdate")
def stale_powers_of_beta(launch, inputs, outputs):
    launch()
    inputs[3].data[...] = inputs[4].data[...] = 1


@planted("AdamUpdate")
def one_per_cent_too_far(launch, inputs, outputs):
    inputs[2].data[...] *= 1.01
    launch()
    inputs[2].data[...] = 1e-2


@planted("AdamWeightDecay")
def decay_forgotten(launch, inputs, outputs):
    kept = inputs[1].data.copy()
    inputs[1].data[...] = 0
    launch()
    inputs[1].data[...] = kept


@planted("MaamMixTraining")
def mixed_by_equal_weights(launch, inputs, outputs):
    launch([*inputs[:2], Array(np.zeros(inputs[2].data.shape), "float32"), *inputs[3:]])


@planted("ConvBlockForward")
def residual_before_the_relu(launch, inputs, outputs):
    launch()
    store(outputs[0], np.maximum(outputs[0].values, 0))


@planted("ConvBlockBackward")
def gradient_from_the_next_pixel(launch, inputs, outputs):
    launch([*inputs[:-1], Array(np.roll(inputs[-1].values, 1, axis=-1), "float32")])


# A case, and what its check must say: a fault that is found by a slip of its own proves nothing.
FAULTS = {
    transposed_weights: (lambda: ReduceCase((2, 12, 49), 12), "F: error"),
    tail_off_by_one: (lambda: AggregateCase(1237, 3, "float32"), "G: error"),
    element_never_written: (lambda: AggregateCase(1237, 3, "float16"), "G: not finite"),
    skipped_softmax: (lambda: AggregateCase(1237, 3, "float64"), "G: error"),
    zeros: (lambda: ReduceCase((2, 12, 49), 12, "bfloat16"), "F: error"),
    nan: (lambda: DenseCase(5, 100, 7), "y: not finite"),
    wrong_channel: (lambda: MaamCase((1, 3, 8, 8)), "F: error"),
    float16_accumulation: (lambda: DenseCase(5, 100, 7), "y: error"),
    swapped_gradients: (lambda: AggregateCase(1237, 3, "bfloat16"), "dA: error"),
    forgotten_softmax_gradient: (lambda: AggregateCase(1237, 3, "float32"), "d alpha: error"),
    stale_running_statistics: (lambda: ReduceCase((2, 12, 49), 12), "moving_mean: error"),
    biased_running_variance: (lambda: ReduceCase((2, 12, 49), 12), "moving_variance: error"),
    no_batch_terms: (lambda: ReduceCase((2, 12, 49), 12), "dA: error"),
    input_written: (lambda: AggregateCase(1237, 3, "float32"), "an input was written"),
    written_past_the_end: (lambda: AggregateCase(1237, 3, "float32"), "written past the end"),
    ties_to_the_last_maximum: (lambda: MaamTrainingCase((2, 3, 8, 8)), "pixel: error"),
    float16_result: (lambda: MaamDeepCase((2, 3, 8, 8)), "F: error"),
    gamma_and_beta_swapped: (lambda: AgentBlockCase((2, 3, 8, 8)), "dgamma1"),
    last_row_forgotten: (lambda: DenseGradientCase(5, 100, 7), "dW: error"),
    ignored_rows_counted: (lambda: CrossEntropyCase(20, 10, ignored=[1, 4]), "loss: error"),
    stale_powers_of_beta: (lambda: AdamCase(100, 3), "the weights: error"),
    one_per_cent_too_far: (lambda: AdamCase(100, 3), "the weights: error"),
    decay_forgotten: (lambda: AdamCase(100, 3, rule="decoupled"), "the weights: error"),
    mixed_by_equal_weights: (lambda: MaamMixCase((2, 3, 8, 8), kernels=(3, 3)), "G: error"),
    residual_before_the_relu: (lambda: ConvBlockCase((2, 3, 8, 8), residual=True), "'A'"),
    gradient_from_the_next_pixel: (lambda: ConvBlockCase((2, 3, 8, 8), pool=True), "'dW'"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_a_wrong_kernel_is_found(fault):
    case, message = FAULTS[fault]
    case().check()
    with native.launching(fault), pytest.raises(AssertionError, match=message):
        case().check()


def test_a_stale_cache_is_found():
    """A kernel that remembers its first result is right once."""
    kept = {}

    @planted("ReduceInference")
    def stale(launch, inputs, outputs):
        launch()
        outputs[0].data[...] = kept.setdefault(outputs[0].data.shape, outputs[0].data.copy())

    with native.launching(stale):
        case = ReduceCase((2, 12, 49), 12)
        case.check_inference()
        case.weight = Array(case.weight.values * 1.5, "float32")
        with pytest.raises(AssertionError):
            case.check_inference()


def test_an_unsynchronised_reduction_is_found():
    """Partial sums added in another order each time differ in the last bit alone; determinism shows it."""
    rng = np.random.default_rng(0)

    @planted("AggregateBackward")
    def unordered(launch, inputs, outputs):
        launch()
        products = (inputs[1].values * inputs[2].values).ravel().astype(np.float32)
        parts = [part.sum() for part in np.array_split(products, 100)]
        rng.shuffle(parts)
        total = np.float32(0)
        for part in parts:
            total += part
        outputs[0].data[0] += (total - products.astype(np.float64).sum()).astype(np.float32)

    with native.launching(unordered):
        calls = record(AggregateCase(200_001, 3, "float32").check_backward).without_oracles()
        with pytest.raises(AssertionError):
            assert all(calls.again() == calls.bits() for _ in range(10))


def test_mostly_zeros_are_not_trusted():
    outputs = [Array(np.arange(10) > 3, "float32")]
    with pytest.raises(AssertionError, match="result 0 is not trusted, 40% of it are zeros"):
        trusted(Recording([("ReduceInference", [], outputs)]))


def test_the_comparator():
    one = np.ones(3)
    assert_close(one, one, 0, "x")
    for got, message in (
        (np.ones(4), "shape"),
        (np.ones((3, 1)), "shape"),
        (np.array([1, np.nan, 1]), "not finite"),
        (np.array([1, 1, np.inf]), "not finite"),
        (np.array([1, 1, 1.1]), "exceeds"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_close(got, one, 0.01, "x")
    infinite = np.array([1, np.inf, np.nan])
    assert_close(infinite, infinite, 0, "x")
    for wrong in (np.array([1, -np.inf, np.nan]), np.array([1, np.inf, 0]), np.array([1, np.inf, np.inf])):
        with pytest.raises(AssertionError):
            assert_close(wrong, infinite, 1e9, "x")
    with pytest.raises(AssertionError):
        assert_close(one, one, np.nan, "x")


@needs_this_process
def test_the_public_comparator(pynative):
    """maam_ops.compare tells NaN, shape and dtype from an error."""
    ms = pytest.importorskip("mindspore")
    from maam_ops.compare import difference

    one = ms.Tensor(np.ones(3, np.float32))
    assert difference("x", one, one).passed
    for values in (np.ones(4, np.float32), np.ones(3, np.float16), np.float32([1, np.nan, 1]), np.float32([1, 2, 1])):
        assert not difference("x", ms.Tensor(values), one).passed
    assert not difference("x", one, ms.Tensor(np.float32([1, np.nan, 1]))).passed


ACCESSES = {
    "ReadPastEnd": ("end", "parameter 0 of 52 bytes: access at byte 52"),
    "ReadBeforeBegin": ("begin", "parameter 0 of 52 bytes: access at byte -4"),
    "WritePastEnd": ("end", "parameter 1 of 52 bytes: access at byte 52"),
    "WriteToInput": ("end", "parameter 0 of 52 bytes: access at byte 0, a write to an input"),
}


@needs_this_process
@pytest.mark.parametrize("name", ACCESSES)
def test_an_access_outside_a_buffer_is_found(name, program):
    place, message = ACCESSES[name]
    x = Array(np.arange(13), "float32")
    runner = runners.start(program, f"--place={place}")
    with native.reached_through(runner):
        native.launch("PlantedNothing", [x], [Array.poisoned((13,), "float32")])
        with pytest.raises(KernelFault, match=f"Planted{name}") as raised:
            native.launch(f"Planted{name}", [x], [Array.poisoned((13,), "float32")])
        assert message in str(raised.value)
        y = Array.poisoned((13,), "float32")
        native.launch("PlantedUninitialised", [x], [y])  # working memory is NaN until written
        assert np.isnan(y.values).all()
        before = runner.heap_bytes()
        runner.launch("PlantedLeak", [x.data], [y.data], ["float32"] * 2, repeats=1000)
        assert runner.heap_bytes() - before > 8000


# What each sanitizer must find, and in which words.
SANITIZED = {
    "address": {"ReadPastEnd": "heap-buffer-overflow", "ReadBeforeBegin": "heap-buffer-overflow",
                "WritePastEnd": "heap-buffer-overflow"},
    "undefined": {"Overflow": "signed integer overflow"},
    "thread": {"Race": "data race"},
}  # fmt: skip


@pytest.mark.parametrize("sanitizer, name", [(s, name) for s, names in SANITIZED.items() for name in names])
def test_the_sanitizer_is_awake(sanitizer, name):
    if f"/{sanitizer}/" not in COMMAND:
        pytest.skip("runs under make sanitize")
    x = Array(np.arange(1300), "float32")
    with pytest.raises(KernelFault, match=SANITIZED[sanitizer][name]):
        native.launch(f"Planted{name}", [x], [Array.poisoned((1300,), "float32")])
        native._core.close()
