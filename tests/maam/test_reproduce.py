"""`maam reproduce` end to end on generated CIFAR-10 files, and what it does when something is wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from maam.config import CHECKPOINT_NAME, METRICS_NAME
from maam.data.cifar10 import RECORDS_PER_FILE
from maam.history import read_rows, write_rows
from maam.reproduce import claims, report, settings
from maam.reproduce.results import read_all

from .cifar_files import make_batches, write_binary
from .command_line import maam, one_line_error
from .conftest import PATIENCE
from .runs import LONG, MAAM, MLP, command, figures_of, finish, start, write_runs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of the official size with random images."""
    folder = tmp_path_factory.mktemp("data") / "cifar-10-batches-bin"
    yield write_binary(folder, make_batches(RECORDS_PER_FILE))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole, uninterrupted `maam reproduce`; its folder and its runs."""
    folder = tmp_path_factory.mktemp("finished")
    runs = write_runs(folder / "runs", maam=MAAM, mlp=MLP)
    code, output, errors = finish(command(data, folder, runs), folder)
    assert code == 0, errors
    assert "[1/2] maam seed 0  epoch 3/3" in output and "left in all" in output and "report.html" in output
    return folder, runs


def test_finished_runs_leave_their_results(finished: tuple[Path, Path]) -> None:
    results = finished[0] / "results"
    (result,) = read_all(results, "maam")
    assert sorted(os.listdir(results / "maam" / "seed0")) == ["confusion.csv", "metrics.csv", "result.json"]
    assert sum(path.stat().st_size for path in results.rglob("*.*")) < 20_000
    assert len(result.epochs) == 3 and result.confusion.sum() == 40
    assert result.scores["accuracy"] == np.trace(result.confusion) / 40 == result.epochs[-1]["test_accuracy"]
    assert result.summary["settings"]["ema"] == 0.9 and result.summary["machine"]["mindspore"]
    assert result.summary["data"]["name"] == "cifar10"
    (other,) = read_all(results, "mlp")
    assert other.summary["stopped_early"] and other.summary["epochs"] == len(other.epochs) == 2


def test_report_stands_alone_and_is_rebuilt_from_results(finished: tuple[Path, Path], tmp_path: Path) -> None:
    folder, runs = finished
    again = maam("reproduce", "--from-results", "--results", folder / "results", "--out", tmp_path, "--runs", runs)
    assert again.exit_code == 0, again.output
    for name in ("report.md", "report.html"):
        assert (tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes()
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 4 and "http" not in html
    text = (tmp_path / "report.md").read_text()
    assert "| MAAM | 87.0 |" in text and "a CIFAR-10 folder of yours" in text and "Not measured yet" in text
    for plot in ("figure2", "accuracy", "confusion", "weights"):
        assert (tmp_path / "plots" / f"{plot}.png").read_bytes().startswith(b"\x89PNG")


def set_accuracy(folder: Path, accuracy: float) -> None:
    summary = json.loads((folder / "result.json").read_text())
    summary["test"]["accuracy"] = accuracy
    (folder / "result.json").write_text(json.dumps(summary))
    rows = read_rows(folder / METRICS_NAME)
    write_rows(folder / METRICS_NAME, [{**row, "test_accuracy": accuracy} for row in rows])


@pytest.mark.parametrize(("ours", "verdict"), [(0.69, "same"), (0.68, "lower")])
def test_rows_are_compared_with_the_run_they_are_of(
    ours: float, verdict: str, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    results = shutil.copytree(finished[0] / "results", tmp_path / "results")
    for name in ("seed1", "seed0.bak"):
        shutil.copytree(results / "maam" / "seed0", results / "maam" / name)
    # The base is 71 ± 1.4: up to 2.8 points below it are what seeds do.
    for folder, accuracy in (("maam/seed0", 0.70), ("maam/seed1", 0.72), ("mlp/seed0", ours)):
        set_accuracy(results / folder, accuracy)
    for group, paper in (("table2", {"accuracy": 0.5}), ("variants", None)):
        runs = settings.load_runs(write_runs(tmp_path / group, maam=MAAM, mlp={**MLP, "group": group, "paper": paper}))
        found = {name: read_all(results, name) for name in runs}
        (base,), (row,) = (report.context(runs, found, None)["groups"][name] for name in ("table1", group))
        assert base.seeds == 2 and base.change is None
        assert row.change == pytest.approx(100 * ours - 71)
        assert row.paper_change == (None if paper is None else pytest.approx(-37.0))
    assert row.verdict == verdict
    (row,) = report.context(runs, {**found, "maam": []}, None)["groups"]["variants"]
    assert row.change is None and row.sentence.startswith("Nothing to compare with, MAAM is not trained yet")


def test_a_run_asked_for_by_name_measures_no_claims(
    finished: tuple[Path, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(claims, "measure_all", lambda *arguments: measured.append(arguments))
    arguments = command(data, *finished)
    arguments[1] = "all"
    assert maam(*arguments, "--run", "maam").exit_code == 0 and not measured
    assert maam(*arguments).exit_code == 0 and len(measured) == 1


def test_second_start_trains_nothing(finished: tuple[Path, Path], data: Path) -> None:
    folder, runs = finished
    code, output, errors = finish(command(data, folder, runs), folder)
    assert code == 0, errors
    assert "2 runs, 2 of them finished" in output and "epoch" not in output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Path]:
    """A folder with the finished long run, and the folder that describes it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    runs = write_runs(folder / "runs", maam=LONG)
    code, _, errors = finish(command(data, folder, runs), folder)
    assert code == 0, errors
    return folder, runs


