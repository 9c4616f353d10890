"""Pairing, medians and verdicts."""

import pytest

from maam.bench.figures import BY_ANOTHER, AmdahlBound, CeilingShare, Overhead, Saved, SpeedUp, judge_shared
from maam.bench.statistics import paired


def test_median_and_quartiles_of_values_within_rounds():
    rounds = [{"a": float(a), "b": 2.0} for a in (10, 2, 8, 4, 6)]
    assert paired(rounds, lambda one: one["a"] / one["b"]) == (3.0, 2.0, 4.0)


def test_what_slows_a_whole_round_cancels():
    rounds = [{"a": 3.0 * drift, "b": 1.5 * drift} for drift in (1.0, 7.0, 0.1, 40.0)]
    assert paired(rounds, lambda one: one["a"] / one["b"]) == pytest.approx((2.0, 2.0, 2.0))


def test_one_disturbed_block_does_not_move_the_median():
    rounds = [{"a": 2.0, "b": 1.0}] * 4 + [{"a": 2.0, "b": 100.0}]
    assert paired(rounds, lambda one: one["a"] / one["b"])[0] == 2.0


def test_median_of_ratios_not_ratio_of_medians():
    rounds = [{"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 100.0}, {"a": 300.0, "b": 10.0}]
    assert paired(rounds, lambda one: one["a"] / one["b"])[0] == 1.0  # medians: 2 / 10


def test_single_round_and_none():
    assert paired([{"a": 5.0}], lambda one: one["a"]) == (5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match="rounds: got none"):
        paired([], lambda one: one["a"])


ROUNDS = [{"kernel": 0.002, "bandwidth": 0.001, "fma": 0.0015, "fused": 0.0021, "unfused": 0.0084}]


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (SpeedUp("", slow="unfused", fast="fused"), 4.0),
        (CeilingShare(""), 0.5),
        (CeilingShare("", limits=("bandwidth", "fma")), 0.75),
        (Overhead(""), 0.1),
        (AmdahlBound("", whole="unfused", part="fused"), 4 / 3),
    ],
    ids=lambda item: type(item).__name__,
)
def test_formula_of_each_figure(figure, value):
    assert figure.value(ROUNDS, {})[0] == pytest.approx(value)
    assert set(figure.sides) <= set(ROUNDS[0])


def test_saved_is_a_part_of_the_baseline():
    figure = Saved("", at_least=0.3, fact="kernels", side="fused", baseline="unfused")
    facts = {("fused", "kernels"): 19.0, ("unfused", "kernels"): 30.0}
    assert set(figure.facts) == set(facts)
    record = figure.record([], facts)
    assert record["value"] == pytest.approx(11 / 30)
    assert record["verdict"] == "reached"


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (SpeedUp("", at_least=4.0, slow="unfused", fast="fused"), "reached"),
        (SpeedUp("", at_least=4.01, slow="unfused", fast="fused"), "missed"),
        (Overhead("", at_most=0.15), "reached"),
        (Overhead("", at_most=0.05), "missed"),
        (CeilingShare(""), ""),
    ],
)
def test_verdict(figure, verdict):
    assert figure.record(ROUNDS, {})["verdict"] == verdict


@pytest.mark.parametrize(
    ("verdicts", "judged"),
    [
        (["missed", "reached"], [BY_ANOTHER, "reached"]),
        (["reached", "missed"], ["reached", BY_ANOTHER]),
        (["missed", "missed"], ["missed", "missed"]),
        (["missed", "not measured"], ["missed", "not measured"]),
    ],
)
def test_a_shared_goal_is_reached_by_one_for_all(verdicts, judged):
    head = SpeedUp("a", at_least=1.0, shared="goal", slow="unfused", fast="fused").record(ROUNDS, {})
    alone = SpeedUp("b", at_least=9.0, slow="unfused", fast="fused").record(ROUNDS, {})
    assert head["shared"] == "goal" and "shared" not in alone
    records = judge_shared([{**head, "verdict": verdict} for verdict in verdicts] + [alone])
    assert [record["verdict"] for record in records] == [*judged, "missed"]


def test_nan_reaches_no_goal():
    rounds = [{"fused": float("nan"), "unfused": 1.0}]
    assert SpeedUp("", at_least=1.0, slow="unfused", fast="fused").record(rounds, {})["verdict"] == "missed"
