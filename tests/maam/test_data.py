"""CIFAR-10 readers, the embedded digits, and the batches made from them."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from maam import MaamError
from maam.data import ImageData, ImageSet, load_cifar10, load_data, safe_pickle
from maam.data.pipeline import augment, eval_batches, iterate, steps_per_epoch, train_batches

from .cifar_files import BATCHES, make_batches, write_binary, write_python

RECORDS = 20


@pytest.fixture(scope="module")
def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return make_batches(RECORDS)


def write_layout(layout: str, folder: Path, batches: dict) -> Path:
    return write_binary(folder, batches) if layout == "binary" else write_python(folder, batches, 2)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("layout", ["binary", "python2", "python4", "python5"])
def test_both_layouts_give_the_images(layout: str, nested: bool, tmp_path: Path, batches: dict) -> None:
    kind = layout.rstrip("245")
    folder = tmp_path / ("cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py")
    if kind == "binary":
        write_binary(folder, batches)
    else:
        write_python(folder, batches, int(layout[-1]))
    data = load_cifar10(tmp_path if nested else folder, RECORDS)
    pixels = np.concatenate([batches[name][0] for name in BATCHES[:5]])
    labels = np.concatenate([batches[name][1] for name in BATCHES[:5]])
    np.testing.assert_array_equal(data.train.images, pixels.reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.train.labels, labels)
    np.testing.assert_array_equal(data.test.images, batches["test_batch"][0].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.test.labels, batches["test_batch"][1])
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int32
    assert data.num_classes == 10 and data.train.flip


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_missing_file_is_named(layout: str, tmp_path: Path, batches: dict) -> None:
    folder = write_layout(layout, tmp_path / "data", batches)
    suffix = ".bin" if layout == "binary" else ""
    (folder / f"data_batch_3{suffix}").unlink()
    with pytest.raises(MaamError, match=rf"data_batch_3{suffix}: got no such file"):
        load_cifar10(folder, RECORDS)


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * (RECORDS - 1), 3073 * RECORDS - 1, 3073 * RECORDS + 1])
def test_binary_file_of_the_wrong_size_is_named(size: int, tmp_path: Path, batches: dict) -> None:
    folder = write_binary(tmp_path / "data", batches)
    path = folder / "test_batch.bin"
    path.write_bytes((path.read_bytes() + b"\0")[:size])
    with pytest.raises(MaamError, match=rf"test_batch.bin: got {size} bytes, expected {3073 * RECORDS}"):
        load_cifar10(folder, RECORDS)


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_label_out_of_range_is_named(layout: str, tmp_path: Path, batches: dict) -> None:
    pixels, labels = batches["data_batch_2"]
    wrong = labels.copy()
    wrong[7] = 10
    folder = write_layout(layout, tmp_path / "data", {**batches, "data_batch_2": (pixels, wrong)})
    with pytest.raises(MaamError, match=r"data_batch_2(\.bin)?: record 7 has label 10, expected 0 to 9"):
        load_cifar10(folder, RECORDS)


def test_truncated_python_batch_is_named_wherever_it_ends(tmp_path: Path, batches: dict) -> None:
    folder = write_python(tmp_path / "data", batches, 2)
    whole = (folder / "data_batch_1").read_bytes()
    for size in (0, 1, 2, 50, len(whole) // 2, len(whole) - 1):
        (folder / "data_batch_1").write_bytes(whole[:size])
        with pytest.raises(MaamError, match=r"data_batch_1: refused or damaged"):
            load_cifar10(folder, RECORDS)


def test_corrupt_python_batches_raise_only_our_error(tmp_path: Path, batches: dict, rng: np.random.Generator) -> None:
    folder = write_python(tmp_path / "data", batches, 2)
    whole = (folder / "data_batch_1").read_bytes()
    refused = 0
    for _ in range(300):
        # The head and the tail hold the structure; a changed pixel is a valid file.
        position = int(rng.integers(0, 300)) if rng.random() < 0.5 else len(whole) - 1 - int(rng.integers(0, 200))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        (folder / "data_batch_1").write_bytes(damaged)
        try:
            load_cifar10(folder, RECORDS)
        except MaamError as error:
            assert "data_batch_1" in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": None}, r"'data' is NoneType, expected uint8 \(20, 3072\)"),
        ({b"data": np.zeros((RECORDS, 3071), np.uint8)}, r"'data' is uint8 \(20, 3071\)"),
        ({b"data": np.zeros((RECORDS, 3072), np.int32)}, r"'data' is int32 \(20, 3072\)"),
        ({b"data": np.zeros((RECORDS, 3072), np.float32)}, r"array of dtype 'f4'"),
        ({b"data": np.array([object()] * 3)}, r"refused or damaged"),
        ({b"labels": [1] * (RECORDS - 1)}, r"'labels' is shape \(19,\), expected 20 integers"),
        ({b"labels": ["cat"] * RECORDS}, r"entries that are not integers"),
        ({b"labels": [1.5] * RECORDS}, r"entries that are not integers"),
        ({b"labels": 3}, r"'labels' is int, expected 20 integers"),
        ({b"labels": [2**70] * RECORDS}, r"record 0 has label 1180591620717411303424, expected 0 to 9"),
    ],
)
def test_python_batch_with_wrong_contents_is_named(change: dict, message: str, tmp_path: Path, batches: dict) -> None:
    folder = write_python(tmp_path / "data", batches, 2)
    path = folder / "data_batch_4"
    entry = {b"labels": batches["data_batch_4"][1].tolist(), b"data": batches["data_batch_4"][0], **change}
    path.write_bytes(pickle.dumps(entry, protocol=2))
    with pytest.raises(MaamError, match=rf"data_batch_4: .*{message}"):
        load_cifar10(folder, RECORDS)


class Malicious:
    """Unpickling it would run a command that leaves a file."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path, batches: dict) -> None:
    folder = write_python(tmp_path / "data", batches, 2)
    proof = tmp_path / "proof"
    for attack in (
        Malicious(subprocess.call, ["touch", str(proof)]),
        Malicious(eval, f"open({str(proof)!r}, 'w')"),
        Malicious(getattr, "", "join"),
        Malicious(np.load, "x"),
    ):
        (folder / "data_batch_5").write_bytes(pickle.dumps({b"labels": attack}, protocol=protocol))
        with pytest.raises(MaamError, match=r"data_batch_5: refused or damaged \(it names "):
            load_cifar10(folder, RECORDS)
    assert not proof.exists()