@pytest.mark.parametrize("how", ["ctrl-c", "killed"])
def test_interrupted_run_continues_and_ends_the_same(
    how: str, uninterrupted: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    folder, runs = uninterrupted
    arguments = command(data, tmp_path, runs, "--run", "maam")
    process = start(arguments, tmp_path, start_new_session=True)
    try:
        for line in process.stdout:
            if "epoch 1/12" in line:
                break
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=PATIENCE)[1]
            assert process.returncode == 130, errors
            assert "stopped in maam seed 0; the same command continues there" in errors
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    run = tmp_path / "out" / "runs" / "maam" / "seed0"
    assert len(read_rows(run / METRICS_NAME)) >= 1
    (run / ".last.12345.ckpt").write_bytes(b"cut off")
    code, output, errors = finish(arguments, tmp_path)
    assert code == 0, errors
    assert "epoch 1/12" not in output and "epoch 12/12" in output
    assert figures_of(tmp_path / "results", "maam") == figures_of(folder / "results", "maam")
    assert sorted(os.listdir(run)) == [CHECKPOINT_NAME, METRICS_NAME]


def test_damaged_checkpoint_is_named(finished: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    folder, runs = finished
    checkpoint = tmp_path / "out" / "runs" / "maam" / "seed0" / CHECKPOINT_NAME
    checkpoint.parent.mkdir(parents=True)
    content = bytearray((folder / "out" / "runs" / "maam" / "seed0" / CHECKPOINT_NAME).read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    code, _, errors = finish(command(data, tmp_path, runs, "--run", "maam"), tmp_path)
    assert code == 2
    assert f"{checkpoint}: damaged" in errors and f"delete {checkpoint.parent} to train this run anew" in errors
    assert "Traceback" not in errors
    assert checkpoint.read_bytes() == content


def test_full_disk_is_said_and_the_next_start_goes_on(finished: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    folder, runs = finished
    arguments = command(data, tmp_path, runs, "--run", "maam")

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    code, _, errors = finish(arguments, tmp_path, preexec_fn=small_files_only)
    assert code == 2
    assert "last.ckpt: cannot be written" in errors and "its finished epochs are kept" in errors
    assert "Traceback" not in errors
    assert not list((tmp_path / "out" / "runs" / "maam" / "seed0").glob("*"))
    assert finish(arguments, tmp_path)[0] == 0
    assert figures_of(tmp_path / "results", "maam") == figures_of(folder / "results", "maam")


def test_results_of_other_settings_are_not_taken_for_these(
    finished: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    shutil.copytree(folder / "results", tmp_path / "results")
    runs = write_runs(tmp_path / "runs", maam={**MAAM, "train": {**MAAM["train"], "learning_rate": 0.5}})
    error = one_line_error(maam(*command(data, tmp_path, runs)))
    assert "obtained with other settings (learning_rate was 0.001 and is 0.5); delete them" in error


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "confusion.csv"])
def test_damaged_results_are_named(name: str, finished: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "results", tmp_path / "results")
    path = tmp_path / "results" / "maam" / "seed0" / name
    path.write_text(path.read_text()[:-30] + "x")
    arguments = command(None, tmp_path, finished[1], "--from-results")
    assert f"{name}: damaged" in one_line_error(maam(*arguments))


def test_bad_data_is_named_before_anything_starts(data: Path, tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "runs", maam=MAAM)
    (tmp_path / "empty").mkdir()
    error = one_line_error(maam(*command(tmp_path / "empty", tmp_path, runs)))
    assert "expected data_batch_1.bin ... test_batch.bin" in error
    wrong = tmp_path / "wrong"
    shutil.copytree(data, wrong)
    with (wrong / "data_batch_3.bin").open("r+b") as stream:
        stream.seek(3073 * 5)
        stream.write(b"\x0a")
    error = one_line_error(maam(*command(wrong, tmp_path, runs)))
    assert "data_batch_3.bin: record 5 has label 10, expected 0 to 9" in error
    shutil.rmtree(wrong)
    assert not (tmp_path / "out").exists() and not (tmp_path / "results").exists()
