"""`maam train`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import CHECKPOINT_NAME, TrainConfig, from_settings
from ..errors import MaamError
from ..files import check_writable
from ..interrupt import held_interrupts
from .common import BatchSize, Data, Impl, Overrides, Preset, Seed, TestImages, TrainImages, parse_overrides

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..train import EpochRow, Trainer

# Options of the command that are no settings of the run.
_NOT_SETTINGS = ("data", "out", "resume", "recipe")
# Options that may differ from the interrupted run without making the resumed one a different run.
_CHANGEABLE = ("epochs", "impl", "num_workers")


def train(
    context: typer.Context,
    data: Data = None,
    preset: Preset = "authors",
    overrides: Overrides = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Take the settings from a YAML file, or from a run of maam reproduce by its name (best, maam ...); "
            "options given here come before it.",
            show_default=False,
        ),
    ] = None,
    impl: Impl = "auto",
    epochs: Annotated[int, typer.Option(help="Passes over the training images (the paper: 50).")] = 10,
    batch_size: BatchSize = 64,
    learning_rate: Annotated[
        float, typer.Option("--lr", help="Learning rate of Adam; the highest one of a schedule.")
    ] = 1e-3,
    schedule: Annotated[
        str, typer.Option(help="constant; cosine: falls to 0 along half a cosine; one-cycle: falls to 0 linearly.")
    ] = "constant",
    warmup: Annotated[float, typer.Option(help="Share of all steps over which the learning rate rises first.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of Adam.")] = 1e-4,
    decay: Annotated[
        str, typer.Option(help="l2: decay as part of the gradient, as in the paper's code; decoupled: AdamW.")
    ] = "l2",
    clip_norm: Annotated[float, typer.Option(help="Longest gradient, all parameters together; 0 = any.")] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="Share of each label spread over all classes.")] = 0.0,
    ema: Annotated[
        float, typer.Option(help="Evaluate a running average of the weights with this decay per step; 0 = none.")
    ] = 0.0,
    augment: Annotated[bool, typer.Option(help="Random crops and flips of the training images.")] = True,
    cutout: Annotated[int, typer.Option(help="Side of a square blackened in each training image; 0 = none.")] = 0,
    test_flip: Annotated[
        bool, typer.Option(help="Average over each test image and its mirror image (not for digits).")
    ] = False,
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without a lower training loss; 0 = never.")
    ] = 0,
    min_improvement: Annotated[
        float, typer.Option(help="How far below, as a share, a training loss must lie to be lower for --patience.")
    ] = 0.01,
    hold_out: Annotated[
        int, typer.Option(help="Evaluate on the last so many training images, not trained on, instead of the test set.")
    ] = 0,
    amp: Annotated[
        str, typer.Option(help="Mixed precision: O0 float32, O2 float16 with float32 batch norm, O3 float16.")
    ] = "O0",
    seed: Seed = 0,
    num_workers: Annotated[
        int,
        typer.Option("--workers", help="Threads that prepare images; 0 prepares them in between, at 0.3 ms a batch."),
    ] = 0,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder for last.ckpt and metrics.csv; must not hold a run yet. Default: runs/PRESET-TIME.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue an interrupted run: its folder or its last.ckpt. The settings of that run are used; "
            "--epochs may be raised.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a classifier; test accuracy is printed after every epoch.

    Ctrl-C stops after the current step and leaves a checkpoint from which --resume continues as if nothing had
    happened.
    """
    options = {name: value for name, value in context.params.items() if name not in _NOT_SETTINGS}
    options["overrides"] = parse_overrides(overrides)
    if recipe is not None:
        if resume is not None:
            raise MaamError("--recipe cannot be combined with --resume, which keeps the settings of its run")
        options |= {**_settings_of(recipe), **_given(context, options)}
    with held_interrupts() as interrupted:
        from ..data import load_data
        from ..train import Trainer

        if resume is None:
            config, source, folder = TrainConfig(**options), None, _new_folder(out, options["preset"])
        elif out is None:
            config, source, folder = _resumed(context, resume, options)
        else:
            raise MaamError("--out cannot be combined with --resume, which continues in the folder of its run")
        # Before the data are read and the model is compiled.
        check_writable(folder, "--out" if resume is None else "--resume")
        _run(Trainer(config, load_data(data), source), folder, interrupted)


