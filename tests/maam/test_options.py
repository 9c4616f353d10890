"""Names after --set, or in a recipe's `overrides`, that are arguments of `create_model` but no options of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .result_files import maam, one_line_error

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
