"""The correctness gate itself."""

import numpy as np
import pytest

from maam.bench.gate import GateError, check

TRUTH = {"y": np.array([1.0, -4.0, 2.0]), "z": np.zeros(2)}
ALLOWED = {"": 1e-6, "z": 1e-3}


def changed(**results):
    return {**TRUTH, **results}


def test_passes_within_the_tolerance_and_reports_the_worst_error():
    got = changed(y=TRUTH["y"] + np.array([0, 2e-6, 0]), extra=np.ones(1))
    assert check(got, TRUTH, ALLOWED) == pytest.approx(5e-7)


def test_tolerance_by_name():
    assert check(changed(z=np.array([0, 5e-4])), TRUTH, ALLOWED) == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (changed(y=TRUTH["y"] + 1e-5), "y: error 2.50e-06"),
        (changed(y=np.array([1.0, np.nan, 2.0])), "y: error nan"),
        (changed(y=np.array([1.0, np.inf, 2.0])), "y: error inf"),
        (changed(y=TRUTH["y"][:2]), r"y: got shape \(2,\), expected \(3,\)"),
        (changed(z=np.array([0, 2e-3])), "z: error"),
        ({"y": TRUTH["y"]}, "z: missing"),
    ],
)
def test_refuses(got, message):
    with pytest.raises(GateError, match=message):
        check(got, TRUTH, ALLOWED)


@pytest.mark.parametrize("position", [0, 65535, 65536, 199_999])
@pytest.mark.parametrize("value", [2.0, np.nan])
def test_sees_every_element_of_a_large_result(position, value):
    truth = np.ones((2, 100_000))
    got = truth.copy()
    assert check({"y": got}, {"y": truth}, ALLOWED) == 0.0
    got.flat[position] = value
    with pytest.raises(GateError):
        check({"y": got}, {"y": truth}, ALLOWED)


def test_empty_results_agree():
    assert check({"y": np.empty((0, 3))}, {"y": np.empty((0, 3))}, ALLOWED) == 0.0
