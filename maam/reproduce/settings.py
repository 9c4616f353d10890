"""The runs of `maam reproduce`: one YAML file each in `runs/`, named as the run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..config import TrainConfig, from_settings
from ..errors import MaamError

RUNS = Path(__file__).parent / "runs"
# What `maam reproduce TARGET` trains: the groups of runs, in their order.
TARGETS: dict[str, tuple[str, ...]] = {
    "table1": ("table1",),
    "table2": ("table1", "table2"),
    "figure2": ("table1",),
    "variants": ("table1", "table2", "variants"),
    "past": ("past",),
    "claims": (),
    "search": ("search",),
    "all": ("table1", "table2", "past", "variants"),
}
# What runs that hold out training images hold out of the digits.
DIGITS_HELD_OUT = 140
# Columns of Table 1, as results name them.
SCORES = ("accuracy", "macro_f1", "macro_precision", "macro_recall")
# Entries of a run's file, and what they may be.
_KINDS = {**dict.fromkeys(("title", "group", "reading", "remark", "of"), (str,)), "order": (int, float)}


@dataclass(frozen=True)
class Run:
    """One row of the report.

    Attributes:
        name: of its YAML file.
        title: how the report calls it.
        group: "table1", "table2", "variants", "past" or "search".
        order: place in its group.
        reading: how the paper was read, or what is different, in a sentence.
        remark: a sentence on the outcome, once it is known; the report says the difference by itself.
        paper: the paper's scores, 0 to 1, by name.
        of: the run this one is a variant of.
        config: settings of the training run; the seed is set for each.
    """

    name: str
    title: str
    group: str
    order: int
    reading: str
    config: TrainConfig
    remark: str = ""
    paper: Mapping[str, float] | None = None
    of: str | None = None

    def config_for(self, seed: int, data_name: str) -> TrainConfig:
        """The settings for one seed; the digits are few, so numbers of images are smaller where they must be."""
        config = replace(self.config, seed=seed)
        if data_name != "digits":
            return config
        # Here, because NumPy comes with it: `maam train --recipe` reads its settings before Ctrl-C is held back.
        from ..data.digits import TEST_IMAGES, TRAIN_IMAGES

        held_out = DIGITS_HELD_OUT if config.hold_out else 0
        return replace(
            config,
            hold_out=held_out,
            train_images=_at_most(config.train_images, TRAIN_IMAGES - held_out),
            test_images=_at_most(config.test_images, held_out or TEST_IMAGES),
        )


def _at_most(count: int | None, limit: int) -> int | None:
    return None if count is None else min(count, limit)


def load_runs(folder: Path = RUNS) -> dict[str, Run]:
    """All runs by name, in the order of the report.

    Raises:
        MaamError: a file that is not valid YAML, lacks something or holds something unknown; it is named.
    """
    runs = [_read_run(path) for path in sorted(folder.glob("*.yaml"))]
    if not runs:
        raise MaamError(f"--runs {folder}: got no .yaml file, expected one for each run")
    groups = list(dict.fromkeys(group for target in ("all", "search") for group in TARGETS[target]))
    names = [run.name for run in runs]
    for run in runs:
        if run.group not in groups:
            raise MaamError(f"{run.name}.yaml: group is {run.group!r}, expected one of {', '.join(groups)}")
        others = [name for name in names if name != run.name]
        if run.of is not None and run.of not in others:
            raise MaamError(f"{run.name}.yaml: of is {run.of!r}, expected another run: {', '.join(others) or 'none'}")
    return {run.name: run for run in sorted(runs, key=lambda run: (groups.index(run.group), run.order, run.name))}


def choose(runs: Mapping[str, Run], target: str, only: list[str] | None = None) -> list[Run]:
    """The runs of a target, or those named in `only`, of whatever target."""
    for name in only or []:
        if name not in runs:
            raise MaamError(f"--run: got {name!r}, expected one of {', '.join(runs)}")
    if only:
        return [runs[name] for name in dict.fromkeys(only)]
    return [run for run in runs.values() if run.group in TARGETS[target]]


def read_training(recipe: str) -> dict[str, Any]:
    """The training settings of a run by its name, or of a YAML file, by field of :class:`TrainConfig`."""
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = RUNS / f"{recipe}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(known.stem for known in RUNS.glob("*.yaml")))
            raise MaamError(f"--recipe: got {recipe!r}, expected a .yaml file or one of {names}")
    content = _read_yaml(path)
    return asdict(_training(path, content.get("train", content)))


def _read_run(path: Path) -> Run:
    content = _read_yaml(path)
    known = {field.name for field in fields(Run)} - {"name", "config"} | {"train"}
    unknown = sorted(set(content) - known)
    missing = sorted({"title", "group", "order", "reading", "train"} - set(content))
    if unknown or missing:
        what = f"unknown entry {unknown[0]!r}" if unknown else f"no entry {missing[0]!r}"
        raise MaamError(f"{path}: {what}; the entries are {', '.join(sorted(known))}")
    for name, value in content.items():
        if name in _KINDS and not (type(value) in _KINDS[name] or (name == "of" and value is None)):
            raise MaamError(f"{path}: {name} is {value!r}, expected {' or '.join(k.__name__ for k in _KINDS[name])}")
    _check_paper(path, content.get("paper"))
    return Run(name=path.stem, config=_training(path, content.pop("train")), **content)


def _check_paper(path: Path, paper: Any) -> None:
    if paper is None:
        return
    if not isinstance(paper, dict) or not paper:
        raise MaamError(f"{path}: paper is {paper!r}, expected scores by name: {', '.join(SCORES)}")
    for name, value in paper.items():
        if name not in SCORES:
            raise MaamError(f"{path}: paper has an unknown score {name!r}; the scores are {', '.join(SCORES)}")
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise MaamError(f"{path}: paper's {name} is {value!r}, expected a number from 0 to 1")


def _training(path: Path, settings: Any) -> TrainConfig:
    try:
        return from_settings(settings)
    except MaamError as error:
        raise MaamError(f"{path}: {error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MaamError("settings in YAML need PyYAML: pip install 'maam-ops[train]'") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MaamError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise MaamError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise MaamError(f"{path}: got {type(content).__name__}, expected settings by name")
    for entries in (content, *(value for value in content.values() if isinstance(value, dict))):
        for name in entries:
            if not isinstance(name, str):
                raise MaamError(f"{path}: got an entry named {name!r}, expected text")
    return content
