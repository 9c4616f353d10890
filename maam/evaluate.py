"""Predictions and the figures computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from . import averaging
from .checkpoint import Checkpoint
from .data import ImageSet
from .data.pipeline import NUM_WORKERS, eval_batches, iterate
from .errors import MaamError
from .models import check_options, create_model, quantize
from .models.quantized import CALIBRATION_IMAGES

_MIX = "maam.fusion.attn_weights"


@dataclass(frozen=True)
class Metrics:
    """Figures over one image set: mean cross-entropy, accuracy, and precision, recall and F1 averaged over classes."""

    loss: float
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


def make_forward(net: nn.Cell) -> Callable[[Tensor], Tensor]:
    """`net` in GRAPH mode: images (B, C, H, W) -> logits (B, K). Set the net's train flag before a call."""

    def forward(images: Tensor) -> Tensor:
        # The mode is the process's, and a caller may have changed it since.
        ms.set_context(mode=ms.GRAPH_MODE)
        return net(images)

    return forward


def predict(
    forward: Callable[[Tensor], Tensor],
    data: ImageSet,
    batch_size: int = 64,
    num_workers: int = NUM_WORKERS,
    flip: bool = False,
) -> np.ndarray:
    """Logits float32 (len(data), num_classes) of all images in their order.

    With `flip`, and where a mirrored image of `data` still shows its class, the mean over each image and its mirror.
    """
    if flip and data.flip:
        mirrored = replace(data, images=np.ascontiguousarray(data.images[..., ::-1]))
        both = [predict(forward, version, batch_size, num_workers) for version in (data, mirrored)]
        return (both[0] + both[1]) / 2
    batch_size = min(batch_size, len(data))
    parts = []
    for images, _ in iterate(eval_batches(data, batch_size, num_workers=num_workers)):
        count = len(images)
        if count < batch_size:
            # A batch of another size would compile the whole graph a second time.
            images = np.concatenate([images, np.zeros((batch_size - count, *images.shape[1:]), images.dtype)])
        parts.append(forward(Tensor(images)).asnumpy()[:count])
    return np.concatenate(parts).astype(np.float32)


def score(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """:class:`Metrics` of logits (count, K) against integer labels (count,); a class nobody predicts scores 0."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    loss = float(np.mean(log_sums - shifted[np.arange(len(labels)), labels]))
    predicted = logits.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(logits.shape[1]), average="macro", zero_division=0
    )
    return Metrics(loss, float(accuracy_score(labels, predicted)), float(precision), float(recall), float(f1))


def evaluate(net: nn.Cell, data: ImageSet, batch_size: int = 64, flip: bool = False) -> Metrics:
    """:class:`Metrics` of `net` in inference mode on all images of `data`; `flip` as for :func:`predict`."""
    net.set_train(False)
    return score(predict(make_forward(net), data, batch_size, flip=flip), data.labels)


def quantize_for(net: nn.Cell, data: ImageSet, impl: str = "auto") -> nn.Cell:
    """`net` on int8 operators, calibrated on the first images of `data`; errors as :func:`maam.quantize`."""
    chosen = data.head(min(CALIBRATION_IMAGES, len(data))).images
    return quantize(net, np.multiply(chosen, np.float32(1 / 255), dtype=np.float32), impl=impl)


def mix_weights(net: nn.Cell) -> list[float]:
    """softmax(alpha), the share of each branch of a MAAM classifier; empty for a model without such."""
    for parameter in net.get_parameters():
        if parameter.name == _MIX:
            alpha = parameter.asnumpy().astype(np.float64).ravel()
            shares = np.exp(alpha - alpha.max())
            return (shares / shares.sum()).tolist()
    return []


def model_for(data: ImageSet, preset: str, impl: str, overrides: dict[str, Any]) -> nn.Cell:
    """The model of `preset` for images and classes of `data`."""
    # Before they meet the arguments of create_model that are not options of a model.
    check_options(preset, overrides)
    channels, height, _ = data.images.shape[1:]
    options = {"in_channels": channels, "image_size": height, **overrides}
    for name, expected in (("in_channels", channels), ("image_size", height)):
        if options[name] != expected:
            raise MaamError(f"option {name} is {options[name]}, but the images of this data set have {expected}")
    try:
        return create_model(preset, len(data.classes), impl, **options)
    except (RuntimeError, ValueError) as error:
        # From the operators: compiled kernels asked for where there are none, or an unknown MAAM_OPS_IMPL.
        raise MaamError(str(error)) from error


def restore_model(checkpoint: Checkpoint, data: ImageSet, impl: str = "auto", preset: str | None = None) -> nn.Cell:
    """The trained model of a checkpoint, ready for images like those of `data`; with averaged weights, if it has them.

    Args:
        checkpoint: written by ``maam train``, or by `mindspore.save_checkpoint` together with `preset`.
        data: what the model will be evaluated on.
        impl: as in :func:`maam.create_model`; any checkpoint loads into any implementation.
        preset: needed only for a checkpoint that does not name its own.
    """
    config = {} if checkpoint.meta is None else checkpoint.meta["config"]
    preset = preset or config.get("preset")
    if preset is None:
        raise MaamError(f"checkpoint {checkpoint.path}: it does not say which model it belongs to; name its --preset")
    net = model_for(data, preset, impl, config.get("overrides", {}))
    if config.get("ema"):
        checkpoint = checkpoint.only(averaging.PREFIX)
    checkpoint.load_into(net.get_parameters())
    return net
