"""The oracles of the benchmarks against the independent ones of the operators' tests."""

import numpy as np
import pytest

from maam.bench import cases
from tests.maam_ops import oracle

SMALL = {"batch": 3, "channels": 4, "grid": 2}
ALL = [
    cases.AggregateForward(**SMALL, agents=4),
    cases.AggregateBackward(**SMALL, agents=4),
    cases.ReduceInference(**SMALL, out_channels=8),
    cases.ReduceTraining(**SMALL, out_channels=8),
    cases.AggregateReduceInference(**SMALL, out_channels=8),
    cases.AggregateReduceTraining(**SMALL, out_channels=8),
    cases.ModelInference(2),
    cases.DenseForward(3, 5, 4),
    cases.DenseBackward(3, 5, 4),
    cases.ModelStep(2, "deep"),
]


@pytest.mark.parametrize("case", ALL, ids=lambda case: type(case).__name__)
def test_travels_as_json_and_gives_the_same_inputs_everywhere(case):
    again = cases.from_json(cases.to_json(case))
    assert again == case
    first, second = case.inputs(), again.inputs()
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def wide(arrays):
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def small_arguments(x):
    return [x[name] for name in ("weight", "gamma", "beta", "moving_mean", "moving_variance")]


def test_forward_results():
    aggregate, reduce, both = ALL[0], ALL[2], ALL[4]
    x = wide(aggregate.inputs())
    g = oracle.aggregate(x["alpha"], aggregate.branches(x))
    np.testing.assert_allclose(aggregate.expected(aggregate.inputs())["g"], g, rtol=1e-12, atol=1e-12)
    x = wide(reduce.inputs())
    f = oracle.reduce_inference(x["g"], *small_arguments(x), eps=cases.EPS)
    np.testing.assert_allclose(reduce.expected(reduce.inputs())["f"], f, rtol=1e-12, atol=1e-12)
    x = wide(both.inputs())
    f = oracle.reduce_inference(oracle.aggregate(x["alpha"], both.branches(x)), *small_arguments(x), eps=cases.EPS)
    np.testing.assert_allclose(both.expected(both.inputs())["f"], f, rtol=1e-12, atol=1e-12)


def training(case, x):
    """F and the running statistics of the independent oracle."""
    g = oracle.aggregate(x["alpha"], case.branches(x)) if "alpha" in x else x["g"]
    return oracle.reduce_training(g, *small_arguments(x), eps=cases.EPS, momentum=cases.MOMENTUM)


@pytest.mark.parametrize("case", [ALL[3], ALL[5]], ids=lambda case: type(case).__name__)
def test_training_results_against_central_differences(case):
    x = wide(case.inputs())
    expected = case.expected(case.inputs())
    _, mean, variance = training(case, x)
    np.testing.assert_allclose(expected["moving_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(expected["moving_variance"], variance, rtol=1e-12)
    gradients = [name for name in expected if not name.startswith("moving")]
    assert {"dweight", "dgamma", "dbeta"} < set(gradients)
    for name in gradients:
        numeric = oracle.numeric_gradient(lambda _: float((training(case, x)[0] * x["df"]).sum()), x[name[1:]])
        np.testing.assert_allclose(expected[name], numeric, rtol=1e-5, atol=1e-6, err_msg=name)


def test_dense_gradients_against_central_differences():
    case = cases.DenseBackward(3, 5, 4)
    x = wide(case.inputs())

    def loss(_):
        return float((cases.DenseForward(3, 5, 4).expected(x)["y"] * x["dy"]).sum())

    for name, gradient in case.expected(case.inputs()).items():
        np.testing.assert_allclose(gradient, oracle.numeric_gradient(loss, x[name[1:]]), rtol=1e-6, err_msg=name)


def test_aggregate_gradients_against_central_differences():
    case = ALL[1]
    x = wide(case.inputs())
    for name, gradient in case.expected(case.inputs()).items():
        numeric = oracle.numeric_gradient(
            lambda _: float((oracle.aggregate(x["alpha"], case.branches(x)) * x["dg"]).sum()), x[name[1:]]
        )
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7, err_msg=name)


def test_traffic_counts_operands_once():
    assert cases.AggregateForward(16).traffic.bytes == 4 * 4 * 16 * 128 * 256
    assert cases.AggregateBackward(16).traffic.bytes == 7 * 4 * 16 * 128 * 256
    assert cases.ReduceInference(64).traffic.bytes == 4 * 64 * 256 * (64 + 128)
    assert cases.ReduceInference(64).traffic.flops == 2 * 64 * 256 * 64 * 128
