"""`maam reproduce` end to end on generated CIFAR-10 files, and what it does when something is wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from maam.cli.app import app
from maam.config import CHECKPOINT_NAME, METRICS_NAME
from maam.data.cifar10 import RECORDS_PER_FILE
from maam.errors import MaamError
from maam.history import read_rows
from maam.reproduce import claims, report, settings
from maam.reproduce.claims.figures import FUSIONS, RACES, Figures
from maam.reproduce.claims.judge import judge
from maam.reproduce.results import read_all

from .cifar_files import make_batches, write_binary

TRAIN = {"epochs": 3, "batch_size": 32, "train_images": 96, "test_images": 40}
MAAM = {
    "title": "MAAM",
    "group": "table1",
    "order": 1,
    "paper": {"accuracy": 0.87},
    "reading": "A tiny one.",
    "train": {
        **TRAIN,
        "preset": "authors",
        "overrides": {"channels": 4, "reduce_channels": 6, "hidden": 16, "pool": 4},
        "schedule": "one-cycle",
        "ema": 0.9,
    },
}
# Goes on for seconds after its first epoch: an interruption meets it.
LONG = {**MAAM, "train": {**MAAM["train"], "epochs": 12, "train_images": 1600}}
MLP = {
    "title": "MLP",
    "group": "variants",
    "order": 1,
    "of": "maam",
    "reading": "Another model, which stops early.",
    "train": {**TRAIN, "preset": "mlp", "overrides": {"hidden": 8}, "patience": 1, "min_improvement": 0.9},
}


def write_runs(folder: Path, **runs: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(run))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of the official size with random images."""
    folder = tmp_path_factory.mktemp("data") / "cifar-10-batches-bin"
    yield write_binary(folder, make_batches(RECORDS_PER_FILE))
    shutil.rmtree(folder)


def command(data: Path | None, folder: Path, runs: Path, *arguments: object) -> list[str]:
    """The arguments of `maam` for a run in `folder`."""
    places = ["--out", folder / "out", "--results", folder / "results", "--runs", runs, "--seeds", "1"]
    named = [] if data is None else ["--data", data]
    return [str(part) for part in ("reproduce", "variants", *places, *named, *arguments)]


def start(arguments: list[str], folder: Path, **options: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "from maam.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        **options,
    )


