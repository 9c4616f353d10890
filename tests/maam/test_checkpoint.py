"""Checkpoints: damage, other models, failed saves."""

from __future__ import annotations

import os
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor
from mindspore.train import checkpoint_pb2

from maam import MaamError, checkpoint
from maam.data import ImageData
from maam.evaluate import restore_model
from maam.files import atomic_path


def save_small(path: Path, value: float = 1.0) -> list[Parameter]:
    parameters = [Parameter(Tensor(np.full((2, 3), value, np.float32)), name=name) for name in ("a", "b")]
    checkpoint.save(path, parameters, {"config": {}, "data": "none"})
    return parameters


def test_damaged_checkpoint_is_named_wherever_the_damage_is(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    save_small(path)
    whole = path.read_bytes()
    copies = [whole[:size] for size in range(len(whole))]
    copies += [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(len(whole))]
    for content in copies:
        path.write_bytes(content)
        with pytest.raises(MaamError, match=r"checkpoint .*x\.ckpt: damaged"):
            checkpoint.load(path)


def test_an_entry_of_more_dimensions_than_arrays_have_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    file = checkpoint_pb2.Checkpoint()
    entry = file.value.add(tag="a")
    entry.tensor.tensor_type, entry.tensor.tensor_content = "Float32", bytes(4)
    entry.tensor.dims.extend([1] * 32)
    path.write_bytes(file.SerializeToString())
    assert checkpoint.load(path).parameters["a"].asnumpy().shape == (1,) * 32
    entry.tensor.dims.append(1)
    path.write_bytes(file.SerializeToString())
    with pytest.raises(MaamError, match=r"checkpoint .*x\.ckpt: damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("name", "message"), [("none.ckpt", "got no such file"), ("x.txt", r"got suffix '\.txt', expected '\.ckpt'")]
)
def test_checkpoint_path_is_checked(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(MaamError, match=message):
        checkpoint.load(tmp_path / name)


def test_checkpoint_of_another_model_changes_nothing(tmp_path: Path) -> None:
    save_small(tmp_path / "x.ckpt", value=5.0)
    targets = [
        Parameter(Tensor(np.zeros((2, 3), np.float32)), name="a"),
        Parameter(Tensor(np.zeros((3, 2), np.float32)), name="b"),
    ]
    with pytest.raises(MaamError, match=r"parameter b is Float32 \(2, 3\), expected Float32 \(3, 2\)"):
        checkpoint.load(tmp_path / "x.ckpt").load_into(targets)
    assert not targets[0].asnumpy().any()
    with pytest.raises(MaamError, match=r"parameter c is nothing, expected Float32 \(1,\)"):
        checkpoint.load(tmp_path / "x.ckpt").load_into([Parameter(Tensor(np.zeros(1, np.float32)), name="c")])


def test_failed_save_leaves_the_old_checkpoint_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ckpt"
    save_small(path)
    before = path.read_bytes()

    def disk_full(entries: list, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        Path(name).with_suffix(".tmp").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(ms, "save_checkpoint", disk_full)
    with pytest.raises(MaamError, match=r"x\.ckpt: cannot be written \(disk full\); the one before is kept"):
        save_small(path, value=2.0)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.ckpt"]


def test_atomic_path_keeps_suffix_and_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.csv") as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".csv"
        temporary.write_text("1")
        assert not (tmp_path / "a.csv").exists()
    assert os.listdir(tmp_path) == ["a.csv"]


def test_plain_mindspore_checkpoint_needs_a_preset(tmp_path: Path, digits: ImageData) -> None:
    path = tmp_path / "other.ckpt"
    ms.save_checkpoint([{"name": "a", "data": Tensor(np.zeros(1, np.float32))}], str(path))
    with pytest.raises(MaamError, match=r"does not say which model it belongs to; name its --preset"):
        restore_model(checkpoint.load(path), digits.test)
