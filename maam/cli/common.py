"""Options and error handling shared by the commands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MaamError

Data = Annotated[
    Path | None,
    typer.Option(
        help="CIFAR-10 folder, official binary or python layout, unpacked. Default: the embedded digits.",
        show_default=False,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="Model: authors (8.4 M parameters), deep (8.6 M), 2.3m, best (1.6 M), multi-scale; ablations "
        "no-attention, no-reduce, plain-cnn; baselines cnn, cnn-small, mlp, rnn, rnn-plain."
    ),
]
Impl = Annotated[
    str,
    typer.Option(
        help="auto: fused operators, the best implementation here; native: insist on their compiled kernels; "
        "reference: plain MindSpore."
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="float32; float16 or bfloat16 keep weights and feature maps in half the memory and compute in float32."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change one option of the model; may be repeated. Examples: --set num_agents=5, --set channels=32, "
        "--set kernel_size=1,3,5 (one per branch), --set attention=false, --set channels=32,pool,64,res (deeper "
        "branches; res is a residual block).",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
Seed = Annotated[int, typer.Option(help="Fixes initial weights, order and augmentation of the images.")]
TrainImages = Annotated[int | None, typer.Option(help="Use only the first so many training images.")]
TestImages = Annotated[int | None, typer.Option(help="Use only the first so many test images.")]


def user_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Shows a :class:`MaamError` as one line with exit code 2, and Ctrl-C as exit code 130."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except MaamError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(130) from None

    return wrapped


def parse_overrides(items: list[str] | None) -> dict[str, Any]:
    """["channels=8", "kernel_size=1,3,5", "attention=false"] -> keyword arguments of `create_model`."""
    overrides: dict[str, Any] = {}
    for item in items or []:
        name, separator, text = item.partition("=")
        if not (name and separator and text):
            raise MaamError(f"--set: got {item!r}, expected NAME=VALUE, such as channels=32")
        overrides[name.strip()] = _parse_value(item, text.strip())
    return overrides


def _parse_value(item: str, text: str) -> int | bool | str | tuple[int | str, ...]:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        values = tuple(part if part in ("pool", "res") else int(part) for part in text.split(","))
    except ValueError:
        raise MaamError(f"--set: got {item!r}, expected an integer, integers with commas, true or false") from None
    return values if len(values) > 1 else values[0]
