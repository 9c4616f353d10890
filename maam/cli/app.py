"""The `maam` application: one command per module."""

from __future__ import annotations

import typer

from . import bench, compare, evaluate, reproduce, train
from .common import user_errors

app = typer.Typer(
    name="maam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and check MAAM image classifiers on MindSpore. Without --data every command uses a small "
    "embedded set of real handwritten digits, so nothing has to be downloaded.",
)
app.command("train")(user_errors(train.train))
app.command("eval")(user_errors(evaluate.evaluate))
app.command("compare")(user_errors(compare.compare))
app.command("bench")(user_errors(bench.bench))
app.command("reproduce")(user_errors(reproduce.reproduce))
