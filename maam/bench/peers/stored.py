"""Images and weights that every side reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...data import ImageData
from ..cases import Arrays

CALIBRATION_IMAGES = 256


def write(path: Path, preset: str, data: ImageData, images: int) -> None:
    """Writes one model's arrays for :class:`maam.bench.cases.StoredInference` and ``StoredStep``.

    The model is untrained, with normalisations and mix away from their initial values, which would hide an error in
    them. Calibration images come from the training set, the measured ones from the test set.

    Args:
        path: .npz to write.
        preset: of :func:`maam.create_model`.
        data: where the images come from.
        images: largest batch.
    """
    test, train = data.test.head(images), data.train.head(CALIBRATION_IMAGES)
    arrays = {"images": _scaled(test.images), "labels": test.labels, "calibration": _scaled(train.images)}
    np.savez(path, **arrays, **_parameters(preset))


def _scaled(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images, np.float32) / np.float32(255)


def _parameters(preset: str) -> Arrays:
    import mindspore as ms

    from ...models import create_model

    ms.set_seed(0)
    rng = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.1, 0.1), "moving_variance": (0.5, 1.5)}
    ranges["attn_weights"] = (-1.0, 1.0)
    arrays = {}
    for parameter in create_model(preset, impl="reference").get_parameters():
        array = parameter.asnumpy().copy()
        bounds = ranges.get(parameter.name.rpartition(".")[2])
        if bounds is not None:
            array = rng.uniform(*bounds, array.shape).astype(np.float32)
        arrays[parameter.name] = array
    return arrays
