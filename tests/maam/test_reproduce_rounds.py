"""Between the runs of one `maam reproduce`; no run is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maam.cli import reproduce
from maam.reproduce import claims, runner

from .command_line import maam, one_line_error
from .result_files import write_result, write_runs


@pytest.fixture
def places(tmp_path: Path) -> tuple[object, ...]:
    runs = write_runs(tmp_path / "runs", maam={"title": "First"}, other={"title": "Second"})
    return ("--runs", runs, "--results", tmp_path / "results", "--out", tmp_path / "out")


def test_a_report_is_there_whatever_stops_the_rest(
    places: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, reports = [], []

    def train(job: runner.Job, where: runner.Places, *_: object) -> None:
        report = tmp_path / "out" / "report.md"
        reports.append(report.read_text() if report.exists() else "")
        trained.append(str(job))
        if len(trained) == 3:
            raise runner.Interrupted
        write_result(where.results, job.run.name, job.seed, data=where.mark)

    monkeypatch.setattr(runner, "train", train)
    assert maam("reproduce", "table1", "--seeds", 2, *places).exit_code == 130
    assert trained == ["maam seed 0", "other seed 0", "maam seed 1"]
    assert reports[0] == ""
    assert "| First | 87.0 | 75.0 |" in reports[1] and "| Second | 87.0 | - |" in reports[1]
    assert "| First | 87.0 | 75.0 |" in reports[2] and "| Second | 87.0 | 75.0 |" in reports[2]


def test_damaged_claims_are_said_before_the_first_run(
    places: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "train", lambda *_: pytest.fail("a run was trained"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / claims.CLAIMS_NAME).write_text("{")
    assert "claims.json: damaged" in one_line_error(maam("reproduce", "table1", *places))


def test_claims_are_measured_beside_results_of_any_images(
    places: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(claims, "measure_all", lambda *arguments: measured.append(arguments))
    write_result(tmp_path / "results")
    assert maam("reproduce", "claims", *places).exit_code == 0 and len(measured) == 1


def test_ctrl_c_ends_the_wait_for_another_start(
    places: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "train", lambda *_: pytest.fail("a run was trained"))
    pressed = iter((False, True))

    @contextmanager
    def held() -> Iterator[Callable[[], bool]]:
        yield lambda: next(pressed)

    monkeypatch.setattr(reproduce, "held_interrupts", held)
    with runner.locked(tmp_path / "out", lambda: False, print):
        began = time.monotonic()
        result = maam("reproduce", "table1", *places)
    assert result.exit_code == 130 and "interrupted" in result.stderr
    assert f"another maam reproduce is at work in {tmp_path / 'out'}: waiting 60 s for it to end" in result.stdout
    assert time.monotonic() - began < runner.LOCK_SECONDS and next(pressed, None) is None
    monkeypatch.setattr(runner, "LOCK_SECONDS", 0.1)
    pressed = iter(lambda: False, None)
    with runner.locked(tmp_path / "out", lambda: False, print):
        error = maam("reproduce", "table1", *places)
    assert error.exit_code == 2 and "is at work there; wait for it, or name another folder" in error.stderr
