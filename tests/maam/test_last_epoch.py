"""The last epoch of a run, which is scored on mirrored images too, may come early."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maam import train
from maam.config import TrainConfig
from maam.data import ImageData
from maam.evaluate import score
from maam.train import Trainer

# The loss never falls by 90 %: the run stops as soon as it may.
FLAT = TrainConfig(
    preset="mlp", overrides={"hidden": 4}, epochs=6, batch_size=32, patience=1, min_improvement=0.9, test_flip=True
)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 2), (0, 3)])
def test_the_last_epoch_is_scored_on_mirrored_images(
    patience: int, epochs: int, digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(
        digits, train=replace(digits.train.head(64), flip=True), test=replace(digits.test.head(40), flip=True)
    )
    flips = []
    predict = train.predict
    monkeypatch.setattr(
        train, "predict", lambda *arguments, flip: (flips.append(flip), predict(*arguments, flip=flip))[1]
    )
    trainer = Trainer(replace(FLAT, patience=patience, epochs=3), data)
    assert trainer.fit(None) and trainer.stopped_early == (patience > 0)
    assert flips == [False] * (epochs - 1) + [True]
    mirrored = score(trainer.logits(trainer.test_set, True), trainer.test_set.labels)
    assert trainer.rows[-1].test_loss == mirrored.loss
