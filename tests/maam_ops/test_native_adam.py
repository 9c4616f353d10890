"""The Adam kernel on NumPy arrays: every variant against float64, over several steps."""

import numpy as np
import pytest

from . import native
from .adam_case import BETA1, BETA2, RULES, AdamCase
from .native import Array, capped

ISAS = native.isas("adam_update")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sizes", [(1,), (3, 4, 5, 7, 8, 9, 15, 16, 17), (0, 70_000, 1, 65_536, 130_001)], ids=str)
def test_steps(isa, rule, sizes):
    case = AdamCase(*sizes, rule=rule, scale=0.5, offset=len(sizes) % 4)
    with capped(isa):
        case.check(steps=3)
    assert case.step.data[0] == 3
    powers = [1, 1] if rule == "decoupled" else [BETA1**3, BETA2**3]
    np.testing.assert_allclose([p.values[0] for p in case.powers], powers, rtol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_for_any_number_of_threads(isa, rule):
    seen = set()
    with capped(isa):
        for n in (1, 2, 16):
            case = AdamCase(200_001, 3, 70_000, rule=rule)
            with native.threads(n):
                case.run()
            seen.add(tuple(value.tobytes() for value in case.state()))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c.gradients.__setitem__(1, Array([0], "float32")),
            r"gradient of parameter 1: got shape 1, expected 4",
        ),
        (
            lambda c: c.m.__setitem__(0, Array(np.zeros(3), "float16")),
            r"first moment of parameter 0: got dtype float16",
        ),
        (lambda c: c.v.pop(), r"arguments: got 14, expected 6, then as many each"),
        (lambda c: c.decay.pop(), r"decay: got shape 1, expected 2 elements"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_bad_arguments_are_named(change, message, rule):
    case = AdamCase(3, 4, rule=rule)
    change(case)
    if rule == "decoupled":
        message = message.replace("got 14, expected 6", "got 12, expected 4")
    with pytest.raises(ValueError, match=message):
        case.run()
    np.testing.assert_array_equal(case.powers[0].values, 1)
    assert case.step.data[0] == 0
