"""Image sets: the embedded digits, CIFAR-10 folders, and the batches made from them."""

from .cifar10 import load_cifar10
from .digits import load_digits
from .images import ImageData, ImageSet, load_data

__all__ = ["ImageData", "ImageSet", "load_cifar10", "load_data", "load_digits"]
