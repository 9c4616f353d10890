"""`maam compare`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from .common import BatchSize, Data, Impl, Overrides, Preset, Seed, TestImages, TrainImages, parse_overrides


def compare(
    data: Data = None,
    preset: Preset = "authors",
    overrides: Overrides = None,
    impl: Impl = "auto",
    epochs: Annotated[int, typer.Option(help="Passes over the training images, on each side.")] = 5,
    batch_size: BatchSize = 64,
    learning_rate: Annotated[float, typer.Option("--lr", help="Learning rate of Adam.")] = 5e-4,
    seed: Seed = 0,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Test accuracy that both sides must reach. Default: 0.95 on the embedded digits, none with --data.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train the fused and the reference model from one seed and check that they agree.

    Each side runs in a process of its own. Prints loss, accuracy, executed kernels, peak memory, images per second
    and the largest errors side by side; the exit code is 1 if anything differs by more than the limits shown.
    """
    from ..compare import Limits, format_report
    from ..compare import compare as run
    from ..config import TrainConfig

    config = TrainConfig(
        preset=preset,
        overrides=parse_overrides(overrides),
        impl=impl,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        train_images=train_images,
        test_images=test_images,
    )
    began = time.perf_counter()
    comparison = run(config, data, Limits(accuracy=min_accuracy), lambda side: typer.echo(f"training the {side} side"))
    typer.echo("")
    typer.echo(format_report(comparison))
    typer.echo(f"took {time.perf_counter() - began:.0f} s")
    if not comparison.passed:
        raise typer.Exit(1)
