"""Names after --set, or in a recipe's `overrides`, that are arguments of `create_model` but no options of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .command_line import maam, one_line_error

AUTHORS = "the options are num_agents, channels, kernel_size"


@pytest.mark.parametrize("name", ["num_classes", "impl", "preset", "dtype", "data"])
def test_arguments_that_are_no_options_are_refused(name: str, tmp_path: Path) -> None:
    value = "true" if name in ("preset", "dtype") else "3"
    error = one_line_error(maam("train", "--set", f"{name}={value}", "--out", tmp_path / "run"))
    assert f"unknown option {name!r}; {AUTHORS}" in error
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"preset": "mlp", "overrides": {name: 3}}))
    error = one_line_error(maam("train", "--recipe", recipe, "--out", tmp_path / "run"))
    assert f"unknown option {name!r}; the options are hidden, in_channels, image_size" in error


def test_options_of_a_recipe_without_a_name_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"overrides": {1: 2}}))
    error = one_line_error(maam("train", "--recipe", recipe, "--out", tmp_path / "run"))
    assert "got an entry named 1, expected text" in error
    recipe.write_text(yaml.safe_dump({"train": {"overrides": {1: 2}}}))
    error = one_line_error(maam("train", "--recipe", recipe, "--out", tmp_path / "run"))
    assert f"unknown option 1; {AUTHORS}" in error


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1e-3", ", which YAML reads as text; write 0.001, or a point and a sign as in 1.0e-3"),
        ("2e1", ", which YAML reads as text; write 20, or a point and a sign as in 1.0e-3"),
        ("ten", ""),
        ("nan", ""),
        ("1e999999", ""),
    ],
)
def test_numbers_that_yaml_reads_as_text_are_explained(text: str, hint: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"train: {{learning_rate: {text}}}")
    error = one_line_error(maam("train", "--recipe", recipe, "--out", tmp_path / "run"))
    assert error.endswith(f"learning_rate must be of type float, got {text!r}{hint}")


def test_a_finished_run_says_so_when_resumed(tmp_path: Path) -> None:
    few = ("--preset", "mlp", "--set", "hidden=4", "--train-images", 64, "--test-images", 20, "--epochs", 1)
    for name, options, said in (
        ("plain", (), "this run has finished, after 1 epochs; --epochs with a larger number goes on"),
        ("cosine", ("--schedule", "cosine"), "this run has finished, after 1 epochs; start a new run for more"),
    ):
        trained = maam("train", *few, *options, "--out", tmp_path / name)
        assert trained.exit_code == 0 and "nothing to continue" not in trained.output
        resumed = maam("train", "--resume", tmp_path / name)
        assert resumed.exit_code == 0 and f"nothing to continue: {said}" in resumed.output
