"""`maam bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import MaamError


def bench(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Every size, long blocks (half an hour), or five minutes.")
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
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Measure nothing: report on this JSON of an earlier run.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure operators and model against the machine's limits and against plain MindSpore.

    Every result is checked before it is timed. Close other programs first. Prints a table of goals and what was
    reached, and writes it as Markdown with plots. Exit code 1 if a result was wrong or a side could not run; a goal
    that was missed is reported, and is no error.
    """
    from ..bench import plots
    from ..bench import report as reporting

    plots.require()
    failures: list[str] = []
    if report is not None:
        data: Any = reporting.read(report)
    else:
        data, failures = _measure("full" if full else "quick", only or [], threads)
    if data["benchmarks"]:
        paths = reporting.write(data, out)
        typer.echo("")
        typer.echo(reporting.summary(data))
        typer.echo("")
        typer.echo("wrote " + ", ".join(str(path) for path in paths))
    for failure in failures:
        typer.echo(f"error: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


def _measure(profile: str, only: list[str], threads: int) -> tuple[Any, list[str]]:
    import os

    from ..bench.run import run
    from ..bench.suite import PROFILES

    available = len(os.sched_getaffinity(0))
    if threads > available:
        raise MaamError(f"--threads: got {threads}, expected at most {available}, the CPUs this process may use")

    def on_benchmark(position: int, total: int, benchmark: Any) -> None:
        typer.echo(f"{position:3d}/{total}  {benchmark.name}")

    return run(PROFILES[profile], only, threads, on_benchmark)
