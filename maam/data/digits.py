"""The embedded data set: scikit-learn's 1,797 scanned handwritten digits, shaped like CIFAR-10 images."""

from __future__ import annotations

import numpy as np

from ..errors import MaamError
from .images import ImageData, ImageSet

TRAIN_IMAGES, TEST_IMAGES = 1400, 397
SPLIT_SEED = 0
# The scans are centred and four pixels of these images are one of the scan: larger shifts only slow learning down.
CROP_PADDING = 1


def load_digits() -> ImageData:
    """1,400 training and 397 test images (3, 32, 32): 8x8 scans enlarged four times, the same in all channels.

    The split is stratified and always the same.
    """
    try:
        from sklearn import datasets
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MaamError(
            "the embedded data set needs scikit-learn: pip install 'maam-ops[train]', or name a CIFAR-10 folder"
        ) from error
    scans, labels = datasets.load_digits(return_X_y=True)
    # The scans hold 17 grey levels, 0 to 16.
    small = np.rint(scans.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.ascontiguousarray(np.broadcast_to(small.repeat(4, axis=2).repeat(4, axis=3), (len(small), 3, 32, 32)))
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, random_state=SPLIT_SEED, stratify=labels
    )
    classes = tuple(str(digit) for digit in range(10))

    def split(rows: np.ndarray) -> ImageSet:
        return ImageSet(images[rows], labels[rows].astype(np.int32), classes, CROP_PADDING, flip=False)

    return ImageData("digits", split(train), split(test))