def test_unpickler_refuses_other_codecs_and_external_objects(tmp_path: Path) -> None:
    for content, message in (
        (b"c_codecs\nencode\n(V0\nVzip\ntR.", "codec 'zip'"),
        (b"Pkey\n.", "external object"),
        (b"cnumpy\ndtype\n(VO8\ntR.", "dtype 'O8'"),
    ):
        path = tmp_path / "pickle"
        path.write_bytes(content)
        with path.open("rb") as stream, pytest.raises(pickle.UnpicklingError, match=message):
            safe_pickle.load(stream)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, r"got nothing, expected data_batch_1\.bin"),
        (lambda folder: (folder / "images.zip").touch(), r"got images\.zip, expected"),
        (lambda folder: folder.rmdir(), r"got no such folder"),
        (lambda folder: (folder.rmdir(), folder.touch()), r"got a file; unpack the archive first"),
    ],
)
def test_folder_without_batches_is_named(prepare, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(MaamError, match=rf"data folder .*data: {message}"):
        load_data(folder)


def test_digits_are_stratified_and_always_the_same(digits: ImageData) -> None:
    again = load_data()
    assert digits.train.images.shape == (1400, 3, 32, 32) and digits.test.images.shape == (397, 3, 32, 32)
    np.testing.assert_array_equal(again.train.images, digits.train.images)
    np.testing.assert_array_equal(again.test.labels, digits.test.labels)
    shares = np.bincount(digits.test.labels, minlength=10) / np.bincount(digits.train.labels, minlength=10)
    assert shares.min() > 0.27 and shares.max() < 0.30
    assert digits.train.images.max() == 255 and not digits.train.flip


def numbered_images(count: int) -> ImageSet:
    """Image i has the value i + 1 everywhere except a zero in its left half's first column."""
    images = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None], (count, 3, 32, 32)).copy()
    return ImageSet(images, np.arange(count, dtype=np.int32), tuple(map(str, range(count))), crop_padding=4, flip=True)


