"""Predictions and the figures over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mindspore import Tensor
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score

from maam.data import ImageData
from maam.evaluate import predict, score


def test_figures_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(200, 5)).astype(np.float32)
    logits[:, 4] = -15  # a class that is never predicted
    labels = rng.integers(0, 5, 200)
    metrics = score(logits, labels)
    predicted = logits.argmax(1)
    probabilities = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(1, keepdims=True)
    assert metrics.accuracy == np.mean(predicted == labels)
    assert metrics.loss == pytest.approx(log_loss(labels, probabilities))
    options = {"average": "macro", "zero_division": 0}
    assert metrics.macro_f1 == pytest.approx(f1_score(labels, predicted, **options))
    assert metrics.macro_precision == pytest.approx(precision_score(labels, predicted, **options))
    assert metrics.macro_recall == pytest.approx(recall_score(labels, predicted, **options))


def test_prediction_keeps_order_and_one_batch_shape(digits: ImageData) -> None:
    shapes = []

    def mean_of_rows(images: Tensor) -> Tensor:
        shapes.append(images.shape)
        return images.mean((1, 3))

    data = digits.test.head(21)
    logits = predict(mean_of_rows, data, batch_size=8)
    np.testing.assert_allclose(logits, (data.images / np.float32(255)).mean((1, 3)), rtol=1e-5, atol=1e-6)
    assert set(shapes) == {(8, 3, 32, 32)}


def test_flipped_prediction_is_the_mean_over_both_images_where_flips_are_allowed(digits: ImageData) -> None:
    def left_column(images: Tensor) -> Tensor:
        return images[:, :, :, 0].mean(2)

    data = replace(digits.test.head(10), flip=True)
    expected = [(data.images[..., column] / np.float32(255)).mean(2) for column in (0, 31)]
    np.testing.assert_allclose(predict(left_column, data, 4, flip=True), np.mean(expected, axis=0), atol=1e-6)
    np.testing.assert_allclose(predict(left_column, digits.test.head(10), 4, flip=True), expected[0], atol=1e-6)