def finish(arguments: list[str], folder: Path, **options: object) -> tuple[int, str, str]:
    process = start(arguments, folder, **options)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def maam(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line_error(result: Result) -> str:
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


def figures_of(results: Path, run: str) -> list[dict]:
    """Per epoch, what does not depend on the clock."""
    rows = read_rows(results / run / "seed0" / METRICS_NAME)
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


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
            errors = process.communicate(timeout=120)[1]
            assert process.returncode == 130, errors
            assert "stopped in maam seed 0; the same command continues there" in errors
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "--seeds: got '0', expected a number of seeds"),
        (("--seeds", "1,x"), "--seeds: got '1,x', expected a number of seeds"),
        (("--run", "nobody"), "--run: got 'nobody', expected one of maam, cnn"),
        (("--runs", "/nowhere"), "--runs /nowhere: got no .yaml file"),
    ],
)
def test_bad_options_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    places = ("--out", tmp_path / "out", "--results", tmp_path / "results")
    assert message in one_line_error(maam("reproduce", "table1", *places, *arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "unknown entry 'titel'"),
        ({None: "x", 1: 2}, "got an entry named None, expected text"),
        ({"train": {1: 2}}, "got an entry named 1, expected text"),
        ({"group": "table9"}, "group is 'table9', expected one of table1, table2"),
        ({"train": {"lr": 1}}, "unknown setting 'lr'; the settings are preset, overrides"),
        ({"train": {"epochs": 0}}, "epochs must be at least 1, got 0"),
        ({"train": {"epochs": "ten"}}, "epochs must be of type int, got 'ten'"),
        ({"train": 3}, "train is 3, expected settings by name"),
    ],
)
def test_bad_run_files_are_named(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(MaamError, match=rf"x\.yaml: .*{message}"):
        settings.load_runs(write_runs(tmp_path / "runs", x={**MAAM, **change}))
    (tmp_path / "runs" / "x.yaml").write_text("a: [")
    with pytest.raises(MaamError, match=r"x\.yaml: not valid YAML"):
        settings.load_runs(tmp_path / "runs")


def test_packaged_runs_are_the_paper_s() -> None:
    runs = settings.load_runs()
    paper = {name: run.paper["accuracy"] for name, run in runs.items() if run.paper}
    assert paper == {
        "maam": 0.870, "cnn": 0.583, "mlp": 0.496, "rnn": 0.319, "no-attention": 0.320, "no-reduce": 0.255,
    }  # fmt: skip
    authors = runs["maam"].config
    assert (authors.preset, authors.epochs, authors.batch_size) == ("authors", 50, 64)
    assert (authors.learning_rate, authors.weight_decay, authors.schedule) == (1e-3, 1e-4, "constant")
    assert [run.name for run in settings.choose(runs, "table1")] == ["maam", "cnn", "mlp", "rnn"]
    assert all(run.of is None or run.of in runs for run in runs.values())


def test_train_takes_its_settings_from_a_recipe(tmp_path: Path) -> None:
    recipe = write_runs(tmp_path, mine=MAAM) / "mine.yaml"
    digits = ["--set", "channels=3", "--out", tmp_path / "run"]
    result = maam("train", "--recipe", recipe, "--epochs", 1, *digits)
    assert result.exit_code == 0, result.output
    assert "96 training and 40 test images" in result.output and "epoch   1/1" in result.output
    assert "--recipe: got 'nobody', expected a .yaml file or one of" in one_line_error(
        maam("train", "--recipe", "nobody")
    )
    changed = maam("train", "--resume", tmp_path / "run", "--epochs", 2)
    assert "its schedule one-cycle ends there" in one_line_error(changed)


@pytest.mark.parametrize(
    ("ours", "verdict", "sentence"),
    [
        ([0.868, 0.874], "same", "Reproduced: 0.1 points from"),
        ([0.75, 0.91], "lower", "Not reproduced: 4.0 points below"),
        ([0.90, 0.91], "higher", "Not reproduced: 3.5 points above"),
        ([0.80], "lower", "7.0 points below the paper's number (one seed, so the spread is unknown)"),
        ([], "none", "Not trained yet."),
    ],
)
def test_verdict_is_by_difference_and_spread(ours: list[float], verdict: str, sentence: str) -> None:
    spread = float(np.std([100 * value for value in ours], ddof=1)) if len(ours) > 1 else 0.0
    run = settings.load_runs()["maam"]
    difference = 100 * (np.mean(ours) - 0.87) if ours else None
    got = report._verdict(difference, spread, len(ours))
    assert got == verdict
    assert sentence in report._sentence(run, got, difference, report._seeds(len(ours)), "")


def test_claims_are_judged_by_their_figures() -> None:
    names = ("unfused", *FUSIONS)
    figures = Figures(
        parameters={"authors": 8_405_453, "multi-scale": 2_100_000},
        kernels={race: dict(zip(names, (100, 90, 90, 85, 70), strict=True)) for race in ("step", "inference")},
        seconds={race: dict.fromkeys(names, 0.1) for race in ("step", "inference", "step, multi-scale")},
        ratios={race: dict(zip(FUSIONS, (1.0, 0.9, 1.2, 2.0), strict=True)) for race in ("step", "inference")},
        quartiles={
            race: dict(zip(FUSIONS, ((0.9, 1.1), (0.8, 0.95), (1.1, 1.3), (1.9, 2.1)), strict=True))
            for race in ("step", "inference")
        },
        failed={"step, PyTorch": "torch is not installed"},
    )
    holds = {claim.claim: claim.holds for claim in judge(figures)}
    assert len(holds) == len(judge(figures))
    by_fusion = "yes, with everything this package fuses; no, with aggregate_reduce alone"
    assert holds["Operator fusion takes 20 % off the graph's nodes, inference"] == by_fusion
    assert holds["Operator fusion makes training 30 % faster, in MindSpore alone"] == by_fusion
    assert holds["MindSpore with operator fusion trains 30 % faster than PyTorch"].endswith("torch is not installed")
    assert holds["The dynamic graph makes training efficient"] == "not measured"
    assert holds["MAAM has 2.3 M parameters"].startswith("no")
    contributions = "no: slower than unfused: reduce; not told from unfused: aggregate"
    assert holds["Each fused operator contributes, inference"] == contributions
    json.dumps([claim.__dict__ for claim in judge(figures)])


@pytest.mark.parametrize(("ratio", "holds"), [(2.0, "yes"), (0.5, "no")])
def test_every_claim_is_judged_where_every_race_was_run(ratio: float, holds: str) -> None:
    races = {race: [side.removeprefix("claims: ") for side in sides] for race, (_, sides) in RACES.items()}
    figures = Figures(
        parameters={"authors": 8_405_453, "multi-scale": 2_100_000},
        kernels={
            race: {side: 100 - 10 * (ratio > 1) * index for index, side in enumerate(races[race])}
            for race in ("step", "inference")
        },
        seconds={
            race: {side: 0.1 / (1 if side in ("unfused", "PyTorch") else ratio) for side in sides}
            for race, sides in races.items()
        },
        ratios={race: dict.fromkeys(sides[1:], ratio) for race, sides in races.items()},
        quartiles={race: dict.fromkeys(sides[1:], (0.9 * ratio, 1.1 * ratio)) for race, sides in races.items()},
    )
    judged = {claim.claim: re.split("[:,]", claim.holds)[0] for claim in judge(figures)}
    assert "not measured" not in judged.values()
    for claim in (
        "Operator fusion takes 20 % off the graph's nodes, training step",
        "MindSpore with operator fusion trains 30 % faster than PyTorch",
        "Operator fusion makes training 30 % faster, in MindSpore alone",
        "Each fused operator contributes, inference",
        "Mixed precision speeds training up (on CPU)",
    ):
        assert judged[claim] == holds, claim
