"""The door to the kernels that Python has: what it refuses instead of handing it on."""

import numpy as np
import pytest

from tests.kernels import needs_this_process

from .native import _core

pytestmark = needs_this_process
FLOATS = np.zeros(8, np.float32)


def launch(inputs, outputs, dtypes, function="AggregateForward"):
    _core.launch(function, inputs, outputs, dtypes)


def test_an_unknown_entry_point():
    with pytest.raises(_core.Error, match="no entry point Nothing"):
        launch([], [], [], "Nothing")


@pytest.mark.parametrize("function", sorted(_core.functions()))
@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_parameters(function, count):
    arrays = [np.zeros(2, np.float32)] * count
    with pytest.raises(_core.Error, match=f"maam_ops.{function}: "):
        launch(arrays, [], ["float32"] * count, function)


def test_a_name_of_another_size():
    half = FLOATS.astype(np.float16)
    with pytest.raises(_core.Error, match="array 1: got 2 bytes an element, expected 4 for float32"):
        launch([FLOATS[:2], half, half], [half.copy()], ["float32"] * 4)


def test_a_result_that_is_read_only():
    result = FLOATS.copy()
    result.flags.writeable = False
    with pytest.raises(_core.Error, match="result 0: got a read-only array"):
        launch([FLOATS[:2], FLOATS, FLOATS], [result], ["float32"] * 4)


def test_strides():
    with pytest.raises(_core.Error, match="array 1: got strides, expected a C-contiguous array"):
        launch([FLOATS[:2], FLOATS[::2], FLOATS[::2]], [FLOATS[:4].copy()], ["float32"] * 4)
