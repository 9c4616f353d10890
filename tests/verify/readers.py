"""Every reader of files as a fuzzing target: bytes in, and either a value or a MaamError out, nothing else.

``python -m tests.verify.readers TARGET --seconds N`` fuzzes one by coverage (needs the extra ``fuzz``: atheris) and
keeps what it finds in build/fuzz; the tests damage valid files at random.
"""

from __future__ import annotations

import argparse
import atexit
import binascii
import contextlib
import functools
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .sources import ROOT

RECORDS = 2


@dataclass(frozen=True)
class Reader:
    """
    Attributes:
        read: raises nothing but MaamError, whatever it is given.
        valid: files that it accepts.
        modules: where coverage is measured.
    """

    read: Callable[[bytes], object]
    valid: Callable[[], list[bytes]]
    modules: tuple[str, ...]


@functools.cache
def _folder() -> Path:
    """One for all files of this process, removed at its end."""
    folder = tempfile.mkdtemp(prefix="maam-reader-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _file(data: bytes, name: str) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


def _images() -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (RECORDS, 3072), dtype=np.uint8), [3, 9]


def _read_binary(data: bytes) -> object:
    from maam.data import cifar10

    return cifar10._read_binary(_file(data, "data_batch_1.bin"), RECORDS)


def _valid_binary() -> list[bytes]:
    images, labels = _images()
    return [b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True))]


def _read_python(data: bytes) -> object:
    from maam.data import cifar10

    return cifar10._read_python(_file(data, "data_batch_1"), RECORDS)


def _valid_python() -> list[bytes]:
    images, labels = _images()
    batch = {b"data": images, b"labels": labels, b"batch_label": b"training batch 1 of 5"}
    return [pickle.dumps(batch, protocol) for protocol in range(6)]


def _read_checkpoint(data: bytes) -> object:
    """With a checksum that fits, as only an attacker would make one, and without."""
    from maam import checkpoint
    from maam.errors import MaamError

    with contextlib.suppress(MaamError):
        checkpoint.load(_file(data, "last.ckpt"))
    signed = data + b"crc_num" + binascii.crc32(data).to_bytes(10, "big")
    loaded = checkpoint.load(_file(signed, "last.ckpt"))
    if loaded.meta is not None:
        _read_settings(json.dumps(loaded.meta["config"]).encode())
    return loaded


def _valid_checkpoint() -> list[bytes]:
    import mindspore as ms

    from maam import checkpoint

    path = _file(b"", "valid.ckpt")
    weight = ms.Parameter(ms.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)), name="weight")
    checkpoint.save(path, [weight], {"config": {"preset": "authors", "epochs": 2}, "data": "digits"})
    return [path.read_bytes()[: -len(b"crc_num") - 10]]


def _read_meta(data: bytes) -> object:
    from maam import checkpoint, config

    return config.from_settings(checkpoint._decoded(Path("last.ckpt"), data)["config"])


def _valid_meta() -> list[bytes]:
    from maam.config import TrainConfig

    return [json.dumps({"config": asdict(TrainConfig()), "data": "cifar10", "progress": {}}).encode()]


def _read_settings(data: bytes) -> object:
    from maam.config import from_settings
    from maam.errors import MaamError

    try:
        settings = json.loads(data)
    except (ValueError, RecursionError):
        raise MaamError("not JSON") from None
    return from_settings(settings)


def _read_recipe(data: bytes) -> object:
    from maam.reproduce import settings

    return settings._read_run(_file(data, "recipe.yaml"))


def _valid_recipe() -> list[bytes]:
    from maam.reproduce import settings

    return [path.read_bytes() for path in sorted(settings.RUNS.glob("*.yaml"))]


READERS = {
    "cifar10-binary": Reader(_read_binary, _valid_binary, ("maam.data.cifar10",)),
    "cifar10-python": Reader(_read_python, _valid_python, ("maam.data.cifar10", "maam.data.safe_pickle")),
    "checkpoint": Reader(_read_checkpoint, _valid_checkpoint, ("maam.checkpoint", "mindspore.train.serialization")),
    "checkpoint-meta": Reader(_read_meta, _valid_meta, ("maam.checkpoint", "maam.config", "json.decoder")),
    "recipe": Reader(_read_recipe, _valid_recipe, ("maam.reproduce.settings", "maam.config", "yaml")),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with bytes changed, cut off, doubled or put in."""
    content = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(content) + 1))
        length = int(rng.integers(1, 9))
        match int(rng.integers(6)):
            case 0 if content:
                content[at % len(content)] ^= 1 << int(rng.integers(8))
            case 1:
                content[at : at + length] = rng.bytes(length)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = content[max(0, at - length * 16) : at]
            case 5:
                content[at : at + 1] = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x2E, 0x52, 0x63]))])
    return bytes(content)


def accepts_or_refuses(reader: Reader, data: bytes) -> bool:
    """Whether the reader took the file; any exception but MaamError passes through."""
    from maam.errors import MaamError

    try:
        reader.read(data)
    except MaamError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.readers", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=READERS)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maam-reader-") as folder:
        # libFuzzer ends its process past all of Python's cleaning up, which is therefore another process's.
        child = os.fork()
        if child == 0:
            tempfile.tempdir = folder
            fuzz(arguments.target, arguments.seconds)
        status = os.waitpid(child, 0)[1]
    sys.exit(os.waitstatus_to_exitcode(status))


def fuzz(target: str, seconds: int) -> None:
    """Ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing by coverage needs atheris: pip install 'maam-ops[fuzz]'")
    reader = READERS[target]
    with atheris.instrument_imports(include=list(reader.modules)), contextlib.redirect_stdout(io.StringIO()):
        valid = reader.valid()
        for data in valid:
            accepts_or_refuses(reader, data)
    found = ROOT / "build/fuzz"
    found.mkdir(parents=True, exist_ok=True)
    corpus = tempfile.mkdtemp()
    for number, data in enumerate(valid):
        (Path(corpus) / str(number)).write_bytes(data)
    options = [
        sys.argv[0],
        corpus,
        f"-max_total_time={seconds}",
        "-max_len=16384",
        f"-artifact_prefix={found}/{target}-",
        "-print_final_stats=1",
    ]
    atheris.Setup(options, lambda data: accepts_or_refuses(reader, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
