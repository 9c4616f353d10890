"""`maam eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import CHECKPOINT_NAME
from ..errors import MaamError
from .common import BatchSize, Data, Dtype, Impl, TestImages


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .ckpt file, or the run folder of maam train.")],
    data: Data = None,
    impl: Impl = "auto",
    dtype: Dtype = "float32",
    preset: Annotated[
        str | None,
        typer.Option(help="Model of a checkpoint that was not written by maam train.", show_default=False),
    ] = None,
    batch_size: BatchSize = 64,
    test_images: TestImages = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Average over each image and its mirror image. Default: as in training.",
            show_default=False,
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Evaluate on int8 operators too, calibrated on training images, and print both side by side.",
        ),
    ] = False,
) -> None:
    """Evaluate a checkpoint on the test images: accuracy, and precision, recall and F1 averaged over classes."""
    from ..checkpoint import load
    from ..data import load_data
    from ..evaluate import evaluate as evaluate_net
    from ..evaluate import quantize_for, restore_model
    from ..models import store_as

    source = load(checkpoint / CHECKPOINT_NAME if checkpoint.is_dir() else checkpoint)
    images = load_data(data)
    if source.meta is not None and source.meta["data"] != images.name:
        raise MaamError(
            f"checkpoint {source.path}: it was trained on {source.meta['data']}, but --data gives {images.name}"
        )
    test_set = images.test.head(test_images)
    if flip is None:
        flip = source.meta is not None and source.meta["config"].get("test_flip", False)
    net = store_as(restore_model(source, test_set, impl, preset), dtype)
    columns = [evaluate_net(net, test_set, batch_size, flip)]
    typer.echo(f"{'test images':<16} {len(test_set):,} of {images.name}")
    if int8:
        quantized = quantize_for(net, images.train, impl)
        columns.append(evaluate_net(quantized, test_set, batch_size, flip))
        typer.echo(f"{'calibration':<16} rule {quantized.rule}")
        typer.echo(f"{'':<16} {dtype}  int8")
    for name, value in (
        ("loss", lambda metrics: metrics.loss),
        ("accuracy", lambda metrics: metrics.accuracy),
        ("macro precision", lambda metrics: metrics.macro_precision),
        ("macro recall", lambda metrics: metrics.macro_recall),
        ("macro F1", lambda metrics: metrics.macro_f1),
    ):
        typer.echo(f"{name:<16} " + "  ".join(f"{value(metrics):.4f}" for metrics in columns))
