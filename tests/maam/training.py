"""Runs of a model small enough for seconds."""

from __future__ import annotations

from dataclasses import replace

from maam.config import TrainConfig

from .conftest import TINY

CONFIG = TrainConfig(overrides=TINY, epochs=2, batch_size=32, train_images=128, test_images=50, seed=4)
EVERYTHING = replace(
    CONFIG,
    overrides={**TINY, "channels": (4, "pool", 6, "res"), "pool": 2},
    epochs=4,
    learning_rate=5e-3,
    schedule="one-cycle",
    warmup=0.3,
    weight_decay=0.05,
    decay="decoupled",
    clip_norm=1.0,
    label_smoothing=0.1,
    ema=0.9,
    cutout=6,
    test_flip=True,
    hold_out=200,
)