def _new_folder(out: Path | None, preset: str) -> Path:
    folder = out or Path("runs") / f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (folder / CHECKPOINT_NAME).exists():
        raise MaamError(f"--out {folder}: it already holds a run; name another folder, or --resume {folder}")
    return folder


def _resumed(context: typer.Context, resume: Path, options: dict[str, Any]) -> tuple[TrainConfig, Checkpoint, Path]:
    from ..checkpoint import load

    source = load(resume / CHECKPOINT_NAME if resume.is_dir() else resume)
    if source.meta is None:
        raise MaamError(f"--resume {resume}: this checkpoint was not written by maam train")
    return _resumed_config(context, from_settings(source.meta["config"]), options), source, source.path.parent


def _resumed_config(context: typer.Context, saved: TrainConfig, options: dict[str, Any]) -> TrainConfig:
    """The configuration of the saved run, with the changeable options that were given on the command line."""
    given = _given(context, options)
    # Tuples come back from the checkpoint as lists.
    for name, value in given.items():
        before = asdict(saved)[name]
        if name not in _CHANGEABLE and _as_lists(value) != _as_lists(before):
            raise MaamError(f"--resume: {name} was {before!r} in that run, got {value!r}; start a new run to change it")
    if saved.schedule != "constant" and given.get("epochs", saved.epochs) != saved.epochs:
        raise MaamError(
            f"--resume: epochs was {saved.epochs} in that run and its schedule {saved.schedule} ends there, got "
            f"{given['epochs']}; start a new run to change it"
        )
    return replace(saved, **{name: value for name, value in given.items() if name in _CHANGEABLE})


def _given(context: typer.Context, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given on the command line."""
    sources = {name: getattr(context.get_parameter_source(name), "name", "") for name in options}
    return {name: value for name, value in options.items() if sources[name] == "COMMANDLINE"}


def _settings_of(recipe: str) -> dict[str, Any]:
    from ..reproduce.settings import read_training

    return read_training(recipe)


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_lists(entry) for name, entry in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _ends_there(trainer: Trainer) -> bool:
    """Whether more epochs would not continue a finished run."""
    return trainer.stopped_early or trainer.config.schedule != "constant"


def _run(trainer: Trainer, folder: Path, interrupted: Callable[[], bool]) -> None:
    from tqdm import tqdm

    epochs = trainer.config.epochs
    parameters = sum(parameter.size for parameter in trainer.net.trainable_params())
    typer.echo(
        f"{trainer.config.preset}: {parameters:,} parameters, {len(trainer.train_set):,} training and "
        f"{len(trainer.test_set):,} test images of {trainer.data_name}, into {folder}"
    )
    if trainer.finished:
        more = "start a new run for more" if _ends_there(trainer) else "--epochs with a larger number goes on"
        typer.echo(f"nothing to continue: this run has finished, after {len(trainer.rows)} epochs; {more}")
        return
    with tqdm(total=epochs * trainer.steps, initial=trainer.step, unit="step", disable=None, leave=False) as bar:

        def on_step(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        def on_epoch(row: EpochRow) -> None:
            bar.write(
                f"epoch {row.epoch:3d}/{epochs}  train loss {row.train_loss:.4f}  accuracy {row.train_accuracy:.4f}  "
                f"test loss {row.test_loss:.4f}  accuracy {row.test_accuracy:.4f}  {row.images_per_second:.0f} images/s"
            )

        done = trainer.fit(folder, on_step, on_epoch, interrupted)
    if trainer.stopped_early:
        typer.echo(f"stopped early: the training loss has been flat for {trainer.config.patience} epochs")
    if not done:
        typer.echo(f"stopped at step {trainer.step}; continue with: maam train --resume {folder}", err=True)
        raise typer.Exit(130)
