"""The command line end to end on the embedded digits, and what it says about bad input."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maam import checkpoint
from maam.cli.common import parse_overrides
from maam.compare import Check, Comparison, Side, format_report, relative_error
from maam.config import CHECKPOINT_NAME
from maam.errors import MaamError

from .command_line import maam, one_line_error
from .conftest import PATIENCE

TINY = [
    argument for option in ("channels=4", "reduce_channels=6", "hidden=16", "pool=4") for argument in ("--set", option)
]
FEW = ["--train-images", "128", "--test-images", "40", "--batch-size", "32"]


@pytest.mark.parametrize("command", [(), ("train",), ("eval",), ("compare",)])
def test_help_explains_the_embedded_data(command: tuple[str, ...]) -> None:
    result = maam(*command, "--help")
    assert result.exit_code == 0
    assert "embedded" in result.output and "digits" in result.output


def test_train_resume_and_eval(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = maam("train", *TINY, *FEW, "--epochs", 1, "--out", run)
    assert trained.exit_code == 0, trained.output
    assert "128 training and 40 test images of digits" in trained.output
    assert "epoch   1/1" in trained.output

    assert "already holds a run" in one_line_error(maam("train", *TINY, *FEW, "--out", run))
    changed = maam("train", "--resume", run, "--epochs", 2, "--batch-size", 16)
    assert "batch_size was 32 in that run, got 16" in one_line_error(changed)

    resumed = maam("train", "--resume", run, "--epochs", 2, *TINY)
    assert resumed.exit_code == 0, resumed.output
    assert "epoch   2/2" in resumed.output and "epoch   1/2" not in resumed.output

    evaluated = maam("eval", run, "--test-images", 40)
    assert evaluated.exit_code == 0, evaluated.output
    figures = dict(line.rsplit(maxsplit=1) for line in evaluated.stdout.splitlines() if "images" not in line)
    assert figures.keys() == {"loss", "accuracy", "macro precision", "macro recall", "macro F1"}
    assert f"accuracy {figures['accuracy']}" in resumed.output

    half = maam("eval", run, "--test-images", 40, "--dtype", "bfloat16")
    assert "dtype bfloat16: the branches of this model do not run as one compiled operator" in one_line_error(half)

    damaged = bytearray((run / CHECKPOINT_NAME).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (run / CHECKPOINT_NAME).write_bytes(damaged)
    for command in (("eval", run), ("train", "--resume", run)):
        assert "last.ckpt: damaged" in one_line_error(maam(*command))
    assert (run / CHECKPOINT_NAME).read_bytes() == bytes(damaged)


def test_eval_on_bytes_stands_beside_float32(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ["--set", "channels=4", "--set", "hidden=16"]
    assert maam("train", *small, *FEW, "--epochs", 1, "--out", run).exit_code == 0
    result = maam("eval", run, "--test-images", 40, "--int8")
    assert result.exit_code == 0, result.output
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    before, after = map(float, lines["loss"].split())
    assert before != after and abs(before - after) < 0.05 * before
    assert lines["calibration"].split()[0] == "rule" and len(lines["accuracy"].split()) == 2

    assert maam("train", *TINY, *FEW, "--epochs", 1, "--out", tmp_path / "other").exit_code == 0
    refused = one_line_error(maam("eval", tmp_path / "other", "--test-images", 40, "--int8"))
    assert "branch 0 has pooling (4, 4), not 2x2 with stride 2" in refused and "float32" in refused


def test_compare_passes_on_a_tiny_model_and_fails_on_an_unreachable_limit() -> None:
    result = maam("compare", *TINY, *FEW, "--epochs", 1, "--min-accuracy", 1.0)
    assert result.exit_code == 1, result.output
    for label in (
        "training loss, last epoch",
        "test accuracy",
        "executed kernels, inference",
        "executed kernels, training step",
        "peak memory, MiB",
        "images per second, training",
        "images per second, inference",
    ):
        line = next(line for line in result.output.splitlines() if line.startswith(label))
        assert len(line.removeprefix(label).split()) >= 3
    failed = [line for line in result.output.splitlines() if line.endswith("FAILED")]
    assert [line.split("  ")[0] for line in failed] == ["test accuracy, fused", "test accuracy, reference"]
    assert "FAIL: test accuracy, fused; test accuracy, reference" in result.output


def test_ctrl_c_in_the_middle_of_a_step_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", "from maam.cli import main; main()", "train", *TINY, *FEW, "--out", str(run)]
    process = subprocess.Popen(
        [*command, "--epochs", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        for line in process.stdout:
            if line.startswith("epoch   2"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert f"continue with: maam train --resume {run}" in errors
    source = checkpoint.load(run / CHECKPOINT_NAME)
    epochs = source.meta["progress"]["step"] // 4
    assert epochs >= 2 and len(source.meta["progress"]["rows"]) == epochs
    resumed = maam("train", "--resume", run, "--epochs", epochs + 1)
    assert resumed.exit_code == 0 and f"epoch {epochs + 1:3d}/{epochs + 1}" in resumed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--preset", "big"), "unknown preset 'big'; the presets are authors"),
        (("train", "--impl", "fast"), "impl must be one of auto, native, reference, got 'fast'"),
        (("train", "--data", "/nowhere"), "data folder /nowhere: got no such folder"),
        (("train", "--epochs", "0"), "epochs must be at least 1, got 0"),
        (("train", "--set", "channels"), "--set: got 'channels', expected NAME=VALUE"),
        (("train", "--set", "channels=x"), "--set: got 'channels=x', expected an integer"),
        (("train", "--set", "depth=3"), "unknown option 'depth'"),
        (("train", "--train-images", "0"), "image count must be 1 to 1400"),
        (("train", "--resume", "/nowhere"), "checkpoint /nowhere: got no such file"),
        (("train", "--resume", "/nowhere", "--out", "x"), "--out cannot be combined with --resume"),
        (("eval", "/nowhere.ckpt"), "checkpoint /nowhere.ckpt: got no such file"),
        (("compare", "--seed", "-1"), "seed must be 0 to"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in one_line_error(maam(*arguments))
    assert not list(tmp_path.iterdir())


def test_unknown_implementation_in_the_environment_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAAM_OPS_IMPL", "fast")
    assert "MAAM_OPS_IMPL: got 'fast'" in one_line_error(maam("train", *TINY, "--out", tmp_path / "run"))


def test_overrides_are_parsed() -> None:
    assert parse_overrides(["a=1", "b=1,3,5", "c=false", "d=True"]) == {"a": 1, "b": (1, 3, 5), "c": False, "d": True}
    assert parse_overrides(None) == {}
    with pytest.raises(MaamError):
        parse_overrides(["a="])


def test_relative_error_fails_on_anything_suspicious() -> None:
    one = np.array([1.0, -4.0], np.float32)
    assert relative_error(one + np.float32(0.5), one) == pytest.approx(0.125)
    assert relative_error(one, one) == 0.0
    assert relative_error(one[:1], one) == np.inf
    assert relative_error(np.array([np.nan, -4.0]), one) == np.inf
    assert relative_error(one, np.zeros(2)) == np.inf
    assert relative_error(np.zeros(2), np.zeros(2)) == 0.0


def test_checks_never_pass_on_nan() -> None:
    assert not Check("x", float("nan"), 1.0).passed
    assert not Check("x", float("nan"), 1.0, at_least=True).passed
    assert Check("x", 1.0, 1.0).passed and Check("x", 1.0, 1.0, at_least=True).passed
    assert not Check("x", 1.1, 1.0).passed and not Check("x", 0.9, 1.0, at_least=True).passed


def test_report_lines_up_and_says_when_no_kernel_ran() -> None:
    side = Side("FusedAggregateReduce: reference", [1.0], 0.5, 0.96, 20, 100, 800.0, 400.0, 600.0, 3000.0)
    report = format_report(Comparison(side, side, {"logits": (1e-7, "")}, [Check("error", 1e-7, 1e-4)]))
    assert "no compiled kernel ran" in report and report.endswith("PASS: the fused model does what the reference does")
    table = [
        line for line in report.splitlines() if line.startswith(("training", "test", "executed", "peak", "images"))
    ]
    assert len({len(line[:62].rstrip()) for line in table}) == 1
