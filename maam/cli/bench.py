"""`maam bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MaamError
from .common import Data


def bench(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Every size, long blocks (half an hour), or seven minutes.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Only benchmarks with this in their name; may be repeated.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for benchmarks.json, benchmarks.md and the plots.")] = Path(
        "out/bench"
    ),
    threads: Annotated[int, typer.Option(min=1, help="CPUs and threads of every side.")] = 2,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Measure the whole classifier beside ONNX Runtime, OpenVINO and PyTorch instead, as far as they are "
            "installed (pip install 'maam-ops[peers]').",
        ),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Measure each operator's kernel against its reference instead and write tuning.json, by which "
            "impl=auto decides where MAAM_OPS_TUNING names that file.",
        ),
    ] = False,
    data: Data = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PEER=PATH",
            help="With --peers: run onnxruntime, openvino or pytorch under this interpreter; may be repeated.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure nothing: report on this JSON of an earlier run.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure operators and model against the machine's limits and against plain MindSpore, or beside other engines.

    Every result is checked before it is timed. Close other programs first. Prints a table of goals and what was
    reached, and writes it as Markdown with plots. Exit code 1 if a result was wrong or a side could not run; a goal
    that was missed is reported, and is no error.
    """
    from ..bench import plots

    if tune:
        _tune("full" if full else "quick", threads, out, peers=peers, only=only, report=report, data=data)
        return
    if peers:
        from ..bench.peers import report as reporting
    else:
        from ..bench import report as reporting

        _only_with_peers(data=data, python=python)
    plots.require()
    failures: list[str] = []
    if report is not None:
        results: Any = reporting.read(report)
    elif peers:
        results, failures = _measure_peers("full" if full else "quick", only or [], threads, data, python or [])
    else:
        results, failures = _measure("full" if full else "quick", only or [], threads)
    if results["benchmarks"]:
        paths = reporting.write(results, out)
        typer.echo("")
        typer.echo(reporting.summary(results))
        typer.echo("")
        typer.echo("wrote " + ", ".join(str(path) for path in paths))
    _fail(failures)


def _tune(profile: str, threads: int, out: Path, **others: Any) -> None:
    from ..bench import tune
    from ..bench.suite import PROFILES

    for name, value in others.items():
        if value:
            raise MaamError(f"--tune cannot be combined with --{name}: it measures every operator")
    _check_threads(threads)
    table, failures = tune.measure(PROFILES[profile], threads, _on_row)
    path = tune.write(table, out)
    typer.echo("")
    for row in table["rows"]:
        typer.echo(f"{row['op']:<17} {row['size']:<7} {row['call']:<10} {row['ratio']:5.2f}x  {row['impl']}")
    typer.echo(f"\nwrote {path}; to use it: export MAAM_OPS_TUNING={path.resolve()}")
    _fail(failures)


def _on_row(position: int, total: int, name: str) -> None:
    typer.echo(f"{position:3d}/{total}  {name}")


def _fail(failures: list[str]) -> None:
    for failure in failures:
        typer.echo(f"error: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _only_with_peers(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise MaamError(f"--{name}: got {value}, but only --peers measures on images and other interpreters")


def _check_threads(threads: int) -> None:
    import os

    available = len(os.sched_getaffinity(0))
    if threads > available:
        raise MaamError(f"--threads: got {threads}, expected at most {available}, the CPUs this process may use")


def _measure_peers(
    profile: str, only: list[str], threads: int, data: Path | None, pythons: list[str]
) -> tuple[Any, list[str]]:
    from ..bench.peers.rows import use_pythons
    from ..bench.peers.run import run
    from ..bench.suite import PROFILES

    _check_threads(threads)
    use_pythons(pythons)
    return run(PROFILES[profile], data, only, threads, _on_row)


def _measure(profile: str, only: list[str], threads: int) -> tuple[Any, list[str]]:
    from ..bench.run import run
    from ..bench.suite import PROFILES

    _check_threads(threads)

    return run(PROFILES[profile], only, threads, lambda position, total, row: _on_row(position, total, row.name))