def test_augmentation_shifts_and_flips_whole_images(rng: np.random.Generator) -> None:
    images = rng.integers(1, 256, (200, 3, 32, 32), np.uint8)
    out = augment(images, rng, padding=4, flip=True)
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
    seen = set()
    for before, after in zip(padded, out, strict=True):
        matches = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if np.array_equal(before[:, top : top + 32, left : left + 32], after[:, :, ::-1] if mirrored else after)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {top for top, _, _ in seen} == set(range(9)) == {left for _, left, _ in seen}
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_augmentation_without_flip_never_mirrors() -> None:
    images = np.zeros((50, 1, 32, 32), np.uint8)
    images[..., 16] = 255
    images[..., 17] = 128
    out = augment(images, np.random.default_rng(0), padding=4, flip=False)
    bright = out.argmax(axis=3)[:, 0, 16]
    assert all(out[index, 0, 16, column + 1] == 128 for index, column in enumerate(bright))


def test_cutout_blackens_one_square_and_changes_nothing_else(rng: np.random.Generator) -> None:
    images = rng.integers(1, 256, (200, 3, 32, 32), np.uint8)
    plain, cut = (augment(images, np.random.default_rng(1), 0, True, cutout=side) for side in (0, 8))
    black = (cut == 0).all(axis=1)
    np.testing.assert_array_equal(cut, np.where(black[:, None], 0, plain))
    rows, columns = black.any(axis=2).sum(axis=1), black.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(black.sum(axis=(1, 2)), rows * columns)
    assert set(rows) == set(columns) == set(range(4, 9))


def collect(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(iterate(dataset))


def test_training_batches_are_fixed_by_seed_and_epoch_for_any_worker_count() -> None:
    data = numbered_images(100)
    reference = collect(train_batches(data, 8, seed=5, epoch=2, num_workers=1))
    assert len(reference) == steps_per_epoch(data, 8) == 12
    assert all(isinstance(batch[0], np.ndarray) for batch in reference)
    same = collect(train_batches(data, 8, seed=5, epoch=2, num_workers=4))
    here = collect(train_batches(data, 8, seed=5, epoch=2, num_workers=0))
    resumed = collect(train_batches(data, 8, seed=5, epoch=2, start=7))
    pairs = [*zip(same, reference, strict=True), *zip(here, reference, strict=True)]
    for got, expected in [*pairs, *zip(resumed, reference[7:], strict=True)]:
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
    for other in (train_batches(data, 8, seed=6, epoch=2), train_batches(data, 8, seed=5, epoch=3)):
        assert not np.array_equal(collect(other)[0][1], reference[0][1])
    labels = np.concatenate([labels for _, labels in reference])
    assert len(set(labels.tolist())) == 96
    images, labels = reference[0]
    assert images.dtype == np.float32 and images.shape == (8, 3, 32, 32)
    np.testing.assert_allclose(images.max(axis=(1, 2, 3)) * 255, labels + 1, rtol=1e-6)


def test_evaluation_batches_are_in_order_and_complete() -> None:
    data = numbered_images(21)
    batches = collect(eval_batches(data, 8))
    assert [len(labels) for _, labels in batches] == [8, 8, 5]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), data.labels)
    images = np.concatenate([images for images, _ in batches])
    np.testing.assert_array_equal(images, data.images.astype(np.float32) * np.float32(1 / 255))
    assert images.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: train_batches(data, 0, seed=0, epoch=0), r"batch size must be 1 to 10 .* got 0"),
        (lambda data: train_batches(data, 11, seed=0, epoch=0), r"batch size must be 1 to 10 .* got 11"),
        (lambda data: train_batches(data, 5, seed=0, epoch=0, start=2), r"start must be 0 to 1, got 2"),
        (lambda data: eval_batches(data, 0), r"batch size must be at least 1, got 0"),
        (lambda data: data.head(11), r"image count must be 1 to 10 .* got 11"),
    ],
)
def test_bad_batch_arguments_are_named(call, message: str) -> None:
    with pytest.raises(MaamError, match=message):
        call(numbered_images(10))


def test_a_pickle_reserves_no_more_than_it_holds() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    whole = pickle.dumps({b"data": array}, protocol=5)
    assert pickle.BYTEARRAY8 in whole
    np.testing.assert_array_equal(safe_pickle.load(io.BytesIO(whole))[b"data"], array)
    claimed = whole.replace(struct.pack("<Q", array.nbytes), struct.pack("<Q", 2**30))
    tracemalloc.start()
    try:
        with pytest.raises(pickle.UnpicklingError):
            safe_pickle.load(io.BytesIO(claimed))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
