"""What `maam compare` says ran, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maam import compare, create_model
from maam.compare import DIGITS_ACCURACY, Limits, Side
from maam.compare_side import implementation_of
from maam.config import TrainConfig
from maam.train import make_cross_entropy, make_optimizer


def test_loss_and_optimizer_count_as_what_ran() -> None:
    net = create_model("mlp")
    assert implementation_of(net) == "plain MindSpore"
    optimizer = make_optimizer(net.trainable_params(), TrainConfig())
    said = implementation_of(net, make_cross_entropy(), optimizer)
    assert said == f"FusedAdam: {optimizer.impl}, FusedCrossEntropy: {make_cross_entropy().impl}"
    plain = make_optimizer(net.trainable_params(), TrainConfig(impl="reference"))
    assert implementation_of(net, make_cross_entropy(impl="reference"), plain) == "plain MindSpore"


@pytest.mark.parametrize(
    ("data", "asked", "limit"),
    [(None, None, DIGITS_ACCURACY), (Path("cifar"), None, None), (Path("cifar"), 0.3, 0.3), (None, 0.3, 0.3)],
)
def test_an_accuracy_is_asked_for_on_the_digits_alone(
    data: Path | None, asked: float | None, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = Side("plain MindSpore", [1.0], 0.5, 0.25, 20, 100, 800.0, 400.0, 600.0, 3000.0)
    monkeypatch.setattr(compare, "_run_side", lambda *_: (side, {"logits": np.ones(1)}))
    comparison = compare.compare(TrainConfig(), data, Limits(accuracy=asked))
    accuracies = [check for check in comparison.checks if check.name.startswith("test accuracy")]
    assert [(check.name, check.limit) for check in accuracies] == (
        [] if limit is None else [("test accuracy, fused", limit), ("test accuracy, reference", limit)]
    )
    assert comparison.passed == (limit is None)
