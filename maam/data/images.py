"""A labelled image set in memory, and the choice between the embedded one and a CIFAR-10 folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import MaamError


@dataclass(frozen=True)
class ImageSet:
    """Images and labels of one split.

    Attributes:
        images: uint8 (count, channels, height, width), 0 to 255.
        labels: int32 (count,), 0 to num_classes - 1.
        classes: name of each class.
        crop_padding: how far, in pixels, a random crop may shift an image in each direction.
        flip: whether a mirrored image still shows its class (False for digits).
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    crop_padding: int
    flip: bool

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int | None) -> ImageSet:
        """The first `count` images (all of them for None)."""
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise MaamError(f"image count must be 1 to {len(self)} (the size of this set), got {count}")
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def tail(self, count: int) -> ImageSet:
        """The last `count` images."""
        start = len(self) - len(self.head(count))
        return replace(self, images=self.images[start:], labels=self.labels[start:])


@dataclass(frozen=True)
class ImageData:
    """A training and a test set of the same classes."""

    name: str
    train: ImageSet
    test: ImageSet

    @property
    def num_classes(self) -> int:
        return len(self.train.classes)

    @property
    def fingerprint(self) -> str:
        """Names the test pixels and labels, whatever layout they were read from."""
        digest = hashlib.sha256(np.ascontiguousarray(self.test.images).tobytes())
        digest.update(self.test.labels.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    def held_out(self, count: int) -> ImageData:
        """The last `count` training images in place of the test set, and training without them."""
        if not 0 < count < len(self.train):
            raise MaamError(f"hold_out must be 1 to {len(self.train) - 1} (below the training images), got {count}")
        return replace(self, train=self.train.head(len(self.train) - count), test=self.train.tail(count))


def load_data(folder: str | Path | None = None) -> ImageData:
    """CIFAR-10 from `folder` (official binary or python layout), or the embedded digits when it is None."""
    from .cifar10 import load_cifar10
    from .digits import load_digits

    return load_digits() if folder is None else load_cifar10(folder)
