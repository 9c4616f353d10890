"""Output folders that cannot be written to: one line, before anything is read or trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from maam import MaamError
from maam.files import check_writable
from maam.history import write_rows
from maam.reproduce.runner import locked

from .command_line import maam, one_line_error
from .result_files import write_runs


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path | None) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr("maam.data.load_data", fail)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x"])
def test_an_unusable_folder_is_named_before_anything_is_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    runs = ("--runs", write_runs(tmp_path / "runs", maam={}))
    out, usable = tmp_path / place, tmp_path / "usable"
    for option, arguments in (
        (f"--out {out}", ("train", "--preset", "mlp", "--out", out)),
        (f"--out {out}", ("reproduce", "table1", *runs, "--out", out, "--results", usable)),
        (f"--results {out}", ("reproduce", "table1", *runs, "--out", usable, "--results", out)),
    ):
        assert f"error: {option}: got " in one_line_error(maam(*arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "runs"]


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "there" / "a" / "b"):
        check_writable(folder, "--out")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_what_cannot_be_replaced_later_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(MaamError, match=r"metrics\.csv: cannot be written \(.*directory.*\); the checkpoint beside it"):
        write_rows(tmp_path / "metrics.csv", [])
    (tmp_path / ".lock").mkdir()
    refused = pytest.raises(MaamError, match=f"--out {tmp_path}: cannot be written to")
    with refused, locked(tmp_path, lambda: False, print):
        pass
